"""What a forecast says: when each job starts and each running one ends, and what the target works for in turn.

Holds what was played and reads it. Must not play, nor know a rule of the scheduler's.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from math import sqrt
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.scheduling.lengths import Lengths

if TYPE_CHECKING:
    from foreman.projections.queue import Queue, Waiting

#: Standard deviations on either side. Four fifths of a normal distribution need 1.28; simulated days needed this, since
#: newcomers are more uneven than lengths (benchmarks/eta.py).
RANGE: Final = 1.6
#: Of what is beyond all steps only the order of magnitude is told.
BEYOND: Final = 2.0


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds from now, with the range that four out of five should fall in."""

    expected_s: float
    low_s: float
    high_s: float

    @classmethod
    def of(cls, expected_s: float, deviation_s: float) -> Span:
        """The range that belongs to a deviation."""
        off_s = RANGE * deviation_s
        return cls(expected_s, max(0.0, expected_s - off_s), expected_s + off_s)

    def later(self, by_s: float) -> Span:
        """The same moments, seen from so much later."""
        return Span(*(max(0.0, at_s - by_s) for at_s in (self.expected_s, self.low_s, self.high_s)))


@dataclass(frozen=True, slots=True)
class Eta:
    """When a waiting job starts, if as many others come as lately did."""

    start: Span
    #: Its place in `Forecast.turns`; None if it is beyond all that was played.
    turn: int | None
    #: Whether it was played by itself, and not only counted among others.
    exact: bool


@dataclass(slots=True)
class PlannedTurn:
    """A time that the target works for one load key."""

    load_key: str
    begins_s: float
    ends_s: float = 0.0
    #: Whether it ends because nothing is left for it, and not because it has had its time.
    drained: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """A job as it was played; unless `exact`, it stands for those right behind it too."""

    order: int
    turn: int
    start_s: float
    deviation_s: float
    exact: bool

    def eta(self) -> Eta:
        """What its job is told."""
        return Eta(Span.of(self.start_s, self.deviation_s), self.turn, self.exact)


@dataclass(slots=True)
class Forecast:
    """What is to come, as of `at`. Reading it needs the queue, which may have changed a little since."""

    at: Micros
    lengths: Lengths
    parallel: int
    serving: str | None
    #: When the running jobs end, and what the target works for in turn.
    ends: dict[str, Span] = field(default_factory=dict)
    turns: list[PlannedTurn] = field(default_factory=list)
    #: When all that was played is done, and how many jobs that is.
    end_s: float = 0.0
    jobs: int = 0
    _steps: dict[str, Step] = field(default_factory=dict)
    #: By load key and class, oldest first.
    _lanes: dict[tuple[str, JobClass], list[Step]] = field(default_factory=dict)

    def add(self, job: Waiting, step: Step) -> None:
        """Take in one more start."""
        self._steps[job.job_id] = step
        lane = self._lanes.setdefault((job.load_key, job.job_class), [])
        # Almost always at the end: only a job that was in backoff starts after younger ones.
        lane.insert(bisect_right(lane, step.order, key=attrgetter("order")), step)

    def of(self, queue: Queue, job_id: str) -> Eta | None:
        """When this job starts; None if it does not wait. Costs O(log n), however long the queue is."""
        job = queue.get(job_id)
        if job is None:
            return None
        step = self._steps.get(job_id)
        return step.eta() if step is not None else self._beside(queue, job)

    def _beside(self, queue: Queue, job: Waiting) -> Eta:
        """A job that was not played itself: among those of its lane that were, by the number of jobs between."""
        lane = self._lanes.get((job.load_key, job.job_class), [])
        at = bisect_right(lane, job.order, key=attrgetter("order"))
        if not lane:
            return self._beyond(queue, job)
        if not at:
            return lane[0].eta()
        before = lane[at - 1]

        def behind(order: int) -> int:
            """Jobs of the lane from the one before on."""
            older = queue.count_older(job.load_key, job.job_class, order)
            return older - queue.count_older(job.load_key, job.job_class, before.order)

        jobs = behind(job.order)
        if at == len(lane):
            length = self.lengths.run(job.load_key, job.job_class)
            each_s = max(length.mean_s / self.parallel, self._pace(queue, job, lane))
            off_s = (sqrt(jobs * length.variance) + jobs * sqrt(length.doubt)) / self.parallel
            return Eta(Span.of(before.start_s + jobs * each_s, before.deviation_s + off_s), before.turn, exact=False)
        after = lane[at]
        share = min(1.0, jobs / max(1, behind(after.order)))
        start_s = before.start_s + share * (after.start_s - before.start_s)
        deviation_s = before.deviation_s + share * (after.deviation_s - before.deviation_s)
        return Eta(Span.of(start_s, deviation_s), before.turn, exact=False)

    def _pace(self, queue: Queue, job: Waiting, lane: list[Step]) -> float:
        """Seconds from one start of the lane to the next, turns of others and newcomers included."""
        first, last = (queue.count_older(job.load_key, job.job_class, lane[end].order) for end in (0, -1))
        return (lane[-1].start_s - lane[0].start_s) / (last - first) if last > first else 0.0

    def _beyond(self, queue: Queue, job: Waiting) -> Eta:
        """A job of a load key that was not played at all: at the rate at which the others go."""
        place = queue.place(job.job_id, self.serving)
        assert place is not None
        rate = (
            self.jobs / self.end_s
            if self.jobs and self.end_s
            else 1 / self.lengths.run(job.load_key, job.job_class).mean_s
        )
        start_s = place.ahead / rate + (0.0 if job.load_key == self.serving else self.lengths.load(job.load_key).mean_s)
        span = Span(start_s, start_s / BEYOND, start_s * BEYOND)
        return Eta(span, None, exact=False)
