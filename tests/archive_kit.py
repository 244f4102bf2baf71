"""A kit for exports, backups and archives: a database that has lived for some days, and what a file holds in all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from foreman.clock import Micros
from foreman.commands.dump import canonical_dump
from foreman.commands.types import ExpireJob, FinishJob, Note, StartLoading, StartWorking
from foreman.projections.job import Metrics
from foreman.storage.still import still
from tests.core import ANSWER, DEGRADED, STREAM, SWAPPED, WEBHOOK, Core, HandClock, new_id, opened, submit

DAY = 24 * 3600 * 1_000_000
#: The first day's midnight.
BEGIN = 20_000 * DAY


def day(number: int) -> Micros:
    """The midnight that a day begins with."""
    return Micros(BEGIN + number * DAY)


async def live_a_day(core: Core, *, expired: bool) -> str:
    """One job, from its submission to its end, and what became of the daemon; the job's id."""
    await core.do(Note(event=SWAPPED))
    job_id = await core.submitted(new_id(), key=f"key of {core.clock.at}", webhook=WEBHOOK, secret="whsec_c2VjcmV0")
    done = FinishJob(job_id=job_id, metrics=Metrics(generated_tokens=7), artifacts=(ANSWER, STREAM))
    for command in (StartLoading(job_id=job_id, evicts=None), StartWorking(job_id=job_id), done):
        core.clock.at += 1_000_000
        await core.do(command)
    if expired:
        await core.do(ExpireJob(job_id=job_id))
    await core.do(Note(event=DEGRADED))
    return job_id


async def lived(folder: Path, days: int = 6, kept: int = 2) -> Path:
    """A database with a job a day, of which the last `kept` are not expired, and one that waits."""
    async with opened(folder, HandClock(BEGIN)) as core:
        for number in range(days):
            core.clock.at = day(number)
            await live_a_day(core, expired=number < days - kept)
        await core.do(submit(new_id()), Note(event=DEGRADED))
    return folder / "foreman.db"


async def dump(path: Path) -> list[str]:
    """All that a database says, archives included."""
    return await asyncio.to_thread(_dump, path)  # it has a loop of its own


def _dump(path: Path) -> list[str]:
    with still(path) as file:
        return list(canonical_dump(file))
