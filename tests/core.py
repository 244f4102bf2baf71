"""A kit for the core: events and commands with sensible members, an open ledger, and an audit of it against its log."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from foreman.clock import Micros
from foreman.commands.ledger import Ledger, Outcome
from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import Command, Submission, SubmitJobs
from foreman.events import log
from foreman.events.codec import GENESIS, chain_hash
from foreman.events.daemon import (
    DaemonStarted,
    DaemonStopped,
    ModelSwapped,
    Scheduling,
    Stage,
    TargetDegraded,
    TargetRecovered,
    TargetStalled,
)
from foreman.events.feed import Feed
from foreman.events.types import (
    CancelledBy,
    Endpoint,
    Event,
    IdempotencyKey,
    JobCancelled,
    JobClass,
    JobDone,
    JobExpired,
    JobFailed,
    JobLoading,
    JobQueued,
    JobRequeued,
    JobWorking,
    Position,
    Recorded,
    RequeueReason,
    Source,
    Webhook,
)
from foreman.fsm.job import ACTIVE, FINISHED, RUNNING, WAITING, State
from foreman.projections import contents, deliveries, jobs
from foreman.projections.contents import Artifact, artifact
from foreman.projections.job import Job, fold
from foreman.projections.outbox import Due, Outbox
from foreman.projections.statistics import Statistics
from foreman.projections.timeline import Timeline
from foreman.projections.work import Work
from foreman.storage.database import Database, Statement

BODY = artifact(contents.REQUEST, contents.JSON, b'{"model":"a","messages":[{"role":"user","content":"hello"}]}')
ANSWER = artifact(contents.COMPLETION, contents.JSON, b'{"model":"a","message":{"content":"hello"},"done":true}')
STREAM = artifact(contents.STREAM, contents.NDJSON, b'{"message":{"content":"hello"}}\n{"done":true}\n')

QUEUED = JobQueued(
    model="a",
    load_key="a",
    endpoint=Endpoint.CHAT,
    source=Source.ASYNC,
    job_class=JobClass.BATCH,
    stream=True,
    request=BODY.ref,
    max_attempts=3,
)
LOADING = JobLoading(attempt=1, evicts="b")
WORKING = JobWorking(attempt=1, waited_s=0.5, swapped=False)
#: A receiver that hears of every transition, and another that hears of the beginning and the end.
WEBHOOK = Webhook(url="http://hooks.example/foreman?for=me")
SELECTIVE = Webhook(url="https://other.example/", events=("queued", "done"))
REQUEUED = JobRequeued(attempt=1, reason=RequeueReason.CONNECTION, error="it broke", not_before=Micros(9))
DONE = JobDone(
    attempt=1,
    artifacts=(ANSWER.ref,),
    prompt_tokens=3,
    generated_tokens=5,
    run_s=2.0,
    load_key="a",
    job_class=JobClass.BATCH,
)
FAILED = JobFailed(attempt=1, error="no such thing", code="target_refused", status=404)
CANCELLED = JobCancelled(by=CancelledBy.API)
EXPIRED = JobExpired(removed=("request", "completion"))
SWAPPED = ModelSwapped(model="a", load_key="a", load_s=3.0)
DEGRADED = TargetDegraded(error="connection refused")

#: A shortest history that ends in each state.
HISTORIES: dict[State, tuple[Event, ...]] = {
    State.NEW: (),
    State.QUEUED: (QUEUED,),
    State.LOADING: (QUEUED, LOADING),
    State.WORKING: (QUEUED, WORKING),
    State.DONE: (QUEUED, WORKING, DONE),
    State.FAILED: (QUEUED, FAILED),
    State.CANCELLED: (QUEUED, CANCELLED),
    State.EXPIRED: (QUEUED, CANCELLED, EXPIRED),
}
#: One event of each type, every member set to something of its own.
SAMPLES: tuple[Event, ...] = (
    replace(
        QUEUED,
        idempotency=IdempotencyKey(key="jobs:k", fingerprint="f", ordinal=1),
        retry_of="01A",
        webhook=SELECTIVE,
    ),
    LOADING,
    replace(WORKING, swapped=True, load_s=7.25),
    REQUEUED,
    JobDone(
        attempt=2,
        artifacts=(ANSWER.ref, STREAM.ref),
        done_reason="stop",
        prompt_tokens=26,
        generated_tokens=298,
        total_duration=10_706_818_083,
        load_duration=6_338_219_291,
        prompt_eval_duration=130_079_000,
        eval_duration=4_232_710_000,
        first_token_s=0.25,
        run_s=10.75,
        load_key="a",
        job_class=JobClass.BATCH,
    ),
    FAILED,
    CANCELLED,
    EXPIRED,
    DEGRADED,
    TargetRecovered(version="0.33.0", away_s=12.5),
    TargetStalled(stage=Stage.ANSWERING, model="a", job_id="01A", silent_s=120.5),
    replace(SWAPPED, evicted="b", job_id="01A"),
    DaemonStarted(
        foreman_version="1.0.0",
        sqlite_version="3.40.1",
        waiting=2,
        requeued=1,
        cancelled=1,
        scheduling=Scheduling(max_wait_s=600.0, max_wait_interactive_s=15.0, swap_share=0.25, parallel=2),
    ),
    DaemonStopped(waiting=2),
)


class HandClock:
    """Wall and monotonic time that only a test moves."""

    def __init__(self, at: int = 1_000_000) -> None:
        self.at = at

    def now(self) -> Micros:
        return Micros(self.at)

    def monotonic(self) -> float:
        return self.at / 1_000_000


def recorded(*events: Event, stream: str = "J", at: int = 1_000_000) -> list[Recorded]:
    """The events as a log of one stream would hold them, a second apart."""
    return [
        Recorded(
            position=Position(number),
            stream=stream,
            version=number,
            at=Micros(at * number),
            hash=bytes([number]) * 32,
            event=event,
        )
        for number, event in enumerate(events, start=1)
    ]


def job_after(*events: Event, stream: str = "J") -> Job | None:
    """The job that these events make."""
    job = None
    for item in recorded(*events, stream=stream):
        job = fold(job, item)
    return job


_NUMBERS = count(1)


def new_id() -> str:
    """An id that no other job has."""
    return f"J{next(_NUMBERS):08}"


def submit(
    *job_ids: str,
    key: str | None = None,
    fingerprint: str = "f",
    body: Artifact = BODY,
    secret: str | None = None,
    **members: Any,
) -> SubmitJobs:
    """A command to queue these jobs (one new one by default); members are those of `job.queued`."""
    new = []
    for ordinal, job_id in enumerate(job_ids or (new_id(),)):
        own = None if key is None else IdempotencyKey(key=key, fingerprint=fingerprint, ordinal=ordinal)
        queued = replace(QUEUED, request=body.ref, idempotency=own, **members)
        new.append(Submission(job_id=job_id, queued=queued, body=body, webhook_secret=secret))
    return SubmitJobs(submissions=tuple(new), key=key, fingerprint=fingerprint if key else "")


class CountingDatabase(Database):
    """A database that counts the transactions asked of it."""

    transactions = 0

    async def transact(self, statements: list[Statement]) -> None:
        self.transactions += 1
        await super().transact(statements)


@dataclass
class Core:
    """An open database and the ledger that runs on it."""

    database: CountingDatabase
    ledger: Ledger
    clock: HandClock
    task: asyncio.Task[None]
    unfinished: list[Job]

    async def do(self, *commands: Command) -> list[Outcome | BaseException]:
        """Hand all commands in at once; what came of each."""
        return await asyncio.gather(*map(self.ledger.execute, commands), return_exceptions=True)

    async def submitted(self, *job_ids: str, **members: Any) -> str:
        """Queue a job; its id."""
        outcome = await self.ledger.execute(submit(*job_ids, **members))
        return outcome.jobs[0].job_id

    async def limit(self, pages: int = 0) -> None:
        """Let the file have so many pages more than it has, as a full disk would."""
        ((now,),) = await self.database.read_as_writer("PRAGMA page_count")
        await self.database.read_as_writer(f"PRAGMA max_page_count = {now + pages}")

    async def types(self, stream: str) -> list[str]:
        return [item.event.type for item in await log.of_stream(self.database.read, stream, 0, 1_000)]

    async def crash(self) -> None:
        """End without a word: what is under way may become durable or not, nobody is told."""
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.database.close()


async def open_core(path: Path, clock: HandClock | None = None, max_queue: int = 1_000) -> Core:
    """A core on the file, with what it holds restored and nothing put right yet."""
    clock = clock or HandClock()
    database = CountingDatabase(path, MIGRATIONS)
    await database.open()
    ledger = Ledger(database, Feed(), clock, max_queue)
    try:
        unfinished = await ledger.restore()
    except BaseException:
        await database.close()
        raise
    return Core(database, ledger, clock, asyncio.create_task(ledger.run()), unfinished)


@asynccontextmanager
async def opened(folder: Path, clock: HandClock | None = None, max_queue: int = 1_000) -> AsyncIterator[Core]:
    """A core on the folder's database, closed in good order at the end of the block."""
    core = await open_core(folder / "foreman.db", clock, max_queue)
    try:
        yield core
    finally:
        core.ledger.close()
        await asyncio.wait({core.task})
        await core.database.close()


