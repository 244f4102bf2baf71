"""What runs next: one pure function of the queue, the time, the resident load key and the measured load time.

Owns the rules drain, turns and next key; docs/explanation/scheduling.md argues the bound on waiting that follows.
Must not read a clock, do I/O, or change the queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Protocol

from foreman.clock import Micros, seconds_between
from foreman.events.types import JobClass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Set

    from foreman.events.daemon import Scheduling
    from foreman.projections.queue import Waiting

#: Overdue batch jobs get every fourth pick of a turn, and every fourth turn.
BATCH_EVERY = 4
#: A turn in which only batch jobs are left yields sooner to overdue interactive jobs of another key.
YIELDING = 0.5
#: A turn lasts longer while its own interactive jobs are older than those that wait for it to end.
SENIOR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's settings that the choice depends on."""

    #: How long a job may wait before it is overdue; 0 = it never is.
    max_wait_interactive_s: float = 15.0
    max_wait_batch_s: float = 600.0
    #: The part of the time that loading may cost while everybody is overdue; 1 = swap at once, 0 = only when drained.
    swap_share: float = 0.1
    parallel: int = 1

    @classmethod
    def of(cls, settings: Scheduling) -> Policy:
        """The policy that a start recorded."""
        return cls(
            max_wait_interactive_s=settings.max_wait_interactive_s,
            max_wait_batch_s=settings.max_wait_s,
            swap_share=settings.swap_share,
            parallel=settings.parallel,
        )

    def max_wait_s(self, job_class: JobClass) -> float:
        """The class's limit; infinite where the setting says never."""
        limit = self.max_wait_interactive_s if job_class is JobClass.INTERACTIVE else self.max_wait_batch_s
        return limit or inf

    def turn_s(self, load_s: float) -> float:
        """How long a key keeps the target after its load while somebody of another key is overdue."""
        return load_s * (1 / self.swap_share - 1) if self.swap_share else inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the scheduler remembers from one choice to the next; the worker keeps the last one and hands it back.

    Held in memory only: after a restart `Turn()` gives whatever is resident a fresh turn.
    """

    #: When the resident key's load ended, or is expected to; None = the next choice begins the turn.
    since: Micros | None = None
    number: int = 0
    #: Picks since the last batch job; turns since the last one opened for a batch job.
    picks: int = 0
    turns: int = 0
    #: Per load key and class the last turn in which it was served, as (newest log position, turn number):
    #: its place in the line of overdue keys is not before that.
    served: Mapping[tuple[str, JobClass], tuple[int, int]] = field(default_factory=dict)

    def has_served(self, load_key: str | None, job_class: JobClass) -> bool:
        """Whether this turn started a job of that line."""
        last = self.served.get((load_key, job_class)) if load_key is not None else None
        return last is not None and last[1] == self.number

    def loaded(self, at: Micros) -> Turn:
        """The same turn, counted from the true end of its load rather than the expected one."""
        return replace(self, since=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start this job now; `turn` replaces the turn that was handed in."""

    job_id: str
    load_key: str
    #: Its model has to be loaded first.
    swaps: bool
    turn: Turn


class Line(Protocol):
    """The waiting jobs, as far as choosing looks at them: the queue itself, or what a forecast has left of it."""

    @property
    def newest(self) -> int:
        """The highest `order` ever added."""
        ...

    @property
    def next_due(self) -> Micros | None:
        """When the next backoff ends; None if nobody is in one."""
        ...

    def count(self, load_key: str, job_class: JobClass | None = None) -> int:
        """How many jobs of a load key are ready."""
        ...

    def oldest(self, load_key: str, job_class: JobClass, besides: Collection[str] = ()) -> Waiting | None:
        """The oldest ready job of a load key and class."""
        ...

    def heads(self, job_class: JobClass) -> Iterator[Waiting]:
        """The oldest ready job of every load key in this class, oldest first."""
        ...


class Reason(StrEnum):
    """Why nothing may start."""

    EMPTY = "nothing is ready"
    BUSY = "all slots are in use"
    DRAINING = "running jobs finish before another model is loaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Start nothing for now. Only an event can change that, or, if given, the time `until` (a backoff ends)."""

    reason: Reason
    until: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """What the worker knows of the target at the moment of choosing: what it holds, what runs, what a load costs."""

    #: The load key in the target's memory, as far as known.
    resident: str | None = None
    running: int = 0
    #: The load key of what runs (or is being loaded to run); None if nothing does.
    running_key: str | None = None
    #: Jobs already taken whose event is not committed yet, so that the queue still holds them.
    claimed: Set[str] = frozenset()
    #: Measured time of a load, or a guess until there is one; 0 would mean that swapping is free.
    load_s: float


def choose(queue: Line, *, policy: Policy, now: Micros, turn: Turn, occupancy: Occupancy) -> Start | Wait:
    """The next job to start, if any may start now. Call `queue.settle(now)` before: jobs in backoff are not looked at.

    One call starts at most one job: call again with the new turn until it says `Wait`.
    """
    if occupancy.running >= policy.parallel:
        return Wait(reason=Reason.BUSY)
    choice = _Choice(queue, policy, now, turn, occupancy)
    key = occupancy.running_key if occupancy.running else occupancy.resident
    ended = key is not None and choice.is_turn_over(key, occupancy.load_s)
    if key is not None and not ended:
        job = choice.next_of(key)
        if job is not None:
            return Start(job_id=job.job_id, load_key=key, swaps=False, turn=_picked(turn, job, queue, now))
    if occupancy.running:
        return Wait(reason=Reason.DRAINING, until=None if ended else queue.next_due)
    job = choice.first(leaving=key if ended else None)
    if job is None:
        return Wait(reason=Reason.EMPTY, until=queue.next_due)
    turn = replace(turn, turns=0 if job.job_class is JobClass.BATCH else turn.turns + 1)
    if job.load_key == key:
        return Start(job_id=job.job_id, load_key=key, swaps=False, turn=_picked(turn, job, queue, now))
    opened = _opened(turn, queue, Micros(now + round(occupancy.load_s * 1_000_000)))
    return Start(job_id=job.job_id, load_key=job.load_key, swaps=True, turn=_picked(opened, job, queue, now))


