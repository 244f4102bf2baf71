"""What a start does about the jobs that the last end left in the middle, and the event that says it has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from foreman import __version__
from foreman.commands.interruption import after_interruption
from foreman.commands.ledger import Ledger
from foreman.commands.types import CancelJob, Note
from foreman.events.daemon import DaemonStarted, Scheduling
from foreman.events.types import CancelledBy
from foreman.projections.job import Job
from foreman.storage.database import SQLITE_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a start found unfinished, and what there is still to be told."""

    requeued: int
    cancelled: int
    deliveries: int


async def recover(ledger: Ledger, unfinished: Iterable[Job], scheduling: Scheduling) -> Recovery:
    """Put the jobs right and note the start, with the rules by which jobs are chosen from now on."""
    commands = [command for job in unfinished if (command := after_interruption(job, CancelledBy.RESTART)) is not None]
    deliveries = ledger.outbox.pending
    await asyncio.gather(*(ledger.execute(command) for command in commands))
    cancelled = sum(isinstance(command, CancelJob) for command in commands)
    recovery = Recovery(requeued=len(commands) - cancelled, cancelled=cancelled, deliveries=deliveries)
    started = DaemonStarted(
        foreman_version=__version__,
        sqlite_version=SQLITE_VERSION,
        waiting=len(ledger.work.queue),
        requeued=recovery.requeued,
        cancelled=recovery.cancelled,
        scheduling=scheduling,
    )
    await ledger.execute(Note(event=started))
    return recovery