async def audit(core: Core) -> list[Recorded]:
    """Assert that the log is whole and that everything derived from it equals its fold; the log."""
    rows = await core.database.read(
        "SELECT position, stream, version, type, at, data, hash FROM events ORDER BY position"
    )
    events = [log.from_row(row) for row in rows]
    hash_, folded, versions, told = GENESIS, {}, Counter(), []
    work, statistics, timeline = Work(), Statistics(), Timeline()
    for number, (item, (position, stream, version, type_, at, text, stored)) in enumerate(
        zip(events, rows, strict=True), 1
    ):
        hash_ = chain_hash(hash_, position, stream, version, type_, at, text)
        versions[stream] += 1
        assert (item.position, item.version, stored) == (number, versions[stream], hash_)
        if stream != "daemon":
            job = folded[stream] = fold(folded.get(stream), item)
            if deliveries.is_told(job):
                told.append((position, stream, version, job.state.value, deliveries.receiver_of(job.webhook.url)))
        work.apply(item)
        statistics.apply(item)
        timeline.apply(item)
    assert core.ledger.feed.position == len(events)
    assert core.ledger.statistics == statistics
    assert core.ledger.timeline == timeline
    await _audit_tables(core, events, folded)
    await _audit_deliveries(core, [row for row in told if folded[row[1]].state is not State.EXPIRED], folded)
    _audit_work(core, work, folded)
    return events


