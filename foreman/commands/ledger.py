"""The ledger: the single writer. Takes commands, judges each, and makes a whole batch durable in one transaction."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from foreman.clock import Clock, Micros
from foreman.commands.decide import Decision, Known, decide
from foreman.commands.types import Command, Note, SubmitJobs
from foreman.errors import CommitUnknown, Draining, ForemanError, StorageFull
from foreman.events import log
from foreman.events.codec import CODEC, GENESIS, chain_hash
from foreman.events.feed import Feed
from foreman.events.types import DAEMON, Event, JobQueued, Position, Recorded
from foreman.projections import contents, jobs, keys, snapshots
from foreman.projections.job import Job, fold
from foreman.projections.keys import KnownKey
from foreman.projections.statistics import Statistics
from foreman.projections.work import Work
from foreman.storage.database import Database, Statement

#: Commands in one transaction; more would only make the first ones wait.
MAX_BATCH: Final = 500
#: Views of jobs kept at hand, so that a job's next command needs no read.
KEPT_JOBS: Final = 4_096
SNAPSHOT_EVERY: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command did: the jobs it was about as they are now, and the events it made."""

    jobs: tuple[Job, ...]
    recorded: tuple[Recorded, ...]
    repeated: bool = False


@dataclass(slots=True)
class Request:
    """A command on its way, and whoever waits for it."""

    command: Command
    answer: asyncio.Future[Outcome]


@dataclass(slots=True)
class Batch:
    """What one transaction will write, built command by command on top of the ledger's state."""

    position: Position
    hash: bytes
    daemon_version: int
    room: int
    jobs: dict[str, Job] = field(default_factory=dict)
    keys: dict[str, KnownKey] = field(default_factory=dict)
    recorded: list[Recorded] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    artifacts: list[tuple[Any, ...]] = field(default_factory=list)
    new_keys: list[tuple[str, int, str, str]] = field(default_factory=list)
    emptied: list[tuple[str]] = field(default_factory=list)

    def add(self, decision: Decision, now: Micros) -> list[Recorded]:
        """Take a decision in, whole or not at all. Raises IllegalTransition."""
        position, hash_, daemon_version = self.position, self.hash, self.daemon_version
        made: list[Recorded] = []
        rows: list[tuple[Any, ...]] = []
        views: dict[str, Job] = {}
        for stream, event in decision.events:
            job = views.get(stream) or self.jobs.get(stream)
            version = daemon_version + 1 if stream == DAEMON else (job.version if job else 0) + 1
            text = CODEC.encode(event)
            position = Position(position + 1)
            hash_ = chain_hash(hash_, position, stream, version, event.type, now, text)
            item = Recorded(position=position, stream=stream, version=version, at=now, hash=hash_, event=event)
            if stream == DAEMON:
                daemon_version = version
            else:
                views[stream] = fold(job, item)
            made.append(item)
            rows.append(log.row(item, text))
        self.position, self.hash, self.daemon_version = position, hash_, daemon_version
        self.jobs.update(views)
        self.touched.update(views)
        self.recorded += made
        self.events += rows
        self.artifacts += [contents.row(job_id, item) for job_id, item in decision.artifacts]
        self.emptied += [(job_id,) for job_id in decision.emptied]
        self._count(decision.events)
        return made

    def _count(self, events: Iterable[tuple[str, Event]]) -> None:
        for stream, event in events:
            if isinstance(event, JobQueued):
                self.room -= 1
                if (key := event.idempotency) is not None:
                    before = self.keys[key.key].job_ids if key.key in self.keys else ()
                    self.keys[key.key] = KnownKey(fingerprint=key.fingerprint, job_ids=(*before, stream))
                    self.new_keys.append((key.key, key.ordinal, stream, key.fingerprint))

    def statements(self) -> list[Statement]:
        """What to run, in an order that a reader of the half-done transaction never sees anyway."""
        return [
            Statement(log.INSERT, self.events),
            Statement(jobs.UPSERT, [jobs.row(self.jobs[job_id]) for job_id in self.touched]),
            Statement(contents.INSERT, self.artifacts),
            Statement(keys.INSERT, self.new_keys),
            Statement(contents.DELETE, self.emptied),
            Statement(keys.DELETE, self.emptied),
        ]


