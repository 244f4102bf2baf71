"""When each waiting job starts: the scheduler's own rule played forward with the lengths that were measured.

A pure function of the queue, the moment, the statistics and the policy. Plays a bounded number of starts: first one by
one, then so many jobs at a time that the rest of the queue is through. Must not restate a rule of the scheduler's.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Final

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.scheduling.lengths import UNKNOWN_LOAD, Length, Lengths
from foreman.scheduling.rehearsal import FORESEEN, Rehearsal
from foreman.scheduling.scheduler import Occupancy, Policy, Start, Turn, choose
from foreman.scheduling.timetable import Forecast, PlannedTurn, Span, Step

if TYPE_CHECKING:
    from foreman.projections.queue import Queue
    from foreman.projections.statistics import Statistics

#: Jobs that are played one by one; those behind them are played in as many steps again.
ONE_BY_ONE: Final = 250
MOST_STEPS: Final = 4 * ONE_BY_ONE
#: Jobs that come more seldom than this are not foreseen.
LONGEST_GAP_S: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A job that loads or works, as far as it has got."""

    job_id: str
    load_key: str
    job_class: JobClass
    #: Its model is still being loaded; `elapsed_s` is the load's then, and else the run's.
    loading: bool
    elapsed_s: float
    #: Tokens so far; None if nobody can count them.
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The moment to play forward from, beside the queue."""

    now: Micros
    turn: Turn
    resident: str | None
    running: tuple[Running, ...] = ()


def forecast(queue: Queue, situation: Situation, statistics: Statistics, policy: Policy) -> Forecast:
    """Play the scheduler forward. Call `queue.settle(now)` before, as for a choice."""
    play = _Play(queue, situation, statistics, policy)
    while play.goes_on():
        pass
    return play.finished()


class _Play:
    """The target and its queue as they will be, choice by choice; its clock is `self._s`, seconds from now."""

    def __init__(self, queue: Queue, situation: Situation, statistics: Statistics, policy: Policy) -> None:
        self._policy, self._at, self._turn = policy, situation.now, situation.turn
        self._line = Rehearsal(queue)
        self._lengths = Lengths(statistics)
        self._load_s = statistics.typical_load_s(UNKNOWN_LOAD.mean_s)
        self._resident = situation.running[0].load_key if situation.running else situation.resident
        self._s = 0.0
        self._steps = self._jobs = 0
        #: Jobs that one step plays.
        self._stride = 1
        #: (end, number, load key, what it is one of, its length, jobs that it stands for)
        self._slots: list[tuple[float, int, str, object, Length, int]] = []
        self._variance = 0.0
        self._times: dict[object, int] = {}
        self._made = Forecast(self._at, self._lengths, policy.parallel, self._resident)
        if self._resident is not None:
            self._made.turns.append(PlannedTurn(self._resident, 0.0))
        for load_key, figures in statistics.by_key.items():
            rate = figures.arrivals.a_second(self._at)
            if rate * LONGEST_GAP_S >= 1:
                self._line.foresee(load_key, JobClass.INTERACTIVE, self._at, 1 / rate)
        for running in situation.running:
            self._continue(running)

    def _continue(self, running: Running) -> None:
        """A job that runs already; while one loads, nothing else starts."""
        if running.loading:
            load = self._lengths.rest_of_load(running.load_key, running.elapsed_s)
            run = self._lengths.run(running.load_key, running.job_class)
            self._loaded(running.load_key, load)
            rest = Length(run.mean_s, run.variance, run.doubt)
        else:
            load = Length(0.0, 0.0, 0.0)
            rest = self._lengths.rest(running.load_key, running.job_class, running.elapsed_s, running.tokens)
        end_s = load.mean_s + rest.mean_s
        self._made.ends[running.job_id] = Span.of(end_s, sqrt(load.variance + load.doubt + rest.variance + rest.doubt))
        heapq.heappush(self._slots, (end_s, len(self._slots), running.load_key, running.job_id, rest, 1))

    def _loaded(self, load_key: str, load: Length) -> None:
        """Let a load pass; the turn counts from its end."""
        self._s += load.mean_s
        self._count(("load", load_key), load, 1, 1)
        self._turn = self._turn.loaded(self._now())

    def _now(self) -> Micros:
        return Micros(self._at + round(self._s * 1_000_000))

    def _count(self, what: object, length: Length, times: int, share: int) -> None:
        """So many more of these lie before whatever comes, spread over `share` slots."""
        before = self._times.get(what, 0)
        self._times[what] = before + times
        doubt = ((before + times) ** 2 - before**2) * length.doubt
        self._variance += (times * length.variance + doubt) / share**2

    def goes_on(self) -> bool:
        """Make one choice and let it happen; False when there is nothing more to choose."""
        if self._steps >= MOST_STEPS or self._line.is_over:
            return False
        while self._slots and self._slots[0][0] <= self._s:
            _, _, _, what, length, jobs = heapq.heappop(self._slots)
            self._count(what, length, jobs, self._policy.parallel)
        now = self._now()
        self._line.settle(now)
        occupancy = Occupancy(
            resident=self._resident,
            running=len(self._slots),
            running_key=self._slots[0][2] if self._slots else None,
            load_s=self._load_s,
        )
        choice = choose(self._line, policy=self._policy, now=now, turn=self._turn, occupancy=occupancy)
        if isinstance(choice, Start):
            self._start(choice)
            return True
        coming = [self._slots[0][0]] if self._slots else []
        if choice.until is not None:
            coming.append((choice.until - self._at) / 1_000_000)
        self._s = max(self._s, min(coming, default=self._s))
        return bool(coming)

    def _start(self, start: Start) -> None:
        heads = (self._line.oldest(start.load_key, job_class) for job_class in JobClass)
        job = next(head for head in heads if head is not None and head.job_id == start.job_id)
        if self._steps == ONE_BY_ONE:
            self._stride = 1 + self._line.left // ONE_BY_ONE
        jobs, real = self._line.take(job, self._stride)
        self._turn = start.turn
        if start.swaps:
            self._end_turn()
            self._made.turns.append(PlannedTurn(start.load_key, self._s))
            self._resident = start.load_key
            self._loaded(start.load_key, self._lengths.load(start.load_key))
        length = self._lengths.run(job.load_key, job.job_class)
        what: object = (job.load_key, job.job_class)
        if job.job_id == FORESEEN:
            length, what = length.foreseen(), (FORESEEN, job.load_key)
        else:
            turn = len(self._made.turns) - 1
            step = Step(job.order, turn, self._s, sqrt(self._variance), self._stride == 1)
            self._made.add(job, step)
        self._steps += 1
        self._jobs += real
        end_s = self._s + jobs * length.mean_s
        heapq.heappush(self._slots, (end_s, self._steps + self._policy.parallel, job.load_key, what, length, jobs))

    def _end_turn(self) -> None:
        if self._made.turns:
            turn = self._made.turns[-1]
            turn.ends_s, turn.drained = self._s, not self._line.count(turn.load_key)

    def finished(self) -> Forecast:
        """The forecast, when nothing goes on any more."""
        self._s = max([self._s, *(slot[0] for slot in self._slots)])
        self._end_turn()
        self._made.end_s, self._made.jobs = self._s, self._jobs
        return self._made
