"""Whatever is told, tried, revived or removed, in whatever order and wherever it crashes: log, table and memory agree.

The real ledger on a real database; what is under way is taken from the real outbox.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from foreman.clock import Micros
from foreman.commands.ledger import Outcome
from foreman.commands.types import (
    CancelJob,
    Command,
    ExpireJob,
    FinishJob,
    RecordAttempt,
    Redeliver,
    RequeueJob,
    StartLoading,
    StartWorking,
)
from foreman.errors import CommitUnknown, ForemanError
from foreman.events.types import CancelledBy, Position, RequeueReason
from foreman.projections.deliveries import DeliveryFilter, page, secret_of
from foreman.projections.job import Metrics
from foreman.projections.outbox import Attempt, Attempted, Lane, Status
from tests.core import ANSWER, SELECTIVE, WEBHOOK, HandClock, audit, new_id, open_core, submit

SECOND = 1_000_000
#: So few that much happens to each.
MOST_JOBS = 5
PICKS = st.integers(0, 30)
WEBHOOKS = st.sampled_from([WEBHOOK, WEBHOOK, SELECTIVE, None])
SECRETS = st.sampled_from([None, "s3cret"])
#: The one receiver that is admitted; None stands for all.
ADMITTED = st.sampled_from(["hooks.example:80", "other.example:443", None])
#: What an attempt may come to: with a pause it is tried again.
OUTCOMES = st.tuples(st.sampled_from(Status), st.sampled_from([0, 0, 60]), st.booleans())
MOVES = st.sampled_from(["load", "work", "finish", "requeue", "cancel"])
#: What may share a transaction, in any order.
ERRANDS = st.sampled_from(["tell", "move", "expire", "record", "redeliver"])


class DeliveriesMachine(RuleBasedStateMachine):
    """A core whose jobs are moved at will, and a consumer of its outbox."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = HandClock()
        self.jobs: list[str] = []
        self.under_way: dict[str, tuple[Lane, Position]] = {}

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.core = await open_core(Path(self.folder.name) / "foreman.db", self.clock)
        self.under_way.clear()
        await audit(self.core)

    def do(self, *commands: Command) -> None:
        """Hand the commands in at once: log, table and memory agree then."""
        results = self.runner.run(self._do(commands))
        assert all(isinstance(result, Outcome | ForemanError) for result in results), results
        assert not any(isinstance(result, CommitUnknown) for result in results)

    async def _do(self, commands: tuple[Command, ...]) -> list[Outcome | BaseException]:
        before = self.core.database.transactions
        results = await self.core.do(*commands)
        assert self.core.database.transactions <= before + 1
        await audit(self.core)
        return results

    @invariant()
    def what_is_taken_is_under_way(self) -> None:
        """All of it, but for what was dropped meanwhile."""
        if hasattr(self, "core"):
            lanes = self.core.ledger.outbox.lanes
            assert {job_id for job_id, lane in lanes.items() if lane.taken} == lanes.keys() & self.under_way.keys()

    def job(self, number: int) -> str:
        return self.jobs[number % len(self.jobs)]

    def moved(self, number: int, move: str) -> Command:
        job_id = self.job(number)
        return {
            "load": StartLoading(job_id=job_id, evicts=None),
            "work": StartWorking(job_id=job_id),
            "finish": FinishJob(job_id=job_id, metrics=Metrics(), artifacts=(ANSWER,)),
            "requeue": RequeueJob(job_id=job_id, reason=RequeueReason.UNREACHABLE, error="x"),
            "cancel": CancelJob(job_id=job_id, by=CancelledBy.API),
            "expire": ExpireJob(job_id=job_id),
        }[move]

    def recorded(self, number: int, outcome: tuple[Status, int, bool]) -> RecordAttempt:
        """The end of one of the attempts under way."""
        job_id = sorted(self.under_way)[number % len(self.under_way)]
        _, position = self.under_way.pop(job_id)
        status, pause_s, made = outcome
        pending = status is Status.PENDING
        attempt = Attempt(at=self.clock.now(), duration=7, status=503, reply="no") if made or pending else None
        due = Micros(self.clock.at + pause_s * SECOND if pending else 0)
        attempted = Attempted(job_id=job_id, position=position, attempt=attempt, status=status, due=due)
        return RecordAttempt(job_id=job_id, attempted=attempted)

    def redelivered(self, number: int) -> Redeliver:
        """A job's deliveries from one of them on, whatever has become of them."""
        job_id = self.job(number)
        rows = self.runner.run(page(self.core.database.read, DeliveryFilter(job_id=job_id)))
        chosen = tuple(row.position for row in rows[number % 3 :])
        return Redeliver(job_id=job_id, positions=chosen)

    @rule(count=st.integers(1, 2), webhook=WEBHOOKS, secret=SECRETS)
    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    def tell(self, count, webhook, secret) -> None:
        new = [new_id() for _ in range(count)]
        self.jobs += new
        secret = secret if webhook else None
        self.do(submit(*new, webhook=webhook, secret=secret))
        assert all(self.runner.run(secret_of(self.core.database.read, job_id)) == secret for job_id in new)

    @rule(number=PICKS, moves=st.lists(MOVES, min_size=1, max_size=4))
    @precondition(lambda self: self.jobs)
    def move(self, number, moves) -> None:
        self.do(*(self.moved(number, move) for move in moves))

    @rule(number=PICKS)
    @precondition(lambda self: self.jobs)
    def expire(self, number) -> None:
        """Only a job that is over, and then with all of its deliveries, also those under way."""
        self.do(self.moved(number, "expire"))

    @rule(admitted=ADMITTED)
    def take(self, admitted) -> None:
        """The first delivery of a lane that nobody is at, the oldest of its job that has not ended."""
        lane = self.core.ledger.outbox.take(self.clock.now(), lambda receiver: admitted in {receiver, None})
        if lane is None:
            return
        assert admitted in {lane.receiver, None}
        assert lane.job_id not in self.under_way
        rows = self.runner.run(page(self.core.database.read, DeliveryFilter(job_id=lane.job_id, status=Status.PENDING)))
        assert (rows[0].position, rows[0].receiver) == (lane.head.position, lane.receiver)
        assert lane.head.failures == 0 or rows[0].due <= self.clock.at
        self.under_way[lane.job_id] = (lane, lane.head.position)

    @rule(outcomes=st.lists(OUTCOMES, min_size=2, max_size=6))
    def deliver(self, outcomes) -> None:
        """One after the other, as long as something is due."""
        for outcome in outcomes:
            before = set(self.under_way)
            self.take(None)
            for job_id in set(self.under_way) - before:
                self.do(self.recorded(sorted(self.under_way).index(job_id), outcome))

    @rule(number=PICKS, outcome=OUTCOMES)
    def attempt_ends(self, number, outcome) -> None:
        # No precondition: what is under way rests on what a crash left, which need not be the same twice.
        if self.under_way:
            self.do(self.recorded(number, outcome))

    @rule(number=PICKS)
    @precondition(lambda self: self.jobs)
    def redeliver(self, number) -> None:
        self.do(self.redelivered(number))

    @rule(errands=st.lists(st.tuples(ERRANDS, PICKS, MOVES, OUTCOMES), min_size=2, max_size=8))
    @precondition(lambda self: self.jobs)
    def all_at_once(self, errands) -> None:
        """Everything that may happen to deliveries, in one transaction and in any order."""
        self.do(*self._commands(errands))

    def _commands(self, errands) -> list[Command]:
        commands: list[Command] = []
        for errand, number, move, outcome in errands:
            if errand == "tell":
                self.jobs.append(new_id())
                commands.append(submit(self.jobs[-1], webhook=WEBHOOK, secret="x"))
            elif errand == "redeliver":
                commands.append(self.redelivered(number))
            elif errand != "record":
                commands.append(self.moved(number, "expire" if errand == "expire" else move))
            elif self.under_way:
                commands.append(self.recorded(number, outcome))
        return commands

    @rule(seconds=st.sampled_from([1, 60, -5]))
    def time_passes(self, seconds) -> None:
        self.clock.at += seconds * SECOND

    @rule(errands=st.lists(st.tuples(ERRANDS, PICKS, MOVES, OUTCOMES), max_size=5), steps=st.integers(0, 6))
    @precondition(lambda self: self.jobs)
    def crash(self, errands, steps) -> None:
        """It ends while things are on their way, at any moment of theirs: all that was under way is pending again."""
        self.runner.run(self._crash(self._commands(errands), steps))

    async def _crash(self, commands: list[Command], steps: int) -> None:
        callers = [asyncio.create_task(self.core.ledger.execute(command)) for command in commands]
        for _ in range(steps):
            await asyncio.sleep(0)
        await self.core.crash()
        await asyncio.gather(*callers, return_exceptions=True)
        await self._open()
        assert not any(lane.taken for lane in self.core.ledger.outbox.lanes.values())

    def teardown(self) -> None:
        try:
            if hasattr(self, "core"):
                self.runner.run(self._end())
        finally:
            self.runner.close()
            self.folder.cleanup()

    async def _end(self) -> None:
        self.core.ledger.close()
        await asyncio.wait({self.core.task})
        await self.core.database.close()


TestDeliveries = DeliveriesMachine.TestCase
TestDeliveries.settings = settings(deadline=None, stateful_step_count=40)
