"""Empties the outbox: takes what is due, lane by lane, has it sent and its outcome recorded. A task of the daemon's.

The next delivery of a lane is taken only after the one before it is recorded as ended, so a receiver gets a job's
events in order, and one that was sent but not recorded, because foreman died, once more under the same id.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from foreman.clock import Clock, Micros
from foreman.commands.ledger import Ledger
from foreman.commands.types import RecordAttempt
from foreman.errors import StorageFull
from foreman.events.feed import OUTBOX
from foreman.events.types import Webhook
from foreman.fsm.job import State
from foreman.logs import get_logger
from foreman.projections import deliveries
from foreman.projections.job import Job
from foreman.projections.outbox import Attempt, Attempted, Lane, Pending, Status
from foreman.signing import Signer
from foreman.storage.reading import Read
from foreman.webhooks import payload, schedule
from foreman.webhooks.limits import Limits, remember
from foreman.webhooks.payload import Style
from foreman.webhooks.sender import Exchange, Sender

log = get_logger(__name__)

#: The wall clock may leap, and a laptop's sleep does not count as time slept: due times are looked at so often.
LONGEST_PAUSE_S: Final = 30.0
#: How often recording is tried again while the disk is full.
FULL_DISK_PAUSE_S: Final = 1.0
#: How often it is said of one receiver that it fails.
WAVERING_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What deliveries are made with."""

    ledger: Ledger
    read: Read
    clock: Clock
    sender: Sender
    #: Signs what has no secret of its own.
    signer: Signer
    style: Style


@dataclass(slots=True)
class Failing:
    """What was said of a receiver that fails, or failed lately."""

    since_s: float
    #: Attempts that failed since; 0 after one that did not.
    count: int = 0


