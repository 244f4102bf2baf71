"""The waiting jobs as a forecast takes them away and lets others come, while the queue itself stays as it is.

Copies nothing: it holds the place that it has reached in each of the queue's lines, so a long queue costs no more than
what is taken of it. Good until the queue changes.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush, heapreplace
from itertools import islice
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedDict

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections.queue import Waiting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from foreman.projections.queue import Queue

#: The id of jobs that are only expected to come.
FORESEEN: Final = ""
#: Load keys of each class, and jobs in backoff, that are looked at; a caller can make up as many as it likes.
MOST_KEYS: Final = 50
MOST_RESTING: Final = 200
#: Jobs that are foreseen, in all.
MOST_FORESEEN: Final = 1_000
_NONE: Final[tuple[str, ...]] = ()


class _Lane:
    """What is left of one load key and class, its oldest job at hand."""

    __slots__ = ("_returned", "_waiting", "head", "left")

    def __init__(self, waiting: Iterator[Waiting], count: int) -> None:
        self._waiting = waiting
        #: Jobs whose backoff has ended meanwhile, and those that are foreseen, by age.
        self._returned: list[tuple[int, Waiting]] = []
        self.left = count
        self.head = next(waiting, None)

    def put_back(self, job: Waiting) -> None:
        """A job takes its old place."""
        self.left += 1
        if self.head is not None and self.head.order < job.order:
            heappush(self._returned, (job.order, job))
            return
        if self.head is not None:
            heappush(self._returned, (self.head.order, self.head))
        self.head = job

    def advance(self, jobs: int) -> int:
        """The oldest so many are gone; how many of them were real."""
        self.left -= jobs
        if not self._returned and self.head is not None and self.head.job_id != FORESEEN:
            self.head = next(islice(self._waiting, jobs - 1, None), None)
            return jobs
        real = 0
        for _ in range(jobs):
            real += self.head is not None and self.head.job_id != FORESEEN
            self._advance()
        return real

    def _advance(self) -> None:
        following = next(self._waiting, None)
        if self._returned and (following is None or self._returned[0][0] < following.order):
            returned = heappop(self._returned)[1]
            if following is not None:
                heappush(self._returned, (following.order, following))
            following = returned
        self.head = following


class Rehearsal:
    """A queue to choose from (`scheduler.Line`) that is used up without being changed."""

    def __init__(self, queue: Queue) -> None:
        self.newest = queue.newest
        self._newest_foreseen = queue.newest + MOST_FORESEEN
        self._lanes: dict[tuple[str, JobClass], _Lane] = {}
        self._heads: dict[JobClass, SortedDict] = {job_class: SortedDict() for job_class in JobClass}
        self._resting = list(islice(queue.resting(), MOST_RESTING))
        self._resting.reverse()
        for job_class in JobClass:
            for head in islice(queue.heads(job_class), MOST_KEYS):
                self._open(queue, head)
        for job in self._resting:
            self._open(queue, job)
        #: Jobs that wait now and are not taken yet, but for those in backoff.
        self.left = sum(lane.left for lane in self._lanes.values())
        #: When the next job of each is foreseen, its load key and class, and the time between two.
        self._foreseen: list[tuple[Micros, str, JobClass, float]] = []

    def _open(self, queue: Queue, job: Waiting) -> None:
        key = job.load_key, job.job_class
        if key not in self._lanes:
            self._lanes[key] = _Lane(queue.ready(*key), queue.count(*key))
            self._show(key)

    def foresee(self, load_key: str, job_class: JobClass, now: Micros, gap_s: float) -> None:
        """Let such a job come every so many seconds from now on."""
        self._lanes.setdefault((load_key, job_class), _Lane(iter(()), 0))
        heappush(self._foreseen, (Micros(now + round(gap_s * 1_000_000)), load_key, job_class, gap_s))

    @property
    def is_over(self) -> bool:
        """Whether all who wait now have been taken."""
        return not self.left and not self._resting

    @property
    def next_due(self) -> Micros | None:
        """When the next backoff ends, or the next job comes; None if neither is foreseen."""
        due = [job.not_before for job in self._resting[-1:] if job.not_before is not None]
        if self.newest < self._newest_foreseen:
            due += [coming[0] for coming in self._foreseen[:1]]
        return min(due, default=None)

    def count(self, load_key: str, job_class: JobClass | None = None) -> int:
        """How many jobs of a load key are left, of one class or of both."""
        classes = JobClass if job_class is None else (job_class,)
        return sum(lane.left for one in classes if (lane := self._lanes.get((load_key, one))) is not None)

    def oldest(self, load_key: str, job_class: JobClass, besides: Collection[str] = _NONE) -> Waiting | None:
        """The oldest job left of a load key and class; nothing is ever besides, since what is taken is gone."""
        lane = self._lanes.get((load_key, job_class))
        return None if lane is None else lane.head

    def heads(self, job_class: JobClass) -> Iterator[Waiting]:
        """The oldest job left of every load key in this class, oldest first."""
        return iter(self._heads[job_class].values())

    def settle(self, now: Micros) -> None:
        """Let the jobs whose backoff is over return to their old places, and those come that are foreseen by now."""
        while self._resting and (self._resting[-1].not_before or 0) <= now:
            self._join(replace(self._resting.pop(), not_before=None))
            self.left += 1
        while self._foreseen and self._foreseen[0][0] <= now and self.newest < self._newest_foreseen:
            at, load_key, job_class, gap_s = self._foreseen[0]
            heapreplace(self._foreseen, (Micros(at + round(gap_s * 1_000_000)), load_key, job_class, gap_s))
            self.newest += 1
            self._join(Waiting(FORESEEN, load_key, job_class, self.newest, at, None))

    def _join(self, job: Waiting) -> None:
        key = job.load_key, job.job_class
        self._hide(key)
        self._lanes[key].put_back(job)
        self._show(key)

    def take(self, job: Waiting, jobs: int = 1) -> tuple[int, int]:
        """Take this job, which must be its lane's oldest, and those behind it, at most so many.

        Returns how many it was, and how many of them wait now.
        """
        key = job.load_key, job.job_class
        lane = self._lanes[key]
        taken = min(jobs, lane.left)
        self._hide(key)
        real = lane.advance(taken)
        self._show(key)
        self.left -= real
        return taken, real

    def _hide(self, key: tuple[str, JobClass]) -> None:
        head = self._lanes[key].head
        if head is not None:
            del self._heads[key[1]][head.order]

    def _show(self, key: tuple[str, JobClass]) -> None:
        head = self._lanes[key].head
        if head is not None:
            self._heads[key[1]][head.order] = head
