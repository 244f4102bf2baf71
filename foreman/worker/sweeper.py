"""Removes the contents of jobs that have been finished for long enough; the ledger then gives the space back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from foreman.clock import Clock, Micros
from foreman.commands.ledger import Ledger
from foreman.commands.types import ExpireJob
from foreman.errors import StorageFull
from foreman.logs import get_logger
from foreman.projections import jobs
from foreman.storage.database import Database

log = get_logger(__name__)

#: Jobs looked up at a time; each step leaves the ledger free for others in between.
STEP: Final = 200
SHORTEST_PAUSE_S: Final = 60.0
#: How long the contents of a job are kept past their time because its receiver was not told of all yet: about as long
#: as a webhook is tried again.
GRACE_S: Final = 24 * 3600


class Sweeper:
    """The retention rule. `run()` is a task of the daemon's."""

    def __init__(self, database: Database, ledger: Ledger, clock: Clock, ttl_s: float) -> None:
        """`ttl_s` is how long a finished job is kept, in seconds."""
        self._database = database
        self._ledger = ledger
        self._clock = clock
        self._ttl_s = ttl_s

    async def run(self) -> None:
        """Sweep every quarter of the TTL, but not more often than once a minute."""
        while True:
            await self.sweep()
            await asyncio.sleep(max(SHORTEST_PAUSE_S, self._ttl_s / 4))

    async def sweep(self) -> int:
        """Expire what is due; how many jobs it was."""
        before = Micros(self._clock.now() - round(self._ttl_s * 1_000_000))
        at_last = Micros(before - GRACE_S * 1_000_000)
        swept = 0
        try:
            while rows := await self._database.read(jobs.SELECT_OVERDUE, (before, at_last, STEP)):
                self._warn_of_untold([job_id for (job_id,) in rows])
                await asyncio.gather(*(self._ledger.execute(ExpireJob(job_id=job_id)) for (job_id,) in rows))
                swept += len(rows)
        except StorageFull as error:
            # Removing needs room for the events that say so. The next sweep tries again.
            log.error("disk.full", error=str(error), hint=error.hint)
        if swept:
            log.info("jobs.expired", count=swept)
        return swept

    def _warn_of_untold(self, job_ids: Sequence[str]) -> None:
        lanes = self._ledger.outbox.lanes
        untold = [lanes[job_id] for job_id in job_ids if job_id in lanes]
        for receiver in sorted({lane.receiver for lane in untold}):
            count = sum(len(lane.pending) for lane in untold if lane.receiver == receiver)
            log.warning("webhooks.dropped", receiver=receiver, count=count, reason="their jobs are past their time")
