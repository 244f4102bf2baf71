"""A log folded once more: chunk by chunk into the rows that a database is made of. Knows no file and no process.

Its memory does not grow with the log, but for the jobs that are unfinished at the same time: finished ones are kept
until they expire, so that their rows are written once, but no more than MOST_REMEMBERED of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

from foreman.errors import ForemanError, LogCorrupt, UnknownEvent
from foreman.events.codec import CODEC
from foreman.events.daemon import DAEMON_EVENTS
from foreman.events.types import DAEMON, Recorded
from foreman.fsm.job import State
from foreman.projections import deliveries, jobs, snapshots
from foreman.projections.job import Job, fold_in
from foreman.projections.snapshots import States
from foreman.projections.tally import NO_JOB, Facts, facts_of
from foreman.storage.reading import Row

#: Finished jobs that are remembered, of some 2 KB each: a day's, at one every four seconds.
MOST_REMEMBERED: Final = 20_000
#: Rows of one answer, once the log is at its end.
MOST_ROWS: Final = 5_000


class Chunk(NamedTuple):
    """Some events of a log, as columns, and the views of jobs that may have been forgotten; no events: the log's end.

    A forgotten job has its final state, so that `job.expired` is the only event which may need its view.
    """

    columns: Sequence[Sequence[Any]] = ()
    views: Mapping[str, str] = {}


@dataclass(slots=True)
class Batch:
    """Rows to be written together, in this order."""

    jobs: list[Row] = field(default_factory=list)
    told: list[Row] = field(default_factory=list)
    untold: list[Row] = field(default_factory=list)
    keys: list[Row] = field(default_factory=list)
    #: Keys of jobs that have expired: they may be forgotten.
    spent: set[str] = field(default_factory=set)
    #: Jobs that came, and the change of the number of artifacts that there should be.
    came: int = 0
    artifacts: int = 0
    #: States of the projections that live in memory: there is nothing after them.
    states: list[Row] = field(default_factory=list)


class Folding:
    """The log so far."""

    def __init__(self, remembered: int = MOST_REMEMBERED) -> None:
        self._remembered = remembered
        self._states = States.empty()
        self._daemon_version = 0
        self._jobs: dict[str, Job] = {}
        self._facts: dict[str, Facts] = {}
        #: Those of them that have finished, the earliest first, and those whose rows are written for good.
        self._finished: dict[str, None] = {}
        self._written: dict[str, None] = {}
        self._batches: list[Batch] = []
        self._batch = Batch()

    def answer(self, chunk: Chunk) -> list[Batch]:
        """What the next chunk comes to; after the log's end, a part of what remains.

        Raises LogCorrupt or UnknownEvent, naming the position.
        """
        self._batch = Batch()
        self._batches = [self._batch]
        if chunk.columns:
            self._take(chunk)
        else:
            self._end()
        return self._batches

    def _take(self, chunk: Chunk) -> None:
        forgotten, self._written = self._written, {}
        events, wrong = _decoded(chunk)
        facts = [self._apply(recorded, chunk.views) for recorded in events]
        if wrong is not None:
            raise wrong
        self._states.take(events, facts)
        # Their rows were in the answer before, so that they can be found in the file from now on.
        for job_id in forgotten.keys() - self._written.keys():
            del self._jobs[job_id]
        for job_id in list(islice(self._finished, max(0, len(self._finished) - self._remembered))):
            del self._finished[job_id], self._facts[job_id]
            self._write(self._jobs[job_id])

    def _end(self) -> None:
        for job_id in self._written:
            del self._jobs[job_id]
        self._written = dict.fromkeys(islice(self._jobs, MOST_ROWS))
        self._batch.jobs = [jobs.row(self._jobs[job_id]) for job_id in self._written]
        if not self._written:
            self._batch.states = [snapshots.row(state) for state in self._states]

    def _apply(self, recorded: Recorded, views: Mapping[str, str]) -> Facts:
        """Fold it into its job; the facts of that."""
        try:
            if recorded.stream == DAEMON:
                self._daemon(recorded)
                return NO_JOB
            self._fold(recorded, views)
        except ForemanError as error:
            raise LogCorrupt(f"event {recorded.position}: {error}") from error
        return self._facts.get(recorded.stream, NO_JOB)  # nothing is counted of who is removed by age

    def _daemon(self, recorded: Recorded) -> None:
        self._daemon_version += 1
        event, version = recorded.event, recorded.version
        if version != self._daemon_version or not isinstance(event, DAEMON_EVENTS):
            raise LogCorrupt(f"{event.type} of version {version} is not the next of the daemon's own events")

    def _fold(self, recorded: Recorded, views: Mapping[str, str]) -> None:
        job_id = recorded.stream
        before = self._jobs.get(job_id)
        if before is None and job_id in views:
            before = jobs.from_view(views[job_id])
        artifacts = 0 if before is None else len(before.artifacts)
        job = fold_in(before, recorded)
        if before is None:
            self._queued(job)
        elif job.state is State.EXPIRED:
            self._expired(job, artifacts)
        elif job.completed_at is not None:
            self._finished[job_id] = None
            self._batch.artifacts += len(job.artifacts)
        if job.webhook is not None and deliveries.is_told(job):
            told = deliveries.told(job)
            self._batch.told.append((told.position, job_id, told.version, told.state, told.receiver, told.at))

    def _queued(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        self._facts[job.job_id] = facts_of(job)
        batch = self._batch
        if job.idempotency is not None:
            if job.idempotency.key in batch.spent:  # it may be forgotten, and used once more
                batch = self._batch = Batch()
                self._batches.append(batch)
            key = job.idempotency
            batch.keys.append((key.key, key.ordinal, job.job_id, key.fingerprint))
        batch.came += 1
        batch.artifacts += 1  # its request

    def _expired(self, job: Job, artifacts: int) -> None:
        batch = self._batch
        batch.artifacts -= 1 + artifacts
        if job.webhook is not None:
            batch.untold.append((job.job_id,))
        if job.idempotency is not None:
            batch.spent.add(job.idempotency.key)
        self._finished.pop(job.job_id, None)
        self._facts.pop(job.job_id, None)
        self._jobs[job.job_id] = job  # it may have been forgotten
        self._write(job)

    def _write(self, job: Job) -> None:
        self._batch.jobs.append(jobs.row(job))
        self._written[job.job_id] = None


def _decoded(chunk: Chunk) -> tuple[list[Recorded], ForemanError | None]:
    """Its events as far as they can be read, and what is wrong with the next one."""
    events: list[Recorded] = []
    for position, stream, version, type_, at, data, hash_ in zip(*chunk.columns, strict=True):
        try:
            events.append(Recorded(position, stream, version, at, hash_, CODEC.decode(type_, data)))
        except (UnknownEvent, LogCorrupt) as error:
            return events, type(error)(f"event {position}: {error}")
    return events, None
