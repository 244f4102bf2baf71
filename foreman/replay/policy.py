"""The work of a log under other rules: what was recorded, and what would have been, in the same figures side by side.

Owns how a recording becomes arrivals, and the figures. The rules are the scheduler's; the clock is `simulation`'s.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from foreman.clock import Micros
from foreman.events.daemon import ModelSwapped
from foreman.events.types import JobClass, Position, Recorded
from foreman.projections.statistics import Statistics
from foreman.replay.course import Attempt, Course
from foreman.replay.recording import SECOND, Recording
from foreman.replay.simulation import Arrival, Discipline, Happening, Run, Simulation
from foreman.scheduling.lengths import UNKNOWN_LOAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long jobs of one class waited until the target began on them, loading included."""

    jobs: int
    median_s: float | None = None
    p95_s: float | None = None
    longest_s: float | None = None

    @classmethod
    def of(cls, waits: Sequence[int]) -> Waits:
        """Of these, in microseconds."""
        if not waits:
            return cls(jobs=0)
        ordered = sorted(waits)
        p95 = ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)]
        return cls(
            jobs=len(ordered),
            median_s=median(ordered) / SECOND,
            p95_s=p95 / SECOND,
            longest_s=ordered[-1] / SECOND,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One column: how the work went."""

    name: str
    #: Jobs that were done or failed.
    finished: int
    #: Loads of a model.
    swaps: int
    #: From the first arrival to the last job's end.
    makespan_s: float
    #: Parts of the makespan in which the target answered, and in which it loaded.
    busy_share: float
    loading_share: float
    interactive: Waits
    batch: Waits


def recorded(recording: Recording) -> Figures:
    """The work as it went."""
    courses = recording.courses
    attempts = [attempt for course in courses for attempt in course.attempts]
    busy = [
        (attempt.working, attempt.ended)
        for attempt in attempts
        if attempt.working is not None and attempt.ended is not None
    ]
    loading = sum(attempt.load or 0 for attempt in attempts)
    begins = [(course, course.began) for course in courses]
    ends = [course.finished for course in courses if course.finished is not None]
    return _figures("recorded", recording, begins, ends, busy, (recording.swaps, loading))


def played(recording: Recording, discipline: Discipline, load_s: Mapping[str, float] | None = None) -> Figures:
    """The work under these rules; `load_s` says what loading a model or a load key shall cost instead."""
    play = _Play(recording, load_s or {})
    simulation = Simulation(play.arrivals, discipline, play.load_time, play, play.latency)
    play.simulation = simulation
    for since, until in recording.shut:
        simulation.plan(since, Happening.SHUTS)
        simulation.plan(until, Happening.OPENS)
    for number, (at, _) in enumerate(recording.lives):
        simulation.plan(at, Happening.RESTARTS, number)
    for number, (at, load_key) in enumerate(recording.holds):
        simulation.plan(at, Happening.HOLDS, number, load_key)
    simulation.run()
    begins = [(course, play.begun.get(number)) for number, course in enumerate(recording.courses)]
    return _figures(
        discipline.name, recording, begins, play.finished, play.busy, (simulation.loads, play.loading)
    )  # fmt: skip


class _Play:
    """Watches a simulation: measures what the daemon would have measured, and keeps what the figures need."""

    def __init__(self, recording: Recording, load_s: Mapping[str, float]) -> None:
        self.arrivals = [arrival_of(recording, course) for course in recording.courses]
        self.begun: dict[int, int] = {}
        self.finished: list[int] = []
        self.busy: list[tuple[int, int]] = []
        self.loading = 0
        self.simulation: Simulation
        self._courses = recording.courses
        self._given = _given(recording.courses, load_s)
        self._loads = _typical_loads(recording.courses)
        self._measured = Statistics()
        self._late = recording.latency
        #: Of the runs under way: when the load began, and when the target began on the job.
        self._loads_begun: dict[int, int] = {}
        self._began: dict[int, int] = {}

    def load_time(self, number: int) -> int:
        """As long as the same job's load took when it was run, else as long as its model's loads took."""
        course = self._courses[number]
        if course.load_key in self._given:
            return self._given[course.load_key]
        attempt = self._attempt(number)
        if attempt is not None and attempt.load is not None:
            return attempt.load
        return self._loads.get(course.load_key) or self._loads[None]

    def latency(self, number: int) -> int:
        """As late as the same attempt began when it was run, else as late as most."""
        attempt = self._attempt(number)
        return self._late if attempt is None or attempt.late is None else attempt.late

    def _attempt(self, number: int) -> Attempt | None:
        """What the log has of the run that the job is at."""
        attempts, run = self._courses[number].whole, self.simulation.run_of(number)
        return attempts[run] if run < len(attempts) else None

    def arrived(self, number: int, now: Micros) -> None:
        """Nothing is measured of it."""

    def picked(self, number: int, now: Micros, load: int, length: int) -> None:
        """It has no more to wait than its load."""
        if self.simulation.running[number] is Happening.LOADED:
            self._loads_begun[number] = now
        else:
            self._began[number] = now

    def loaded(self, number: int, now: Micros) -> None:
        """The scheduler goes by what was measured so far."""
        course, load, attempt = self._courses[number], now - self._loads_begun.pop(number), self._attempt(number)
        self.loading += load
        self._began[number] = now
        measured_s = load / SECOND
        if attempt is not None and attempt.load_s is not None and attempt.load == load:
            measured_s = attempt.load_s
        event = ModelSwapped(model=course.model, load_key=course.load_key, load_s=measured_s)
        self._measured.apply(
            Recorded(position=Position(0), stream="", version=0, at=now, hash=b"", event=event)
        )  # fmt: skip

    def ended(self, number: int, now: Micros) -> None:
        """The target is free, unless the job had not come to it."""
        began, course = self._began.pop(number, None), self._courses[number]
        if began is not None:
            self.begun.setdefault(number, began)
            self.busy.append((began, now))
        if course.left is None and self.simulation.run_of(number) == len(self.arrivals[number].runs):
            self.finished.append(now)

    def looks(self, now: Micros) -> None:
        """As the worker asks."""
        self.simulation.load_s = self._measured.typical_load_s(UNKNOWN_LOAD.mean_s)


def arrival_of(recording: Recording, course: Course) -> Arrival:
    """The job as it was, and what it would have taken where that is not known."""
    runs = [_run(attempt) for attempt in course.whole]
    if course.finished is None:
        length = recording.typical_run(course)
        if runs and runs[-1].rest is None and not (cut := runs.pop()).breaks_load:
            length = max(length, cut.length + 1)  # it ran so long, and was not done
        runs.append(Run(length))
    left = course.left
    if left is None and course.finished is None:
        left = recording.end  # the other columns have no more time than the log had
    leaves = None if left is None else Micros(left)
    return Arrival(Micros(course.queued), course.load_key, course.job_class, tuple(runs), leaves)


def _run(attempt: Attempt) -> Run:
    breaks_load = attempt.working is None
    begun = attempt.loading if breaks_load else attempt.working
    length = 0 if begun is None or attempt.ended is None else max(0, attempt.ended - begun)
    return Run(length, attempt.rest, breaks_load, attempt.unloads)


def _typical_loads(courses: Iterable[Course]) -> dict[str | None, int]:
    """How long a load took, by load key; None stands for all others."""
    measured: defaultdict[str | None, list[int]] = defaultdict(list)
    for course in courses:
        for load in (attempt.load for attempt in course.attempts):
            if load is not None:
                measured[None].append(load)
                measured[course.load_key].append(load)
    means = {key: round(fmean(values)) for key, values in measured.items()}
    return {None: round(UNKNOWN_LOAD.mean_s * SECOND), **means}


def _given(courses: Iterable[Course], load_s: Mapping[str, float]) -> dict[str, int]:
    """What loading shall cost, by load key, of the models and load keys that this was said of."""
    wanted = {course.load_key: load_s.get(course.model, load_s.get(course.load_key)) for course in courses}
    return {load_key: round(seconds * SECOND) for load_key, seconds in wanted.items() if seconds is not None}


def _figures(
    name: str,
    recording: Recording,
    begins: Iterable[tuple[Course, int | None]],
    ends: Sequence[int],
    busy: Iterable[tuple[int, int]],
    loads: tuple[int, int],
) -> Figures:
    waits: dict[JobClass, list[int]] = {job_class: [] for job_class in JobClass}
    for course, began in begins:
        if began is not None:
            waits[course.job_class].append(max(0, began - course.queued))
    first = min((course.queued for course in recording.courses), default=0)
    makespan = max(ends, default=first) - first
    return Figures(
        name=name,
        finished=len(ends),
        swaps=loads[0],
        makespan_s=makespan / SECOND,
        busy_share=_union(busy) / makespan if makespan else 0.0,
        loading_share=loads[1] / makespan if makespan else 0.0,
        interactive=Waits.of(waits[JobClass.INTERACTIVE]),
        batch=Waits.of(waits[JobClass.BATCH]),
    )


def _union(spans: Iterable[tuple[int, int]]) -> int:
    """How long at least one of them lasts."""
    total, reached = 0, -math.inf
    for start, end in sorted(spans):
        total += round(max(0, end - max(start, reached)))
        reached = max(reached, end)
    return total