class Dispatcher:
    """The one consumer of the outbox."""

    def __init__(self, post: Post, concurrency: int) -> None:
        self._post = post
        self._limits = Limits(concurrency)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._draining = False
        self._failing: dict[str, Failing] = {}

    async def run(self) -> None:
        """Deliver until cancelled; ends with the error if one is not the receiver's."""
        outbox, clock, limits = self._post.ledger.outbox, self._post.clock, self._limits
        with self._post.ledger.feed.watch(OUTBOX) as self._wake:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    while not self._draining and (lane := outbox.take(clock.now(), limits.admits)):
                        limits.enter(lane.receiver)
                        group.create_task(self._deliver(lane), name=f"delivery of {lane.job_id}")
                    if not limits.taken:
                        self._idle.set()
                    await self._until_due()

    async def drain(self, within_s: float) -> None:
        """Begin no further delivery, and wait a while for those under way; what is cut short is made again."""
        self._draining = True
        self._idle.clear()
        self._wake.set()
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            log.info("webhooks.cut_short", count=self._limits.taken)

    async def _until_due(self) -> None:
        due = self._post.ledger.outbox.next_due(self._limits.admits)
        pause_s = LONGEST_PAUSE_S
        if due is not None and not self._draining:
            pause_s = min(pause_s, max(0, due - self._post.clock.now()) / 1_000_000)
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _deliver(self, lane: Lane) -> None:
        """The lane's first delivery, once. Its place is held until the outcome is on record."""
        took_s, failed = None, False
        try:
            attempted = await self._attempt(lane)
            if attempted.attempt is not None:
                took_s = attempted.attempt.duration / 1_000_000
                failed = attempted.attempt.error is not None
            await self._record(attempted)
        finally:
            held_s = self._limits.held_s(lane.receiver) if failed else 0.0
            if held_s:
                asyncio.get_running_loop().call_later(held_s, self._leave, lane.receiver, took_s, failed)
            else:
                self._leave(lane.receiver, took_s, failed)

    def _leave(self, receiver: str, took_s: float | None, failed: bool) -> None:
        self._limits.leave(receiver, took_s, failed=failed)
        self._wake.set()

    async def _attempt(self, lane: Lane) -> Attempted:
        post, pending = self._post, lane.head
        job = await post.ledger.job(lane.job_id)
        if job is None or job.webhook is None or job.state is State.EXPIRED:
            return _given_up(lane, pending)
        if await deliveries.is_gone(post.read, pending.position):
            return _given_up(lane, pending)
        at, started = post.clock.now(), post.clock.monotonic()
        exchange = await self._send(job, job.webhook, pending, at)
        if exchange is None:
            return _given_up(lane, pending)
        took_s = post.clock.monotonic() - started
        attempt = Attempt(
            at=at,
            duration=round(took_s * 1_000_000),
            address=exchange.address,
            status=exchange.status,
            reply=exchange.reply.decode(errors="replace") or None,
            error=exchange.error,
        )
        attempted = self._judge(lane, pending, exchange, attempt)
        self._say(lane, attempted)
        return attempted

    async def _send(self, job: Job, webhook: Webhook, pending: Pending, at: Micros) -> Exchange | None:
        """Make the attempt; None if the job's contents have gone in the meantime, its secret among them."""
        post = self._post
        own = await deliveries.secret_of(post.read, job.job_id)
        version, body = await payload.body(post.read, job, pending.position, post.style)
        now = await post.ledger.job(job.job_id)
        if now is None or now.state is State.EXPIRED:
            return None
        try:
            signer = post.signer if own is None else Signer.of(own)
        except ValueError as error:
            # It was accepted once: a rule that is stricter since must not stop the deliveries of others.
            return Exchange(error=f"the job's webhook_secret cannot be used: {error}")
        headers = signer.headers(deliveries.message_id(job.job_id, version), at // 1_000_000, body)
        return await post.sender.post(webhook.url, headers, body)

    def _judge(self, lane: Lane, pending: Pending, exchange: Exchange, attempt: Attempt) -> Attempted:
        now = self._post.clock.now()
        status, due = schedule.outcome(
            ok=exchange.error is None,
            status=exchange.status,
            failures=pending.failures,
            wait_s=schedule.retry_after_s(exchange.retry_after, now),
            now=now,
            chance=random.random(),  # noqa: S311
        )
        return Attempted(job_id=lane.job_id, position=pending.position, attempt=attempt, status=status, due=due)

    async def _record(self, attempted: Attempted) -> None:
        """Make the outcome durable; until then the lane stands still."""
        while True:
            try:
                await self._post.ledger.execute(RecordAttempt(job_id=attempted.job_id, attempted=attempted))
            except StorageFull as error:
                log.error("disk.full", error=str(error), hint=error.hint)
                await asyncio.sleep(FULL_DISK_PAUSE_S)
            else:
                return

    def _say(self, lane: Lane, attempted: Attempted) -> None:
        """A line when a receiver begins to fail and one when that is over; of one that wavers, a pair a minute."""
        facts = {"receiver": lane.receiver, "job_id": lane.job_id}
        error = attempted.attempt.error if attempted.attempt else None
        now_s = self._post.clock.monotonic()
        if error is None:
            failing = self._failing.get(lane.receiver)
            if failing is not None and failing.count:
                log.info("webhook.recovered", **facts, count=failing.count, duration_s=round(now_s - failing.since_s))
                failing.count = 0
            return
        failing = self._failing.get(lane.receiver)
        if failing is None or (not failing.count and now_s - failing.since_s >= WAVERING_S):
            failing = Failing(since_s=now_s)
            remember(self._failing, lane.receiver, failing)
            log.warning("webhook.failing", **facts, error=error)
        failing.count += 1
        if attempted.status is not Status.PENDING:
            log.warning("webhook.given_up", **facts, position=attempted.position, error=error)


def _given_up(lane: Lane, pending: Pending) -> Attempted:
    return Attempted(job_id=lane.job_id, position=pending.position, attempt=None, status=Status.GONE)
