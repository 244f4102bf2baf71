"""One database in which everything has happened that can happen, made by the real ledger, for those who audit it."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from foreman import __version__
from foreman.clock import Micros
from foreman.commands.types import (
    CancelJob,
    Command,
    ExpireJob,
    FailJob,
    FinishJob,
    Note,
    RecordAttempt,
    Redeliver,
    RequeueJob,
    StartLoading,
    StartWorking,
)
from foreman.events.daemon import DaemonStarted
from foreman.events.types import CancelledBy, JobClass, RequeueReason, Source
from foreman.projections import contents, snapshots
from foreman.projections.contents import artifact
from foreman.projections.job import Metrics
from foreman.projections.outbox import Attempt, Attempted, Status
from foreman.storage.database import Statement
from tests.core import DEGRADED, SAMPLES, SELECTIVE, SWAPPED, WEBHOOK, Core, HandClock, opened, submit

SECOND = 1_000_000
METRICS = Metrics(
    done_reason="stop", prompt_tokens=26, generated_tokens=298, total_duration=10_706_818_083,
    load_duration=6_338_219_291, eval_duration=4_232_710_000, first_token_s=0.25, run_s=10.75,
)  # fmt: skip
DELIVERED, FAILED = 204, 500


def started() -> DaemonStarted:
    return DaemonStarted(foreman_version=__version__, sqlite_version="3", waiting=0, requeued=0, cancelled=0)


class Life:
    """Things that happen, a second after each other."""

    def __init__(self, core: Core) -> None:
        self.core = core

    async def do(self, *commands: Command) -> None:
        for command in commands:
            self.core.clock.at += SECOND
            (outcome,) = await self.core.do(command)
            if isinstance(outcome, BaseException):
                raise outcome

    async def work(self, job_id: str, *, loads: bool = False) -> None:
        if loads:
            await self.do(StartLoading(job_id=job_id, evicts="b"))
        await self.do(StartWorking(job_id=job_id, swapped=loads, load_s=3.5 if loads else None))

    async def finish(self, job_id: str) -> None:
        answer = artifact(contents.COMPLETION, contents.JSON, b'{"message":{"content":"%b"}}' % job_id.encode())
        stream = artifact(contents.STREAM, contents.NDJSON, b'{"message":{"content":"%b"}}\n' % job_id.encode() * 9)
        await self.do(FinishJob(job_id=job_id, metrics=METRICS, artifacts=(answer, stream)))

    async def attempt(self, job_id: str, number: int, status: Status, code: int | None) -> None:
        """One attempt at the job's delivery of that number."""
        rows = await self.core.database.read(
            "SELECT position FROM deliveries WHERE job_id = ? ORDER BY position", (job_id,)
        )
        error = None if code == DELIVERED else "it went wrong"
        made = Attempt(
            at=self.core.clock.now(), duration=5_000, address=None if code is None else "192.0.2.7:80",
            status=code, reply="thanks", error=error,
        )  # fmt: skip
        due = Micros(self.core.clock.at + 60 * SECOND)
        attempted = Attempted(job_id=job_id, position=rows[number][0], attempt=made, status=status, due=due)
        await self.do(RecordAttempt(job_id=job_id, attempted=attempted))

    async def redeliver(self, job_id: str, number: int) -> None:
        rows = await self.core.database.read(
            "SELECT position FROM deliveries WHERE job_id = ? ORDER BY position", (job_id,)
        )
        await self.do(Redeliver(job_id=job_id, positions=(rows[number][0],)))


async def make(path: Path) -> None:
    """Write it to this folder's `foreman.db`."""
    async with opened(path, HandClock(1_800_000_000 * SECOND)) as core:
        life = Life(core)
        await life.do(Note(event=started()))
        await _ends(life)
        await _webhooks(life)
        await _keys(life)
        await life.do(*(Note(event=event) for event in (SWAPPED, DEGRADED, *SAMPLES[9:12])))
        states = (core.ledger.statistics, core.ledger.tally, core.ledger.timeline)
        rows = [snapshots.row(state) for state in states]
        await core.database.transact([Statement(snapshots.UPSERT, rows)])
        await _unfinished(life)


async def _ends(life: Life) -> None:
    for number in range(4):
        job_id = f"done-{number}"
        await life.do(submit(job_id, model="AB"[number % 2], load_key="ab"[number % 2], job_class=JobClass.INTERACTIVE))
        await life.work(job_id, loads=number % 2 == 0)
        await life.finish(job_id)
    await life.do(submit("failed", retry_of="done-1"))
    await life.work("failed")
    await life.do(RequeueJob(job_id="failed", reason=RequeueReason.CONNECTION, error="it broke", not_before=Micros(9)))
    await life.work("failed", loads=True)
    await life.do(RequeueJob(job_id="failed", reason=RequeueReason.INTERRUPTED, error="foreman was restarted"))
    await life.work("failed")
    await life.do(FailJob(job_id="failed", error="no such thing", code="target_refused", status=404))
    await life.do(submit("cancelled", source=Source.SYNC), CancelJob(job_id="cancelled", by=CancelledBy.CALLER_LEFT))
    for job_id in ("expired-1", "expired-2"):
        await life.do(submit(job_id))
        await life.work(job_id)
        await life.finish(job_id)
        await life.do(ExpireJob(job_id=job_id))


async def _webhooks(life: Life) -> None:
    for job_id in ("told", "dead", "gone", "asked", "forgotten"):
        await life.do(submit(job_id, webhook=WEBHOOK, secret="s3cret"))
        await life.work(job_id, loads=True)
        await life.finish(job_id)
    for number in range(4):
        await life.attempt("told", number, Status.PENDING, FAILED)
        await life.attempt("told", number, Status.DELIVERED, DELIVERED)
        await life.attempt("forgotten", number, Status.DELIVERED, DELIVERED)
    await life.do(ExpireJob(job_id="forgotten"))
    await life.attempt("dead", 0, Status.PENDING, None)
    await life.attempt("dead", 0, Status.DEAD, FAILED)
    await life.attempt("gone", 0, Status.DELIVERED, DELIVERED)
    await life.attempt("gone", 1, Status.GONE, 410)
    await life.attempt("asked", 0, Status.DELIVERED, DELIVERED)
    await life.attempt("asked", 1, Status.DEAD, FAILED)
    await life.redeliver("asked", 1)
    await life.attempt("asked", 1, Status.PENDING, FAILED)
    await life.do(submit("picky", webhook=SELECTIVE))
    await life.work("picky", loads=True)
    await life.do(CancelJob(job_id="picky", by=CancelledBy.API))


async def _keys(life: Life) -> None:
    await life.do(submit("key-1", "key-2", "key-3", key="jobs:k"), submit("again-1", key="jobs:again"))
    await life.do(*(CancelJob(job_id=job_id, by=CancelledBy.API) for job_id in ("key-1", "key-2", "again-1")))
    await life.do(ExpireJob(job_id="key-1"), ExpireJob(job_id="again-1"))
    await life.do(submit("again-2", key="jobs:again", fingerprint="g"))


async def _unfinished(life: Life) -> None:
    queued = replace(WEBHOOK, events=("queued", "working"))
    await life.do(submit("waits"), submit("loads", webhook=WEBHOOK), submit("works", webhook=queued, secret="s"))
    await life.do(StartLoading(job_id="loads", evicts=None))
    await life.work("works")
