"""The waiting jobs in memory, ordered so that picking and counting never scan them.

Owns the order: per load key and class the oldest first, where age is the log position of `job.queued`, never wall time.
Must not know events, choose what runs, or read a clock.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict, SortedKeyList

from foreman.events.types import JobClass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, KeysView

    from foreman.clock import Micros

_NONE: frozenset[str] = frozenset()
#: Whether a lane has batch jobs only, and the order of the job that decides its turn.
Rank = tuple[bool, int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """One waiting job, as far as choosing needs to know it."""

    job_id: str
    #: What makes the target reload when it differs.
    load_key: str
    job_class: JobClass
    #: Log position of the job's `job.queued`: its age, and the place it returns to after a failed attempt.
    order: int
    queued_at: Micros
    #: The end of its backoff; None = ready.
    not_before: Micros | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands if nobody else comes and nobody becomes overdue."""

    #: 1 = next.
    position: int
    ahead: int
    #: Of these, jobs of its own load key.
    ahead_of_key: int
    #: Models to be loaded until it can start, its own included.
    loads: int


class _Lane:
    """The jobs of one load key: two ordered lists of those that are ready, and how many are in backoff."""

    __slots__ = ("key", "ready", "resting", "size")

    def __init__(self, key: str) -> None:
        self.key = key
        self.ready = {job_class: SortedKeyList(key=attrgetter("order")) for job_class in JobClass}
        self.resting = 0
        #: Jobs that are ready.
        self.size = 0

    def rank(self, joining: Waiting | None = None) -> Rank:
        """Sorts lanes as the scheduler serves them while nobody is overdue; `joining` counts as if it were ready."""
        for job_class in JobClass:
            heads = [job.order for job in self.ready[job_class][:1]]
            if joining is not None and joining.job_class is job_class:
                heads.append(joining.order)
            if heads:
                return (job_class is not JobClass.INTERACTIVE, min(heads))
        raise ValueError(f"nothing of {self.key} is ready")


