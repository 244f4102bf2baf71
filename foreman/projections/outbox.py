"""What is still to be told to whom: the webhook outbox, in memory. Follows the `deliveries` table; decides nothing.

A **lane** is one job's deliveries to its receiver that are not ended, in the order of their events; only the first of
them may be sent. Lanes stand in line by receiver, so that one receiver's million of them cost the others nothing.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from foreman.clock import Micros
from foreman.events.types import Position

NOT_DUE: Final = Micros(0)
#: No wait is longer than a day. One that ends later than this was reckoned by a clock that has been put back since.
FARTHEST: Final = 25 * 3600 * 1_000_000
#: Lanes of a receiver that are looked at from either end of its line, however long that is.
SAMPLED: Final = 100


class Status(StrEnum):
    """Where a delivery is. `gone`: the receiver answered 410, to it or to an earlier one of the job's."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to deliver, as it is kept for whoever asks."""

    at: Micros
    #: Microseconds from its start to its end.
    duration: int
    #: What was dialled, `192.0.2.7:443`; None if it did not come to that.
    address: str | None = None
    #: The HTTP status of the reply.
    status: int | None = None
    #: The beginning of the reply.
    reply: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A change: there is an event to tell of."""

    job_id: str
    position: Position
    version: int
    receiver: str
    #: The state it tells of.
    state: str
    at: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """A change: what came of an attempt, or of the decision not to make one."""

    job_id: str
    position: Position
    attempt: Attempt | None
    status: Status
    #: When the next one is due, if it is pending still.
    due: Micros = NOT_DUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Revived:
    """A change: deliveries are begun anew, whether they had ended or wait for their next attempt."""

    job_id: str
    receiver: str
    positions: tuple[Position, ...]
    at: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A change: the job's contents are gone, and its deliveries with them."""

    job_id: str


Change = Told | Attempted | Revived | Dropped


@dataclass(slots=True, order=True)
class Pending:
    """One delivery that has not ended."""

    position: Position
    #: Since when it may be sent, which is its place in line; after a failure, when it is to be sent again.
    due: Micros = field(compare=False)
    #: Attempts that failed since it was last begun anew.
    failures: int = field(default=0, compare=False)


@dataclass(slots=True)
class Lane:
    """One job's deliveries that have not ended, in order."""

    job_id: str
    receiver: str
    pending: list[Pending]
    #: Whether somebody is at its first delivery just now.
    taken: bool = False

    @property
    def head(self) -> Pending:
        """The one delivery that may be sent."""
        return self.pending[0]


class Due(NamedTuple):
    """A lane's place in its receiver's line."""

    due: Micros
    position: Position
    job_id: str
    receiver: str
    failures: int

    def is_due(self, now: Micros) -> bool:
        """Whether it may be sent; what has not failed yet waits for no clock."""
        return not self.failures or not now < self.due <= now + FARTHEST