class _Choice:
    """The waiting jobs as one choice sees them: without the claimed ones, and knowing who is overdue."""

    def __init__(self, queue: Line, policy: Policy, now: Micros, turn: Turn, occupancy: Occupancy) -> None:
        self._queue, self._policy, self._now, self._turn, self._claimed = queue, policy, now, turn, occupancy.claimed

    def next_of(self, key: str) -> Waiting | None:
        """Within a key: interactive before batch, but for every fourth pick once a batch job is overdue."""
        interactive = self._queue.oldest(key, JobClass.INTERACTIVE, self._claimed)
        batch = self._queue.oldest(key, JobClass.BATCH, self._claimed)
        if batch is not None and self._turn.picks >= BATCH_EVERY - 1 and self._is_overdue(batch):
            return batch
        return interactive or batch

    def is_turn_over(self, key: str, load_s: float) -> bool:
        """Whether the key has had its time, if somebody of another key is overdue; without them no turn ends."""
        turn_s = self._policy.turn_s(load_s)
        elapsed_s = seconds_between(self._now if self._turn.since is None else self._turn.since, self._now)
        if elapsed_s < turn_s * YIELDING:
            return False
        interactive = self._oldest_overdue(JobClass.INTERACTIVE, key)
        if interactive is None and self._oldest_overdue(JobClass.BATCH, key) is None:
            return False
        own = self._queue.oldest(key, JobClass.INTERACTIVE, self._claimed)
        if own is None:
            factor = 1.0 if interactive is None else YIELDING
        else:
            factor = SENIOR if interactive is None or own.order < interactive.order else 1.0
        return elapsed_s >= turn_s * factor

    def first(self, leaving: str | None) -> Waiting | None:
        """The job for which the next turn is opened; `leaving` is the key whose turn is over."""
        interactive = self._first_in_line(JobClass.INTERACTIVE, leaving)
        batch = self._first_in_line(JobClass.BATCH, leaving)
        if batch is not None and self._turn.turns >= BATCH_EVERY - 1:
            return batch
        return interactive or batch or self._oldest(JobClass.INTERACTIVE) or self._oldest(JobClass.BATCH)

    def _is_overdue(self, job: Waiting) -> bool:
        return seconds_between(job.queued_at, self._now) > self._policy.max_wait_s(job.job_class)

    def _first_in_line(self, job_class: JobClass, leaving: str | None) -> Waiting | None:
        """The overdue job whose key is first in line: where its oldest job stands, but not before the key's last turn.

        Without the second half, two keys with long old backlogs would swap with each other and let nobody else in.
        The key that leaves stays in line if its turn served nothing of this class: else a short turn in the rhythm of
        the others would pass over the same job for ever.
        """
        best, best_rank = None, (0, 0)
        besides = leaving if self._turn.has_served(leaving, job_class) else None
        for head in self._queue.heads(job_class):
            if best is not None and (head.order, 0) > best_rank:
                break
            job = None if head.load_key == besides else self._unclaimed(head)
            if job is None or not self._is_overdue(job):
                continue
            rank = max((job.order, 0), self._turn.served.get((job.load_key, job_class), (0, 0)))
            if best is None or rank < best_rank:
                best, best_rank = job, rank
        return best

    def _oldest_overdue(self, job_class: JobClass, besides: str) -> Waiting | None:
        job = self._oldest(job_class, besides)
        return job if job is not None and self._is_overdue(job) else None

    def _oldest(self, job_class: JobClass, besides: str | None = None) -> Waiting | None:
        best = None
        for head in self._queue.heads(job_class):
            if best is not None and head.order > best.order:
                break
            job = None if head.load_key == besides else self._unclaimed(head)
            if job is not None and (best is None or job.order < best.order):
                best = job
        return best

    def _unclaimed(self, head: Waiting) -> Waiting | None:
        if head.job_id not in self._claimed:
            return head
        return self._queue.oldest(head.load_key, head.job_class, self._claimed)


def _opened(turn: Turn, queue: Line, since: Micros) -> Turn:
    """A new turn. Lines with nothing left are forgotten, or `served` would grow with every key ever seen."""
    return replace(
        turn,
        since=since,
        number=turn.number + 1,
        served={line: last for line, last in turn.served.items() if queue.count(*line)},
    )


def _picked(turn: Turn, job: Waiting, queue: Line, now: Micros) -> Turn:
    """The turn after this pick."""
    served = turn.served
    # Once a turn is enough: the mark need only be later than everybody who stood in line at the first such pick.
    if not turn.has_served(job.load_key, job.job_class):
        served = {**served, (job.load_key, job.job_class): (queue.newest, turn.number)}
    return replace(
        turn,
        since=now if turn.since is None else turn.since,
        picks=0 if job.job_class is JobClass.BATCH else turn.picks + 1,
        served=served,
    )