class Ledger:
    """Owns the log's head and everything that is derived from it in memory.

    `run()` is a task of the daemon's; `execute()` is what everybody else calls. An error at COMMIT ends `run()`:
    what happened then is known only to the disk, and the next start reads it there.
    """

    def __init__(self, database: Database, feed: Feed, clock: Clock, max_queue: int) -> None:
        self.database = database
        self.feed = feed
        self.clock = clock
        self.max_queue = max_queue
        self.work = Work()
        self.statistics = Statistics()
        self._hash = GENESIS
        self._daemon_version = 0
        self._views: OrderedDict[str, Job] = OrderedDict()
        self._inbox: asyncio.Queue[Request | None] = asyncio.Queue()
        self._closed = False
        self._snapshot_at = Position(0)
        #: Pages that could be given back to the file system; infinite means not counted yet.
        self._free_pages: float = 0

    async def restore(self) -> list[Job]:
        """Take up where the file stands; the unfinished jobs, oldest first."""
        read = self.database.read_as_writer
        self.feed.position, self._hash = await log.head(read)
        self._daemon_version = (await read(log.SELECT_STREAM_VERSION, (DAEMON,)))[0][0]
        unfinished = await jobs.active(read)
        self.work = Work.of(unfinished)
        self.statistics = await snapshots.statistics_now(read)
        self._snapshot_at = self.statistics.position
        return unfinished

    async def job(self, job_id: str) -> Job | None:
        """The job as of the last commit, or None; costs a read only if nothing has happened to it for long."""
        return self._views.get(job_id) or await jobs.find(self.database.read, job_id)

    async def execute(self, command: Command) -> Outcome:
        """Have a command carried out; returns once it is durable. A caller that goes away does not undo it.

        Raises what `decide` and the state machine raise, StorageFull when the disk is full, Draining after close.
        """
        if self._closed:
            raise Draining
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait(Request(command, answer))
        return await answer

    async def run(self) -> None:
        """Carry out commands until `close()`; what was handed in before that is still carried out."""
        waiting: list[Request] = []
        try:
            while (first := await self._inbox.get()) is not None:
                waiting = [first]
                while len(waiting) < MAX_BATCH and not self._inbox.empty():
                    request = self._inbox.get_nowait()
                    if request is None:
                        self._inbox.put_nowait(None)
                        break
                    waiting.append(request)
                # A cancellation must not leave a transaction of unknown fate behind.
                await asyncio.shield(asyncio.ensure_future(self._commit(waiting)))
                waiting = []
                await self._shrink()
        finally:
            self._closed = True
            self._refuse_rest(waiting)

    def close(self) -> None:
        """Accept no further commands; `run()` returns when those already here are done."""
        if not self._closed:
            self._closed = True
            self._inbox.put_nowait(None)

    def _refuse_rest(self, waiting: list[Request]) -> None:
        while not self._inbox.empty():
            request = self._inbox.get_nowait()
            if request is not None:
                waiting.append(request)
        for request in waiting:
            if not request.answer.done():
                request.answer.set_exception(CommitUnknown("foreman stopped before it could say"))

    async def _commit(self, requests: Sequence[Request]) -> None:
        batch = await self._open_batch(requests)
        now = self.clock.now()
        decided: list[tuple[Request, Decision, list[Recorded]]] = []
        for request in requests:
            try:
                known = Known(now=now, room=batch.room, jobs=batch.jobs, keys=batch.keys)
                decision = decide(request.command, known)
                decided.append((request, decision, batch.add(decision, now)))
            except ForemanError as error:
                _settle(request, error)
        if batch.recorded:
            try:
                await self.database.transact([*batch.statements(), *self._snapshot()])
            except StorageFull as error:
                for request, _, _ in decided:
                    _settle(request, error)
                return
        self._publish(batch)
        for request, decision, made in decided:
            answer = tuple(batch.jobs[job_id] for job_id in decision.answer if job_id in batch.jobs)
            _settle(request, Outcome(jobs=answer, recorded=tuple(made), repeated=decision.repeated))

    async def _shrink(self) -> None:
        """After contents were removed: give the file's free pages back, as long as nobody waits for the ledger."""
        while self._free_pages and self._inbox.empty():
            before, self._free_pages = self._free_pages, await self.database.give_back_space()
            if self._free_pages >= before:
                return

    async def _open_batch(self, requests: Sequence[Request]) -> Batch:
        batch = Batch(
            position=self.feed.position,
            hash=self._hash,
            daemon_version=self._daemon_version,
            room=self.max_queue - len(self.work.queue),
        )
        wanted: set[str] = set()
        sent_keys: list[str] = []
        for request in requests:
            command = request.command
            if isinstance(command, SubmitJobs):
                if command.key is not None:
                    sent_keys.append(command.key)
            elif not isinstance(command, Note):
                wanted.add(command.job_id)
        if sent_keys:
            batch.keys = await keys.find(self.database.read_as_writer, sent_keys)
            wanted.update(job_id for known in batch.keys.values() for job_id in known.job_ids)
        missing = []
        for job_id in wanted:
            if (job := self._views.get(job_id)) is not None:
                batch.jobs[job_id] = job
            else:
                missing.append(job_id)
        if missing:
            for job in await jobs.find_many(self.database.read_as_writer, missing):
                batch.jobs[job.job_id] = job
        return batch

    def _snapshot(self) -> list[Statement]:
        if self.statistics.position - self._snapshot_at < SNAPSHOT_EVERY:
            return []
        self._snapshot_at = self.statistics.position
        return [Statement(snapshots.UPSERT, [snapshots.row(self.statistics)])]

    def _publish(self, batch: Batch) -> None:
        self._hash, self._daemon_version = batch.hash, batch.daemon_version
        for job_id in batch.touched:
            self._views[job_id] = batch.jobs[job_id]
            self._views.move_to_end(job_id)
        while len(self._views) > KEPT_JOBS:
            self._views.popitem(last=False)
        for recorded in batch.recorded:
            self.work.apply(recorded)
            self.statistics.apply(recorded)
        if batch.emptied:
            self._free_pages = inf
        self.feed.publish(batch.recorded)


def _settle(request: Request, result: Outcome | ForemanError) -> None:
    """Tell the caller, unless it has gone."""
    if request.answer.done():
        return
    if isinstance(result, Outcome):
        request.answer.set_result(result)
    else:
        request.answer.set_exception(result)
