"""Whatever changes come and whoever is admitted: the outbox gives out what a plain list of deliveries would give."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from foreman.clock import Micros
from foreman.events.types import Position
from foreman.projections.outbox import (
    FARTHEST,
    Attempt,
    Attempted,
    Dropped,
    Lane,
    Outbox,
    Pending,
    Revived,
    Status,
    Told,
)
from tests.core import assert_in_line, lanes_of

RECEIVERS = ("a:80", "b:80", "c:80")
#: A job tells one receiver only.
JOBS = {f"J{number}": RECEIVERS[number % len(RECEIVERS)] for number in range(8)}
JOB_IDS = st.sampled_from(sorted(JOBS))
ADMITTED = st.frozensets(st.sampled_from(RECEIVERS))
PICKS = st.integers(0, 10**6)


@dataclass
class Row:
    """One delivery as the table has it."""

    job_id: str
    pending: bool = True
    due: int = 0
    failures: int = 0


class OutboxMachine(RuleBasedStateMachine):
    """An outbox, and every delivery there ever was as a row to look through."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.rows: dict[int, Row] = {}
        self.position = 0
        self.now = 100
        self.under_way: dict[str, tuple[Lane, int]] = {}

    def pending(self, job_id: str) -> list[int]:
        """Positions of the job's deliveries that have not ended, in order."""
        return [position for position, row in sorted(self.rows.items()) if row.job_id == job_id and row.pending]

    def waiting(self, admitted: frozenset[str]) -> list[tuple[int, int, str]]:
        """Due time, position and job of each delivery that could be next, the first one first."""
        heads = [(job_id, own[0]) for job_id in JOBS if job_id not in self.under_way and (own := self.pending(job_id))]
        return sorted((self.rows[head].due, head, job_id) for job_id, head in heads if JOBS[job_id] in admitted)

    def is_due(self, position: int) -> bool:
        """What has failed waits for its time, unless that is farther off than any wait is long."""
        row = self.rows[position]
        return row.failures == 0 or row.due <= self.now or row.due > self.now + FARTHEST

    def following(self, admitted: frozenset[str]) -> tuple[int, str] | None:
        """Position and job of the delivery that should be next. Of each receiver only the first is looked at: one that
        is not due holds up its own receiver, and no other."""
        firsts: dict[str, tuple[int, str]] = {}
        for _, position, job_id in self.waiting(admitted):
            firsts.setdefault(JOBS[job_id], (position, job_id))
        return next((first for first in firsts.values() if self.is_due(first[0])), None)

    @rule(job_id=JOB_IDS)
    def tell(self, job_id) -> None:
        self.position += 1
        self.rows[self.position] = Row(job_id, due=self.now)
        self.outbox.apply(
            Told(
                job_id=job_id,
                position=Position(self.position),
                version=1,
                receiver=JOBS[job_id],
                state="queued",
                at=Micros(self.now),
            )
        )

    @rule(admitted=ADMITTED)
    def take(self, admitted) -> None:
        expected = self.following(admitted)
        lane = self.outbox.take(Micros(self.now), admitted.__contains__)
        if expected is None:
            assert lane is None
            return
        position, job_id = expected
        assert lane is not None
        assert (lane.job_id, lane.receiver, lane.head.position) == (job_id, JOBS[job_id], position)
        assert lane.head.failures == self.rows[position].failures
        assert job_id not in self.under_way
        self.under_way[job_id] = (lane, position)

    @rule(number=PICKS, status=st.sampled_from(Status), pause=st.integers(0, 30), made=st.booleans())
    def attempt_ends(self, number, status, pause, made) -> None:
        """Its lane may have been dropped meanwhile: then nothing comes of it."""
        if not self.under_way:
            return
        job_id = sorted(self.under_way)[number % len(self.under_way)]
        _, position = self.under_way.pop(job_id)
        pending = status is Status.PENDING
        due = Micros(self.now + pause if pending else 0)
        attempt = Attempt(at=Micros(self.now), duration=1) if made or pending else None
        self.outbox.apply(
            Attempted(job_id=job_id, position=Position(position), attempt=attempt, status=status, due=due)
        )
        if row := self.rows.get(position):
            row.pending, row.due, row.failures = pending, due, row.failures + pending
        if status is Status.GONE:
            for later in self.pending(job_id):
                self.rows[later].pending = later < position

    @rule(job_id=JOB_IDS, numbers=st.lists(PICKS, max_size=4))
    def revive(self, job_id, numbers) -> None:
        """Any of the job's deliveries in any order, pending ones and repetitions too."""
        own = [position for position, row in self.rows.items() if row.job_id == job_id]
        chosen = tuple(Position(own[number % len(own)]) for number in numbers) if own else ()
        change = Revived(job_id=job_id, receiver=JOBS[job_id], positions=chosen, at=Micros(self.now))
        self.outbox.apply(change)
        for position in chosen:
            row = self.rows[position]
            row.pending, row.due, row.failures = True, self.now, 0

    @rule(job_id=JOB_IDS)
    def drop(self, job_id) -> None:
        """What still comes of its attempt under way changes nothing."""
        self.outbox.apply(Dropped(job_id=job_id))
        self.rows = {position: row for position, row in self.rows.items() if row.job_id != job_id}
        if job_id in self.under_way:
            _, position = self.under_way.pop(job_id)
            late = Attempted(job_id=job_id, position=Position(position), attempt=None, status=Status.GONE)
            self.outbox.apply(late)

    @rule(step=st.sampled_from([1, 10, 100, -50, FARTHEST, -2 * FARTHEST]))
    def time_passes(self, step) -> None:
        self.now += step

    @rule()
    def restart(self) -> None:
        """Attempts under way are forgotten; everything else comes back from the rows."""
        self.under_way.clear()
        self.outbox = Outbox.of(
            (row.job_id, JOBS[row.job_id], Pending(Position(position), Micros(row.due), row.failures))
            for position, row in sorted(self.rows.items())
            if row.pending
        )

    @rule(admitted=ADMITTED)
    def look(self, admitted) -> None:
        """The next due time is that of the very lane that `take` gives then, and a look takes nothing."""
        waiting = self.waiting(admitted)
        assert self.outbox.next_due(admitted.__contains__) == (waiting[0][0] if waiting else None)

    @invariant()
    def nothing_is_lost_and_everything_is_in_line(self) -> None:
        expected = {
            job_id: (
                JOBS[job_id],
                [(position, self.rows[position].due, self.rows[position].failures) for position in own],
            )
            for job_id in JOBS
            if (own := self.pending(job_id))
        }
        assert lanes_of(self.outbox) == expected
        assert {job_id for job_id, lane in self.outbox.lanes.items() if lane.taken} == set(self.under_way)
        assert_in_line(self.outbox)


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(deadline=None, stateful_step_count=60)
