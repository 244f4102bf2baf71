"""How honest the ETA is: a simulated day of mixed work, each forecast held against what then happened.

Drives the scheduler, the statistics and the forecast themselves, not copies. Everything is learned on the way: nothing
has been measured when the day begins.

    python benchmarks/eta.py [--seeds 1 2 3]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import timeit
import tracemalloc
from dataclasses import dataclass, field
from math import cos, exp, log, pi, sqrt
from pathlib import Path

from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import Figure
from benchmarks.simulate import HOUR_S, Discipline, Job, Run, Simulation, micros, percentile
from foreman.events.daemon import ModelSwapped
from foreman.events.types import (
    ArtifactRef,
    Endpoint,
    Event,
    JobClass,
    JobDone,
    JobId,
    JobQueued,
    Position,
    Recorded,
    Source,
)
from foreman.projections.queue import Queue, Waiting
from foreman.projections.statistics import Statistics
from foreman.scheduling.forecast import Running, Situation, forecast
from foreman.scheduling.lengths import UNKNOWN_LOAD
from foreman.scheduling.scheduler import Policy, Turn
from foreman.scheduling.timetable import Forecast, Span

QUEUED = JobQueued(
    model="", load_key="", endpoint=Endpoint.CHAT, source=Source.ASYNC, job_class=JobClass.BATCH, stream=True,
    request=ArtifactRef(name="request", content_type="application/json", size=0, sha256=""), max_attempts=1,
)  # fmt: skip
#: Of a shorter wait nobody asks how long it will be.
SHORTEST_WAIT_S = 1.0
WAITING = 100_000
SEEDS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the simulated machine. Lengths are log-normal: `spread` is the deviation as a part of the mean."""

    name: str
    chat: float
    load_s: float
    tokens_per_s: float
    chat_tokens: float
    batch_tokens: float
    spread: float


MODELS = (
    Model("small", chat=5, load_s=3, tokens_per_s=90, chat_tokens=250, batch_tokens=120, spread=0.8),
    Model("middle", chat=3, load_s=8, tokens_per_s=40, chat_tokens=300, batch_tokens=200, spread=0.7),
    Model("large", chat=1, load_s=20, tokens_per_s=14, chat_tokens=280, batch_tokens=350, spread=0.6),
    Model("coder", chat=1, load_s=11, tokens_per_s=30, chat_tokens=500, batch_tokens=300, spread=0.9),
)
#: (hour, model, jobs): a night's work, some at noon, some that overlap.
BATCHES = (
    (0.5, 1, 300), (1.0, 2, 80), (6.0, 0, 150), (9.5, 3, 60), (10.0, 1, 120),
    (13.0, 2, 60), (13.2, 0, 200), (16.0, 3, 100), (19.0, 1, 200), (22.0, 2, 60),
)  # fmt: skip
#: Chats an hour at night and at noon, and single batch jobs an hour.
NIGHT, NOON, DRIPS = 10.0, 190.0, 12.0
LOAD_SPREAD = 0.15


def drawn(dice: random.Random, mean: float, spread: float) -> float:
    """A log-normal value."""
    sigma = sqrt(log(1 + spread**2))
    return mean * exp(dice.gauss(-sigma * sigma / 2, sigma))


def day(seed: int) -> list[Job]:
    """A day's arrivals: chat by daylight, batches at their hours, single batch jobs now and then."""
    dice = random.Random(seed)
    jobs: list[Job] = []

    def add(at_s: float, model: Model, job_class: JobClass) -> None:
        tokens = model.chat_tokens if job_class is JobClass.INTERACTIVE else model.batch_tokens
        service_s = drawn(dice, tokens, model.spread) / model.tokens_per_s
        jobs.append(Job(at_s, model.name, job_class, service_s))

    weights = [model.chat for model in MODELS]
    at_s = 0.0
    while (at_s := at_s + dice.expovariate(NOON / HOUR_S)) < 24 * HOUR_S:
        light = (1 - cos(2 * pi * at_s / (24 * HOUR_S))) / 2
        if dice.random() < (NIGHT + light * (NOON - NIGHT)) / NOON:
            add(at_s, dice.choices(MODELS, weights)[0], JobClass.INTERACTIVE)
    at_s = 0.0
    while (at_s := at_s + dice.expovariate(DRIPS / HOUR_S)) < 24 * HOUR_S:
        add(at_s, dice.choice(MODELS), JobClass.BATCH)
    for hour, model, size in BATCHES:
        for _ in range(size):
            add(hour * HOUR_S, MODELS[model], JobClass.BATCH)
    return jobs