class Queue:
    """Every operation costs O(log n) in the number of jobs; the first `place` after a change adds that of load keys."""

    def __init__(self) -> None:
        self._jobs: dict[str, Waiting] = {}
        self._lanes: dict[str, _Lane] = {}
        # Per class: order of each lane's oldest ready job -> that job.
        self._heads: dict[JobClass, SortedDict] = {job_class: SortedDict() for job_class in JobClass}
        # Not a heap, because a job cancelled in its backoff has to leave at once.
        self._resting = SortedKeyList(key=attrgetter("not_before", "order"))
        self._newest = 0
        #: What `_standings` found last.
        self._standing: tuple[list[Rank], list[int]] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._jobs

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._jobs.values())

    @property
    def newest(self) -> int:
        """The highest `order` ever added."""
        return self._newest

    @property
    def next_due(self) -> Micros | None:
        """When the next backoff ends; None if nobody is in one."""
        return self._resting[0].not_before if self._resting else None

    @property
    def load_keys(self) -> KeysView[str]:
        """The load keys with waiting jobs, backoff included."""
        return self._lanes.keys()

    def get(self, job_id: str) -> Waiting | None:
        """The entry, if this job waits."""
        return self._jobs.get(job_id)

    def count(self, load_key: str, job_class: JobClass | None = None) -> int:
        """How many jobs of a load key are ready, of one class or of both."""
        lane = self._lanes.get(load_key)
        if lane is None:
            return 0
        return lane.size if job_class is None else len(lane.ready[job_class])

    def count_resting(self, load_key: str) -> int:
        """How many jobs of a load key are in backoff."""
        lane = self._lanes.get(load_key)
        return 0 if lane is None else lane.resting

    def add(self, entry: Waiting) -> None:
        """Put a job in its place; one that already waits is replaced."""
        self.remove(entry.job_id)
        lane = self._lanes.get(entry.load_key)
        if lane is None:
            lane = self._lanes[entry.load_key] = _Lane(entry.load_key)
        elif lane.key is not entry.load_key:
            # A million jobs must not hold a million copies of the same few keys.
            entry = replace(entry, load_key=lane.key)
        self._jobs[entry.job_id] = entry
        self._newest = max(self._newest, entry.order)
        if entry.not_before is None:
            self._line_up(lane, entry)
        else:
            lane.resting += 1
            self._resting.add(entry)

    def remove(self, job_id: str) -> bool:
        """Take a job out; False if it does not wait."""
        entry = self._jobs.pop(job_id, None)
        if entry is None:
            return False
        lane = self._lanes[entry.load_key]
        if entry.not_before is None:
            self._leave(lane, entry)
        else:
            lane.resting -= 1
            self._resting.remove(entry)
        if not lane.size and not lane.resting:
            del self._lanes[entry.load_key]
        return True

    def settle(self, now: Micros) -> int:
        """Let the jobs whose backoff is over return to their old places; how many did."""
        settled = 0
        while self._resting and self._resting[0].not_before <= now:
            entry = replace(self._resting.pop(0), not_before=None)
            self._jobs[entry.job_id] = entry
            lane = self._lanes[entry.load_key]
            lane.resting -= 1
            self._line_up(lane, entry)
            settled += 1
        return settled

    def oldest(self, load_key: str, job_class: JobClass, besides: Collection[str] = _NONE) -> Waiting | None:
        """The oldest ready job of a load key and class whose id is not in `besides` (which should be short)."""
        lane = self._lanes.get(load_key)
        if lane is None:
            return None
        return next((job for job in lane.ready[job_class] if job.job_id not in besides), None)

    def ready(self, load_key: str, job_class: JobClass) -> Iterator[Waiting]:
        """The ready jobs of a load key and class, oldest first; read it before the queue changes."""
        lane = self._lanes.get(load_key)
        return iter(()) if lane is None else iter(lane.ready[job_class])

    def resting(self) -> Iterator[Waiting]:
        """The jobs in backoff, those that return first coming first."""
        return iter(self._resting)

    def count_older(self, load_key: str, job_class: JobClass, order: int) -> int:
        """How many ready jobs of a load key and class are older than this."""
        lane = self._lanes.get(load_key)
        return 0 if lane is None else int(lane.ready[job_class].bisect_key_left(order))

    def heads(self, job_class: JobClass) -> Iterator[Waiting]:
        """The oldest ready job of every load key in this class, oldest first."""
        return iter(self._heads[job_class].values())

    def place(self, job_id: str, serving: str | None) -> Place | None:
        """Where a job stands while the target serves `serving`; None if it does not wait.

        Exact as long as nobody is overdue: the key being served drains, then the key of the oldest interactive job,
        and so on, last the keys with batch jobs only. Turns and fourth picks move overdue jobs forward from here: their
        own place is then an upper estimate, and that of the jobs they overtake a lower one. Other jobs in backoff are
        not counted; a job in backoff itself is told its place as if it were ready.
        """
        entry = self._jobs.get(job_id)
        if entry is None:
            return None
        own = self._lanes[entry.load_key]
        of_key = own.ready[entry.job_class].bisect_key_left(entry.order)
        if entry.job_class is JobClass.BATCH:
            of_key += len(own.ready[JobClass.INTERACTIVE])
        if own.key == serving:
            return Place(of_key + 1, of_key, of_key, loads=0)
        (ranks, sums), rank = self._standings(), own.rank(entry)
        lanes = bisect_left(ranks, rank)
        others, loads = sums[lanes], lanes + 1
        first = self._lanes.get(serving) if serving is not None else None
        if first is not None and first.size:
            # It goes before all others, and is loaded already.
            if first.rank() < rank:
                loads -= 1
            else:
                others += first.size
        return Place(others + of_key + 1, others + of_key, of_key, loads)

    def _standings(self) -> tuple[list[Rank], list[int]]:
        """The ranks of all lanes in order, and before each, and at the end, the number of jobs in those before it.

        Kept until a lane changes, since a page asks for many places.
        """
        if self._standing is None:
            interactive, batch = self._heads[JobClass.INTERACTIVE], self._heads[JobClass.BATCH]
            lanes = [(False, head.order, self._lanes[head.load_key]) for head in interactive.values()]
            for head in batch.values():
                lane = self._lanes[head.load_key]
                if not lane.ready[JobClass.INTERACTIVE]:
                    lanes.append((True, head.order, lane))
            ranks = [(is_batch, order) for is_batch, order, _ in lanes]
            self._standing = (ranks, list(accumulate((lane.size for _, _, lane in lanes), initial=0)))
        return self._standing

    def _line_up(self, lane: _Lane, entry: Waiting) -> None:
        self._standing = None
        ready, heads = lane.ready[entry.job_class], self._heads[entry.job_class]
        if ready and ready[0].order > entry.order:
            del heads[ready[0].order]
        ready.add(entry)
        lane.size += 1
        if ready[0] is entry:
            heads[entry.order] = entry

    def _leave(self, lane: _Lane, entry: Waiting) -> None:
        self._standing = None
        ready, heads = lane.ready[entry.job_class], self._heads[entry.job_class]
        was_head = ready[0] is entry
        ready.remove(entry)
        lane.size -= 1
        if was_head:
            del heads[entry.order]
            if ready:
                heads[ready[0].order] = ready[0]