def known_keys(events: list[Recorded]) -> set[tuple[str, int, str, str]]:
    """The idempotency rows as the fold of a log: a key is forgotten with the last of its jobs."""
    rows: dict[str, tuple[str, int, str, str]] = {}
    expired: set[str] = set()
    for item in events:
        if isinstance(item.event, JobQueued) and (own := item.event.idempotency) is not None:
            rows[item.stream] = (own.key, own.ordinal, item.stream, own.fingerprint)
        elif isinstance(item.event, JobExpired) and item.stream in rows:
            expired.add(item.stream)
            family = {job_id for job_id, row in rows.items() if row[0] == rows[item.stream][0]}
            if family <= expired:
                rows = {job_id: row for job_id, row in rows.items() if job_id not in family}
    return set(rows.values())


async def _audit_tables(core: Core, events: list[Recorded], folded: dict[str, Job]) -> None:
    read = core.database.read
    table = await read("SELECT job_id, ordinal, state, model, class, source, endpoint, completed, view FROM jobs")
    assert {row[0]: row[:-1] for row in table} == {job_id: jobs.row(job)[:-1] for job_id, job in folded.items()}
    assert {row[0]: jobs.from_view(row[-1]) for row in table} == folded
    assert set(await read("SELECT key, ordinal, job_id, fingerprint FROM idempotency")) == known_keys(events)
    kept = {
        (job.job_id, ref.name): ref
        for job in folded.values()
        if job.state is not State.EXPIRED
        for ref in (job.request, *job.artifacts)
    }
    stored = await read("SELECT job_id, name FROM artifacts")
    assert sorted(stored) == sorted(kept)
    for (job_id, name), ref in kept.items():
        found = await contents.find(read, job_id, name)
        assert found is not None
        assert found.ref == ref
        assert (len(found.data), hashlib.sha256(found.data).hexdigest()) == (ref.size, ref.sha256)