@dataclass(frozen=True, slots=True)
class Promise:
    """What a job was told when it came."""

    start: Span
    naive_s: float


@dataclass(slots=True)
class Teller:
    """Watches a simulation as foreman would: measures what is done, and tells each job that comes when it starts."""

    simulation: Simulation
    promises: dict[int, Promise] = field(default_factory=dict)
    figures: Statistics = field(default_factory=Statistics)
    _new: list[int] = field(default_factory=list)
    _runs: dict[int, Run] = field(default_factory=dict)
    _position: int = 0

    def arrived(self, number: int) -> None:
        """It is told with all others that come at the same moment."""
        self._new.append(number)
        job = self.simulation.jobs[number]
        self._measure(replace(QUEUED, load_key=job.model, job_class=job.job_class), job.at_s)

    def started(self, number: int, run: Run) -> None:
        """A load is measured at its end, and nothing is asked before that: the simulation jumps over it."""
        self._runs[number] = run

    def done(self, number: int, now_s: float) -> None:
        """Measure."""
        run = self._runs.pop(number)
        model = next(model for model in MODELS if model.name == run.job.model)
        if run.began_s > run.picked_s:
            self._measure(ModelSwapped(model=model.name, load_key=model.name, load_s=run.began_s - run.picked_s), now_s)
        tokens = max(1, round(run.job.service_s * model.tokens_per_s))
        done = JobDone(
            attempt=1, artifacts=(), run_s=run.job.service_s, generated_tokens=tokens,
            eval_duration=round(run.job.service_s * 1e9), load_key=model.name, job_class=run.job.job_class,
        )  # fmt: skip
        self._measure(done, now_s)
        self.simulation.load_s = self.figures.typical_load_s(UNKNOWN_LOAD.mean_s)

    def _measure(self, event: Event, now_s: float) -> None:
        self._position += 1
        place = Position(self._position)
        self.figures.apply(
            Recorded(position=place, stream=JobId("J"), version=1, at=micros(now_s), hash=b"", event=event)
        )

    def looks(self, now_s: float) -> None:
        """Tell those who have just come."""
        if not self._new:
            return
        queue = self.simulation.queue
        told = self._forecast(now_s)
        for number in self._new:
            eta, place = told.of(queue, str(number)), queue.place(str(number), told.serving)
            assert eta is not None
            assert place is not None
            self.promises[number] = Promise(eta.start, place.position * (self.figures.run_s or 0.0))
        self._new.clear()

    def _forecast(self, now_s: float) -> Forecast:
        running = tuple(self._running(number, now_s) for number in self.simulation.running)
        situation = Situation(
            now=micros(now_s), turn=self.simulation.turn, resident=self.simulation.resident, running=running
        )
        return forecast(self.simulation.queue, situation, self.figures, self.simulation.discipline.policy)

    def _running(self, number: int, now_s: float) -> Running:
        run = self._runs[number]
        loading = now_s < run.began_s
        elapsed_s = now_s - (run.picked_s if loading else run.began_s)
        speed = next(model.tokens_per_s for model in MODELS if model.name == run.job.model)
        return Running(
            job_id=str(number), load_key=run.job.model, job_class=run.job.job_class, loading=loading,
            elapsed_s=elapsed_s, tokens=None if loading else int(elapsed_s * speed),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Error:
    """One job's wait, and how far off what it was told was."""

    job_class: JobClass
    waited_s: float
    eta: float
    naive: float
    within: bool


def errors(seed: int, policy: Policy | None = None) -> list[Error]:
    """A day's errors, as parts of the true wait, of all jobs that had to wait."""
    dice = random.Random(seed + 1_000)
    load_s = {model.name: model.load_s for model in MODELS}
    simulation = Simulation(
        day(seed), Discipline("foreman", policy or Policy()), UNKNOWN_LOAD.mean_s,
        load_time=lambda model: drawn(dice, load_s[model], LOAD_SPREAD),
    )  # fmt: skip
    teller = simulation.watcher = Teller(simulation)
    simulation.run()
    numbers = {id(job): number for number, job in enumerate(simulation.jobs)}
    found = []
    for run in simulation.runs:
        promise = teller.promises[numbers[id(run.job)]]
        if run.wait_s < SHORTEST_WAIT_S:
            continue
        found.append(
            Error(
                run.job.job_class, run.wait_s,
                abs(promise.start.expected_s - run.wait_s) / run.wait_s,
                abs(promise.naive_s - run.wait_s) / run.wait_s,
                promise.start.low_s <= run.wait_s <= promise.start.high_s,
            )
        )  # fmt: skip
    return found


async def honesty() -> list[Figure]:
    """The ETA of a simulated day, beside the guess that needs no forecast."""
    figures = []
    for seed in SEEDS:
        found = errors(seed)
        naive = statistics.median(error.naive for error in found)
        within = sum(error.within for error in found) / len(found)
        figures.append(
            Figure(
                name=f"ETA off by, median of {len(found):,} jobs that waited on simulated day {seed}",
                value=100 * statistics.median(error.eta for error in found),
                unit="%",
                beside=f"place x average run: {naive:.0%}; {within:.0%} within the range told",
                target="< 25 %",
            )
        )
    return figures


async def forecasting() -> list[Figure]:
    """A forecast of a queue at its full length, and what it takes of memory."""
    figures = []
    for keys in (1, 4, 200):
        queue = Queue()
        for number in range(WAITING):
            job_class = JobClass.INTERACTIVE if number % 5 == 0 else JobClass.BATCH
            queue.add(Waiting(f"J{number}", f"model-{number % keys}", job_class, number + 1, micros(number), None))
        situation = Situation(now=micros(WAITING), turn=Turn(), resident="model-0")

        def made(queue: Queue = queue, situation: Situation = situation) -> None:
            forecast(queue, situation, Statistics(), Policy())

        taken = sorted(timeit.repeat(made, number=1, repeat=9))
        tracemalloc.start()
        made()
        peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        figures.append(
            Figure(
                name=f"forecast of {WAITING:,} waiting jobs, {keys} load keys",
                value=statistics.median(taken) * 1e3,
                unit="ms",
                beside=f"{peak_mb:.1f} MB while it is made",
                target="<= 50 ms",
            )
        )
    return figures


ALL = (honesty, forecasting)


def line(name: str, found: list[Error]) -> str:
    """A row of the table."""
    eta, naive = ([getattr(error, what) for error in found] for what in ("eta", "naive"))
    cells = [
        name, f"{len(found):,}", f"{statistics.median(error.waited_s for error in found):,.0f} s",
        f"{statistics.median(eta):.0%}", f"{percentile(eta, 0.9):.0%}", f"{statistics.median(naive):.0%}",
        f"{percentile(naive, 0.9):.0%}", f"{sum(error.within for error in found) / len(found):.0%}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Hold forecasts against a simulated day.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args(arguments)
    print("| | jobs that waited | median wait | ETA off, median | 9 of 10 | naive off, median | 9 of 10 | in range |")
    print("|---" * 8 + "|")
    for seed in options.seeds:
        found = errors(seed)
        print(line(f"day {seed}, all", found))
        for job_class in JobClass:
            print(line(f"day {seed}, {job_class}", [error for error in found if error.job_class is job_class]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
