"""What the handlers work with, in one value that each application carries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from sanic import Request

from foreman.clock import Clock, Micros
from foreman.commands.ledger import Ledger
from foreman.commands.types import CancelJob, SubmitJobs
from foreman.config.settings import Settings
from foreman.destinations import Destinations
from foreman.errors import Draining, ForemanError, NotReady, StorageFull
from foreman.events.types import CancelledBy
from foreman.projections.job import Job
from foreman.scheduling.outlook import Outlook
from foreman.storage.reading import Read
from foreman.tails import Tails
from foreman.target.client import Target
from foreman.target.inventory import Inventory, Model
from foreman.target.residency import Residency

#: How often a cancellation is tried again while the disk is full.
FULL_DISK_PAUSE_S: Final = 1.0


@dataclass(slots=True, kw_only=True)
class Desk:
    """Everything a handler may use, and whether new work is still taken."""

    settings: Settings
    clock: Clock
    read: Read
    ledger: Ledger
    target: Target
    inventory: Inventory
    residency: Residency
    tails: Tails
    destinations: Destinations
    outlook: Outlook
    started_at: Micros
    #: The metrics in the format that an Accept header asks for, and their content type.
    render_metrics: Callable[[str], Awaitable[tuple[bytes, str]]]
    #: Told of each answer: route, method, status, and the seconds that it took.
    answered: Callable[[str, str, int, float], None]
    draining: bool = False
    #: Embedding calls that may be at the target at once.
    embedding: asyncio.Semaphore = field(init=False)
    #: A follower of the log hears something at least this often, and is cut off when it takes nothing for so long.
    follower_silence_s: float = 15.0
    follower_patience_s: float = 30.0
    #: Nothing more will happen here: whoever still waits for a job is to leave.
    closing: bool = False
    _waits: set[asyncio.Timeout] = field(default_factory=set)
    _errands: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.embedding = asyncio.Semaphore(self.settings.embed_concurrency)

    async def find_model(self, name: str) -> Model | None:
        """The model, after one more look at the target if it is not known; None if there is none.

        Raises NotReady while the target has never answered: nobody can say then what it has.
        """
        model = self.inventory.find(name)
        if model is None and (self.inventory.up or not self.inventory.known):
            await self.inventory.refresh()
            model = self.inventory.find(name)
        if not self.inventory.known:
            raise NotReady(f"target unreachable: {self.inventory.health.error}")
        return model

    def must_be_open(self) -> None:
        """Raises Draining once foreman is shutting down."""
        if self.draining:
            raise Draining

    async def job_when(self, job_id: str, true: Callable[[Job], bool]) -> Job:
        """A job that exists, as soon as this is true of it."""
        with self.ledger.feed.watch(job_id) as changed:
            while True:
                changed.clear()
                job = await self.ledger.job(job_id)
                assert job is not None
                if true(job):
                    return job
                await changed.wait()

    @asynccontextmanager
    async def patience(self, seconds: float | None) -> AsyncIterator[None]:
        """As asyncio.timeout, but it also runs out when foreman closes, which must not wait for those who wait."""
        async with asyncio.timeout(0 if self.closing else seconds) as limit:
            self._waits.add(limit)
            try:
                yield
            finally:
                self._waits.discard(limit)

    def close(self) -> None:
        """Let go of everybody who waits in `patience`; harmless when repeated."""
        self.draining = self.closing = True
        for limit in self._waits:
            if not limit.expired():
                limit.reschedule(0)

    def cancel_for_caller(self, job_id: str) -> None:
        """A blocking caller has left: cancel its job without keeping anybody waiting."""
        self._errand(self._cancel(job_id))

    def forget_unless_accepted(self, job_id: str) -> None:
        """A caller with a key has left before it was told: if its job was not accepted, nobody closes its tail."""
        self._errand(self._forget(job_id))

    async def _cancel(self, job_id: str) -> None:
        while True:
            try:
                await self.ledger.execute(CancelJob(job_id=job_id, by=CancelledBy.CALLER_LEFT))
            except StorageFull:
                await asyncio.sleep(FULL_DISK_PAUSE_S)  # else it would run for nobody once there is space
                continue
            except ForemanError:
                pass  # it was never accepted, is over, or the ledger closes: nothing is left to cancel
            self.tails.close(job_id)
            return

    async def _forget(self, job_id: str) -> None:
        with suppress(ForemanError):
            await self.ledger.execute(SubmitJobs(submissions=()))  # in line behind the caller's own
        if not self.ledger.work.has(job_id):
            self.tails.close(job_id)

    def _errand(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="errand for a caller that left")
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


def desk_of(request: Request) -> Desk:
    """The desk of the application that serves this request."""
    return cast(Desk, request.app.ctx.desk)