async def _audit_deliveries(core: Core, told: list[tuple[int, str, int, str, str]], folded: dict[str, Job]) -> None:
    """Log and table have the same to tell, nothing is kept of what has gone, and memory says what the table says."""
    read = core.database.read
    rows = await read("SELECT position, job_id, version, state, receiver FROM deliveries ORDER BY position")
    assert rows == told
    made = await read("SELECT position, attempts FROM deliveries WHERE attempts > 0 ORDER BY position")
    counted = "SELECT position, count(*), min(number), max(number) FROM delivery_attempts GROUP BY position"
    assert await read(f"{counted} ORDER BY position") == [(position, count, 1, count) for position, count in made]
    # One that was asked for once more is pending and has ended before.
    odd = "(status != 'pending' AND ended IS NULL) OR failures > attempts"
    assert await read(f"SELECT * FROM deliveries WHERE {odd}") == []
    secretive = {job_id for (job_id,) in await read("SELECT job_id FROM webhook_secrets")}
    assert secretive <= {job_id for job_id, job in folded.items() if job.webhook and job.state is not State.EXPIRED}
    await audit_outbox(core)


async def audit_outbox(core: Core) -> None:
    """Assert that the outbox in memory is what the table makes of it, and that it is in order."""
    real, stored = core.ledger.outbox, Outbox.of(await deliveries.pending(core.database.read))
    assert (lanes_of(real), real.pending) == (lanes_of(stored), stored.pending)
    assert_in_line(real)
    assert_in_line(stored)


def lanes_of(outbox: Outbox) -> dict[str, tuple[str, list[tuple[int, int, int]]]]:
    """Each lane as data: its receiver, and place, due time and failures of what is pending in it."""
    return {
        job_id: (lane.receiver, [(item.position, item.due, item.failures) for item in lane.pending])
        for job_id, lane in outbox.lanes.items()
    }


def assert_in_line(outbox: Outbox) -> None:
    """Assert that each lane that is not taken stands in its receiver's line by its head, and none is empty."""
    lines: dict[str, list[Due]] = {}
    for job_id, lane in outbox.lanes.items():
        positions = [item.position for item in lane.pending]
        assert positions
        assert positions == sorted(set(positions))
        assert lane.job_id == job_id
        if not lane.taken:
            head = lane.head
            place = Due(head.due, head.position, job_id, lane.receiver, head.failures)
            lines.setdefault(lane.receiver, []).append(place)
    assert {receiver: list(line) for receiver, line in outbox._lines.items()} == {
        receiver: sorted(line) for receiver, line in lines.items()
    }
    assert list(outbox._first) == sorted(min(line) for line in lines.values())
    pending = Counter(lane.receiver for lane in outbox.lanes.values() for _ in lane.pending)
    assert (outbox.pending, outbox.pending_of) == (pending.total(), pending)
    assert set(outbox._taken) == {job_id for job_id, lane in outbox.lanes.items() if lane.taken}


def _audit_work(core: Core, work: Work, folded: dict[str, Job]) -> None:
    """Memory, a fold of the log and the views say the same, and each job is in one place only."""
    real = core.ledger.work
    assert _waiting(core.ledger.work, core.clock) == _waiting(work, core.clock)
    assert _waiting(core.ledger.work, core.clock) == _waiting(
        Work.of(job for job in folded.values() if job.state in ACTIVE), core.clock
    )
    assert real.running.keys() == work.running.keys()
    for job_id, job in folded.items():
        places = (job_id in real.queue, job_id in real.running, job.finished)
        assert places == (job.state in WAITING, job.state in RUNNING, job.state in FINISHED | {State.EXPIRED})
        assert sum(places) == 1


def _waiting(work: Work, clock: HandClock) -> dict[str, object]:
    work.queue.settle(clock.now())
    return {entry.job_id: entry for entry in work.queue}