class Outbox:
    """Every lane, and who is due when."""

    def __init__(self) -> None:
        self.lanes: dict[str, Lane] = {}
        #: Deliveries in all lanes.
        self.pending = 0
        #: The same by receiver, those first that have had some for longest.
        self.pending_of: dict[str, int] = {}
        self._lines: dict[str, SortedList] = {}
        #: The first place of each line.
        self._first = SortedList()
        #: The lanes that somebody is at, which stand in no line.
        self._taken: dict[str, Lane] = {}

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, Pending]]) -> Outbox:
        """The outbox with these deliveries pending: job, receiver, delivery, in the order of their events."""
        outbox = cls()
        for job_id, receiver, pending in rows:
            outbox._lane(job_id, receiver).pending.append(pending)
            outbox._count(receiver, 1)
        for lane in outbox.lanes.values():
            outbox._stand(lane)
        return outbox

    def apply(self, change: Change) -> None:
        """Take one more change into account."""
        match change:
            case Told(job_id=job_id, receiver=receiver, position=position, at=at):
                self._begin(self._lane(job_id, receiver), (position,), at)
            case Revived(job_id=job_id, receiver=receiver, positions=positions, at=at):
                self._begin(self._lane(job_id, receiver), positions, at)
            case Attempted():
                self._attempted(change)
            case Dropped(job_id=job_id):
                lane = self.lanes.pop(job_id, None)
                if lane is not None:
                    self._leave(lane)
                    self._taken.pop(job_id, None)
                    self._count(lane.receiver, -len(lane.pending))

    def take(self, now: Micros, admits: Callable[[str], bool]) -> Lane | None:
        """Take the lane that is due longest among those whose receivers are admitted; None if there is none."""
        place: Due
        # The first may not be due though a later one is, if the clock was put back.
        for place in self._first:
            if place.is_due(now) and admits(place.receiver):
                lane = self.lanes[place.job_id]
                self._leave(lane)
                lane.taken = True
                self._taken[lane.job_id] = lane
                return lane
        return None

    def next_due(self, admits: Callable[[str], bool]) -> Micros | None:
        """When the next lane of an admitted receiver is due; None if none stands in line."""
        place: Due
        for place in self._first:
            if admits(place.receiver):
                return place.due
        return None

    def sample(self, receiver: str) -> list[Position]:
        """The heads of a receiver's lanes, or of many of them those that are under way, due soonest and due latest.

        The oldest is among these: what has not failed is due by its age, and what has failed most is due last.
        """
        line = self._lines.get(receiver, ())
        under_way = [lane.head.position for lane in self._taken.values() if lane.receiver == receiver]
        return under_way + [place.position for place in (*line[:SAMPLED], *line[SAMPLED:][-SAMPLED:])]

    def _count(self, receiver: str, by: int) -> None:
        self.pending += by
        count = self.pending_of[receiver] = self.pending_of.get(receiver, 0) + by
        if not count:
            del self.pending_of[receiver]

    def _lane(self, job_id: str, receiver: str) -> Lane:
        return self.lanes.setdefault(job_id, Lane(job_id, receiver, []))

    def _begin(self, lane: Lane, positions: tuple[Position, ...], at: Micros) -> None:
        self._leave(lane)
        begun = [pending for pending in lane.pending if pending.position in positions]
        self._count(lane.receiver, len(set(positions)) - len(begun))
        for pending in begun:
            lane.pending.remove(pending)
        for position in set(positions):
            insort(lane.pending, Pending(position, at))
        self._stand(lane)

    def _attempted(self, change: Attempted) -> None:
        lane = self.lanes.get(change.job_id)
        if lane is None:
            return
        self._leave(lane)
        lane.taken = False
        self._taken.pop(lane.job_id, None)
        for pending in lane.pending:
            if pending.position == change.position:
                if change.status is Status.PENDING:
                    pending.due = change.due
                    pending.failures += 1
                else:
                    ended = lane.pending if change.status is Status.GONE else [pending]
                    self._end(lane, [one for one in ended if one.position >= change.position])
                break
        self._stand(lane)

    def _end(self, lane: Lane, ended: list[Pending]) -> None:
        for pending in ended:
            lane.pending.remove(pending)
        self._count(lane.receiver, -len(ended))

    def _stand(self, lane: Lane) -> None:
        """Put the lane in line; one without deliveries is over."""
        if not lane.pending:
            self.lanes.pop(lane.job_id, None)
            return
        if lane.taken:
            return
        line = self._lines.setdefault(lane.receiver, SortedList())
        first = line[0] if line else None
        line.add(_place(lane))
        self._move_up(first, line)

    def _leave(self, lane: Lane) -> None:
        """Take the lane out of its line, if it stands there."""
        line = self._lines.get(lane.receiver)
        if lane.taken or line is None or not lane.pending:
            return
        first = line[0]
        line.discard(_place(lane))
        self._move_up(first, line)
        if not line:
            del self._lines[lane.receiver]

    def _move_up(self, before: Due | None, line: SortedList) -> None:
        now = line[0] if line else None
        if now != before:
            if before is not None:
                self._first.remove(before)
            if now is not None:
                self._first.add(now)


def _place(lane: Lane) -> Due:
    head = lane.head
    return Due(head.due, head.position, lane.job_id, lane.receiver, head.failures)
