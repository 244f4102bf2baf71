"""What the handlers work with, in one value that each application carries."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from sanic import Request

from foreman.clock import Clock, Micros
from foreman.commands.ledger import Ledger
from foreman.commands.types import CancelJob
from foreman.config import Settings
from foreman.errors import Draining, ForemanError, NotReady
from foreman.events.types import CancelledBy
from foreman.storage.reading import Read
from foreman.tails import Tails
from foreman.target.client import Target
from foreman.target.inventory import Inventory, Model
from foreman.target.residency import Residency


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
    started_at: Micros
    draining: bool = False
    #: Embedding calls that may be at the target at once.
    embedding: asyncio.Semaphore = field(init=False)
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

    def serving(self) -> str | None:
        """The load key that the target works for now, or last."""
        running = self.ledger.work.running
        return next(iter(running.values())).load_key if running else self.residency.key

    def must_be_open(self) -> None:
        """Raises Draining once foreman is shutting down."""
        if self.draining:
            raise Draining

    def cancel_for_caller(self, job_id: str) -> None:
        """A blocking caller has left: cancel its job without keeping anybody waiting."""
        self._errand(job_id, self.ledger.execute(CancelJob(job_id=job_id, by=CancelledBy.CALLER_LEFT)))

    def _errand(self, job_id: str, work: Coroutine[Any, Any, object]) -> None:
        async def run() -> None:
            # The job was never accepted, is over, or the ledger closes: in each case nothing is left to cancel.
            with suppress(ForemanError):
                await work
            self.tails.close(job_id)

        task = asyncio.create_task(run(), name="cancel for a caller that left")
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


def desk_of(request: Request) -> Desk:
    """The desk of the application that serves this request."""
    return cast(Desk, request.app.ctx.desk)
