"""Simulates hours at the target with the scheduler itself: how long interactive callers wait, when all work is done.

Owns the scenarios; the clock is that of replays of a log. Must not restate a scheduling rule: first come and plain
drain are the same function over one load key for all, and over a policy in which nobody is ever overdue.

    python benchmarks/simulate.py [--json] [--seeds 1 2] [--scenario NAME] [--scale 0.1]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections.queue import Queue
from foreman.replay.simulation import NEVER, Arrival, Discipline
from foreman.replay.simulation import Run as LengthOfRun
from foreman.replay.simulation import Simulation as Clock
from foreman.scheduling.scheduler import Policy, Turn

LOAD_S = 8.0
SERVICE_S = 6.0
HOUR_S = 3600.0
SECOND = 1_000_000


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
    """A scenario's jobs on the clock of `foreman.replay`, in seconds."""

    jobs: list[Job]
    discipline: Discipline
    load_s: float = LOAD_S
    runs: list[Run] = field(default_factory=list)
    #: How long each load of a model takes, if they differ from `load_s`, which the scheduler then goes by.
    load_time: Callable[[str], float] | None = None
    watcher: Watcher | None = None
    clock: Clock = field(init=False)

    @property
    def loads(self) -> int:
        """How often a model was loaded."""
        return self.clock.loads

    @property
    def queue(self) -> Queue:
        """Who waits."""
        return self.clock.queue

    @property
    def turn(self) -> Turn:
        """What the scheduler remembers."""
        return self.clock.turn

    @property
    def resident(self) -> str | None:
        """The load key in the target's memory."""
        return self.clock.resident

    @property
    def running(self) -> list[int]:
        """The numbers of the jobs that run or load."""
        return list(self.clock.running)

    def run(self) -> Simulation:
        """Until the last job is done."""
        self.jobs = sorted(self.jobs, key=lambda job: job.at_s)
        arrivals = [
            Arrival(micros(job.at_s), job.model, job.job_class, (LengthOfRun(micros(job.service_s)),))
            for job in self.jobs
        ]
        self.clock = Clock(arrivals, self.discipline, self._loads_in, self)
        self.clock.load_s = self.load_s
        self.clock.run()
        return self

    def _loads_in(self, number: int) -> int:
        return micros(self.load_time(self.jobs[number].model) if self.load_time else self.load_s)

    def arrived(self, number: int, now: Micros) -> None:
        """Tell whoever watches."""
        if self.watcher is not None:
            self.watcher.arrived(number)

    def picked(self, number: int, now: Micros, load: int, length: int) -> None:
        """Note the run."""
        times = (now / SECOND, (now + load) / SECOND, (now + load + length) / SECOND)
        self.runs.append(Run(self.jobs[number], *times))
        if self.watcher is not None:
            self.watcher.started(number, self.runs[-1])

    def loaded(self, number: int, now: Micros) -> None:
        """The run knows it."""

    def ended(self, number: int, now: Micros) -> None:
        """Tell whoever watches."""
        if self.watcher is not None:
            self.watcher.done(number, now / SECOND)

    def looks(self, now: Micros) -> None:
        """Tell whoever watches, who may know better by now what a load takes."""
        if self.watcher is not None:
            self.watcher.looks(now / SECOND)
        self.clock.load_s = self.load_s


def micros(seconds: float) -> Micros:
    """Seconds of the simulation as the clock's unit."""
    return Micros(round(seconds * SECOND))


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
