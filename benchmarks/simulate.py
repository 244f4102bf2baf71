"""Simulates hours at the target with the scheduler itself: how long interactive callers wait, when all work is done.

Owns the scenarios and a discrete-event clock around `Queue` and `choose`. Must not restate a scheduling rule: first
come and plain drain are the same function over one load key for all, and over a policy in which nobody is ever overdue.

    python benchmarks/simulate.py [--json] [--seeds 1 2] [--scenario NAME] [--scale 0.1]
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections.queue import Queue, Waiting
from foreman.scheduling.scheduler import Occupancy, Policy, Start, Turn, choose

LOAD_S = 8.0
SERVICE_S = 6.0
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a scenario."""

    at_s: float
    model: str
    job_class: JobClass
    service_s: float = SERVICE_S


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one job: when it was picked, when the target began on it, when it was done."""

    job: Job
    picked_s: float
    began_s: float
    done_s: float

    @property
    def wait_s(self) -> float:
        """From arrival until the target begins, loading included."""
        return self.began_s - self.job.at_s


@dataclass(frozen=True, slots=True)
class Discipline:
    """A column of the table."""

    name: str
    policy: Policy
    #: False = all models share one load key, which makes the scheduler serve them as they come.
    by_model: bool = True
    by_class: bool = True


NEVER = Policy(max_wait_interactive_s=0, max_wait_batch_s=0)
DISCIPLINES = (
    Discipline("first come", NEVER, by_model=False, by_class=False),
    Discipline("plain drain", NEVER, by_class=False),
    Discipline("share 0.1", Policy(swap_share=0.1)),
    Discipline("share 0.3", Policy(swap_share=0.3)),
)


class Watcher(Protocol):
    """Follows a simulation; `looks` comes at each moment, when all of it has happened but the starts."""

    def arrived(self, number: int) -> None:
        """A job has come."""
        ...

    def started(self, number: int, run: Run) -> None:
        """A job was picked; its run is known to the end."""
        ...

    def done(self, number: int, now_s: float) -> None:
        """A job is done."""
        ...

    def looks(self, now_s: float) -> None:
        """Everything is as the next choice will find it."""
        ...


@dataclass(slots=True)
class Simulation:
    """A target that holds one model and answers up to `parallel` jobs at a time, driven by the scheduler."""

    jobs: list[Job]
    discipline: Discipline
    load_s: float = LOAD_S
    runs: list[Run] = field(default_factory=list)
    loads: int = 0
    #: How long each load of a model takes, if they differ from `load_s`, which the scheduler then goes by.
    load_time: Callable[[str], float] | None = None
    watcher: Watcher | None = None

    queue: Queue = field(default_factory=Queue)
    turn: Turn = field(default_factory=Turn)
    #: (done, number of the job, load key), the first to be done in front.
    running: list[tuple[float, int, str]] = field(default_factory=list)
    resident: str | None = None
    _model: str | None = None
    _loaded_s: float = 0.0

    def run(self) -> Simulation:
        """Until the last job is done."""
        self.jobs = sorted(self.jobs, key=lambda job: job.at_s)
        now_s, arrived = 0.0, 0
        while arrived < len(self.jobs) or self.running or len(self.queue):
            while arrived < len(self.jobs) and self.jobs[arrived].at_s <= now_s:
                self._arrive(arrived)
                arrived += 1
            while self.running and self.running[0][0] <= now_s:
                _, number, _ = heapq.heappop(self.running)
                if self.watcher is not None:
                    self.watcher.done(number, now_s)
            if self.watcher is not None:
                self.watcher.looks(now_s)
            self._start_all(now_s)
            coming = [self.jobs[arrived].at_s] if arrived < len(self.jobs) else []
            now_s = min(coming + [done_s for done_s, _, _ in self.running[:1]], default=now_s)
        return self

    def _arrive(self, number: int) -> None:
        job = self.jobs[number]
        self.queue.add(
            Waiting(
                job_id=str(number),
                load_key=job.model if self.discipline.by_model else "any",
                job_class=job.job_class if self.discipline.by_class else JobClass.BATCH,
                order=number + 1,
                queued_at=micros(job.at_s),
                not_before=None,
            )
        )
        if self.watcher is not None:
            self.watcher.arrived(number)

    def _start_all(self, now_s: float) -> None:
        while True:
            decision = choose(
                self.queue,
                policy=self.discipline.policy,
                now=micros(now_s),
                turn=self.turn,
                occupancy=Occupancy(
                    resident=self.resident,
                    running=len(self.running),
                    running_key=self.running[0][2] if self.running else None,
                    load_s=self.load_s,
                ),
            )
            if not isinstance(decision, Start):
                return
            self._start(decision, now_s)

    def _start(self, start: Start, now_s: float) -> None:
        number = int(start.job_id)
        job = self.jobs[number]
        self.queue.remove(start.job_id)
        self.turn, self.resident = start.turn, start.load_key
        if job.model != self._model:
            self.loads += 1
            load_s = self.load_time(job.model) if self.load_time else self.load_s
            self._model, self._loaded_s = job.model, now_s + load_s
            if self.load_time:
                self.turn = self.turn.loaded(micros(self._loaded_s))
        began_s = max(now_s, self._loaded_s)
        heapq.heappush(self.running, (began_s + job.service_s, number, start.load_key))
        self.runs.append(Run(job, now_s, began_s, began_s + job.service_s))
        if self.watcher is not None:
            self.watcher.started(number, self.runs[-1])


def micros(seconds: float) -> Micros:
    """Seconds of the simulation as the clock's unit."""
    return Micros(round(seconds * 1_000_000))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Chat that comes at random over some hours, and batches that come at once."""

    title: str
    hours: float
    #: Share of the time that the chat alone would keep the target busy, loads not counted.
    chat: float
    #: How the chat divides among the models.
    weights: tuple[float, ...]
    #: (hour, model, smallest and largest number of jobs)
    batches: tuple[tuple[float, int, int, int], ...] = ()

    def jobs(self, seed: int, scale: float = 1.0) -> list[Job]:
        """The arrivals; the same for every discipline."""
        dice = random.Random(seed)
        models = [f"model-{number}" for number in range(len(self.weights))]
        jobs: list[Job] = []
        at_s = 0.0
        while self.chat and (at_s := at_s + dice.expovariate(self.chat / SERVICE_S)) < self.hours * scale * HOUR_S:
            jobs.append(Job(at_s, dice.choices(models, self.weights)[0], JobClass.INTERACTIVE))
        for hour, model, smallest, largest in self.batches:
            size = math.ceil(dice.randint(smallest, largest) * scale)
            jobs += [Job(hour * scale * HOUR_S, models[model], JobClass.BATCH)] * size
        return jobs


SCENARIOS = {
    "light": Scenario(
        "3 models, light chat and two batches of 200-300",
        hours=4,
        chat=0.2,
        weights=(1, 1, 1),
        batches=((0.0, 0, 200, 300), (2.0, 1, 200, 300)),
    ),
    "busy": Scenario(
        "4 models, chat 70 % busy and two batches of 200",
        hours=4,
        chat=0.7,
        weights=(5, 3, 1, 1),
        batches=((1.0, 2, 200, 200), (2.0, 3, 200, 200)),
    ),
    "overload": Scenario("4 models at 120 % for an hour", hours=1, chat=1.2, weights=(4, 3, 2, 1)),
}


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def measure(scenario: Scenario, discipline: Discipline, seed: int, scale: float = 1.0) -> dict[str, float]:
    """One cell of the table."""
    done = Simulation(scenario.jobs(seed, scale), discipline).run()
    waits = {job_class: [run.wait_s for run in done.runs if run.job.job_class is job_class] for job_class in JobClass}
    return {
        "interactive_wait_p50_s": percentile(waits[JobClass.INTERACTIVE], 0.50),
        "interactive_wait_p95_s": percentile(waits[JobClass.INTERACTIVE], 0.95),
        "batch_wait_max_s": max(waits[JobClass.BATCH], default=0.0),
        "done_h": max(run.done_s for run in done.runs) / HOUR_S,
        "loads": done.loads,
        "jobs": len(done.runs),
    }


def table(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Interactive wait p95, smallest to largest over the seeds, and when all work was done."""
    names = [discipline.name for discipline in DISCIPLINES]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for key, columns in results.items():
        cells = []
        for name in names:
            p95 = sorted(cell["interactive_wait_p95_s"] for cell in columns[name])
            done_h = max(cell["done_h"] for cell in columns[name])
            spread = f"{p95[0]:,.0f}" if p95[0] == p95[-1] else f"{p95[0]:,.0f}-{p95[-1]:,.0f}"
            cells.append(f"{spread} s / {done_h:.1f} h")
        lines.append(f"| {SCENARIOS[key].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or all figures as JSON."""
    parser = argparse.ArgumentParser(description="Simulate the scheduler.")
    parser.add_argument("--json", action="store_true", help="all figures, for scripts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], default="all")
    parser.add_argument("--scale", type=float, default=1.0, help="shrinks hours and batches alike")
    options = parser.parse_args(arguments)
    chosen = list(SCENARIOS) if options.scenario == "all" else [options.scenario]
    results = {
        key: {
            discipline.name: [measure(SCENARIOS[key], discipline, seed, options.scale) for seed in options.seeds]
            for discipline in DISCIPLINES
        }
        for key in chosen
    }
    if options.json:
        print(json.dumps({"load_s": LOAD_S, "service_s": SERVICE_S, "seeds": options.seeds, "scenarios": results}))
    else:
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
