"""The ledger: the single writer. Takes commands, has each judged, and makes a whole batch durable at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

from foreman.clock import Clock
from foreman.commands.batch import Batch, Outcome
from foreman.commands.types import Command, Note, SubmitJobs
from foreman.errors import CommitUnknown, Draining, ForemanError, StorageFull
from foreman.events import log
from foreman.events.codec import GENESIS
from foreman.events.feed import OUTBOX, Feed
from foreman.events.types import DAEMON, Position, Recorded
from foreman.projections import deliveries, jobs, keys, snapshots
from foreman.projections.job import Job
from foreman.projections.outbox import Outbox
from foreman.projections.statistics import Statistics
from foreman.projections.tally import NO_JOB, Facts, Tally, facts_of
from foreman.projections.timeline import Timeline
from foreman.projections.work import Work
from foreman.storage.database import Database, Statement

__all__ = ["Ledger", "Outcome"]

#: Commands in one transaction; more would only make the first ones wait.
MAX_BATCH: Final = 500
#: Views of jobs kept at hand, so that a job's next command needs no read.
KEPT_JOBS: Final = 4_096
SNAPSHOT_EVERY: Final = 10_000


@dataclass(slots=True)
class Request:
    """A command on its way, and whoever waits for it."""

    command: Command
    answer: asyncio.Future[Outcome]

    def settle(self, result: Outcome | ForemanError) -> None:
        """Tell the caller, unless it knows already or has gone."""
        if self.answer.done():
            return
        if isinstance(result, Outcome):
            self.answer.set_result(result)
        else:
            self.answer.set_exception(result)


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
        self.outbox = Outbox()
        self.statistics = Statistics()
        self.tally = Tally()
        self.timeline = Timeline()
        #: Told of each commit's length, in seconds.
        self.on_commit: list[Callable[[float], None]] = []
        self._hash = GENESIS
        self._daemon_version = 0
        self._views: OrderedDict[str, Job] = OrderedDict()
        self._inbox: deque[Request] = deque()
        self._wake = asyncio.Event()
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
        self.outbox = Outbox.of(await deliveries.pending(read))
        self.statistics, self.tally, self.timeline = await snapshots.states_now(read)
        self._snapshot_at = await snapshots.taken_at(read)
        return unfinished

    def at_hand(self, job_id: str) -> Job | None:
        """The job if something has happened to it lately."""
        return self._views.get(job_id)

    async def job(self, job_id: str) -> Job | None:
        """The job as of the last commit, or None; costs a read only if nothing has happened to it for long."""
        return self._views.get(job_id) or await jobs.find(self.database.read, job_id)

    async def execute(self, command: Command) -> Outcome:
        """Have a command carried out; returns once it is durable. A caller that goes away does not undo it.

        Raises what `decide` and the state machine raise, StorageFull when the disk is full, Draining after close.
        """
        if self._closed:
            raise Draining
        request = Request(command, asyncio.get_running_loop().create_future())
        self._inbox.append(request)
        self._wake.set()
        return await request.answer

    async def run(self) -> None:
        """Carry out commands until `close()`; what was handed in before that is still carried out."""
        taken: list[Request] = []
        try:
            while self._inbox or not self._closed:
                await self._wake.wait()
                self._wake.clear()
                while self._inbox:
                    taken = [self._inbox.popleft() for _ in range(min(MAX_BATCH, len(self._inbox)))]
                    await self._commit(taken)
                    await self._shrink()
        finally:
            # Also after an error or a cancellation nobody may be left waiting.
            self._closed = True
            _settle_all(taken, CommitUnknown("foreman stopped before it could say"))
            _settle_all(self._inbox, Draining())
            self._inbox.clear()

    def close(self) -> None:
        """Accept no further commands; `run()` returns when those already here are done."""
        self._closed = True
        self._wake.set()

    async def _commit(self, requests: list[Request]) -> None:
        batch = await self._open_batch(requests)
        results = [_judge(batch, request.command) for request in requests]
        if not batch.is_empty:
            at = self.statistics.position
            due = at - self._snapshot_at >= SNAPSHOT_EVERY
            kept = (self.statistics, self.tally, self.timeline)
            states = [snapshots.row(state) for state in kept] if due else []
            began = self.clock.monotonic()
            try:
                await self.database.transact([*batch.statements(), Statement(snapshots.UPSERT, states)])
            except StorageFull as error:
                # Those who were refused too: what they were refused for may not have come about.
                _settle_all(requests, error)
                return
            took_s = self.clock.monotonic() - began
            for told in self.on_commit:
                told(took_s)
            if due:
                self._snapshot_at = at
            self._publish(batch)
        for request, result in zip(requests, results, strict=True):
            request.settle(result)

    async def _shrink(self) -> None:
        """After contents were removed: give the file's free pages back, as long as nobody waits for the ledger."""
        while self._free_pages and not self._inbox:
            left = await self.database.give_back_space()
            self._free_pages = left if left < self._free_pages else 0

    async def _open_batch(self, requests: Iterable[Request]) -> Batch:
        """A batch that knows every job and key that the commands are about."""
        wanted: set[str] = set()
        sent: set[str] = set()
        for command in (request.command for request in requests):
            if isinstance(command, SubmitJobs):
                if command.key is not None:
                    sent.add(command.key)
            elif not isinstance(command, Note):
                wanted.add(command.job_id)
        read = self.database.read_as_writer
        known = await keys.find(read, sent) if sent else {}
        wanted.update(job_id for key in known.values() for job_id in key.job_ids)
        at_hand = {job_id: job for job_id in wanted if (job := self._views.get(job_id)) is not None}
        missing = wanted - at_hand.keys()
        found = await jobs.find_many(read, missing) if missing else ()
        return Batch(
            now=self.clock.now(),
            position=self.feed.position,
            hash=self._hash,
            daemon_version=self._daemon_version,
            room=self.max_queue - len(self.work.queue),
            jobs=at_hand | {job.job_id: job for job in found},
            keys=known,
        )

    def _publish(self, batch: Batch) -> None:
        """What is durable now: move everything in memory, then tell."""
        self._hash, self._daemon_version = batch.hash, batch.daemon_version
        for job_id in batch.touched:
            self._views[job_id] = batch.jobs[job_id]
            self._views.move_to_end(job_id)
        while len(self._views) > KEPT_JOBS:
            self._views.popitem(last=False)
        for recorded in batch.recorded:
            self.work.apply(recorded)
            self.statistics.apply(recorded)
            self.tally.apply(recorded, _facts(batch, recorded))
            self.timeline.apply(recorded)
        for change in batch.outbox:
            self.outbox.apply(change)
        if batch.emptied:
            self._free_pages = inf
        self.feed.publish(batch.recorded)
        if batch.outbox:
            self.feed.wake(OUTBOX)


def _judge(batch: Batch, command: Command) -> Outcome | ForemanError:
    """What comes of a command: one that is refused fails alone."""
    try:
        return batch.carry_out(command)
    except ForemanError as error:
        return error


def _facts(batch: Batch, recorded: Recorded) -> Facts:
    return NO_JOB if recorded.stream == DAEMON else facts_of(batch.jobs[recorded.stream])


def _settle_all(requests: Iterable[Request], error: ForemanError) -> None:
    for request in requests:
        request.settle(error)
