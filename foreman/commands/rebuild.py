"""A database made anew from a log: every table and every projection as the ledger would have left them.

Beside the ledger the only thing that writes, and only into a file that nobody has. Decides nothing: what happened has
been decided, and the state machine judges it once more. Its memory does not grow with the log, but for the jobs that
are unfinished at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from foreman.clock import Micros
from foreman.commands.beside import Beside, Owner, contents_of, found, put_outcomes
from foreman.commands.schema import MIGRATIONS
from foreman.errors import ForemanError, LogCorrupt, UnknownEvent
from foreman.events import log
from foreman.events.codec import CODEC, GENESIS, chain_hash
from foreman.events.daemon import DAEMON_EVENTS
from foreman.events.history import StoredEvent
from foreman.events.types import DAEMON, JobDone, JobExpired, JobQueued, Position, Recorded
from foreman.projections import contents, deliveries, jobs, keys, snapshots
from foreman.projections.job import Job, fold
from foreman.projections.statistics import Statistics
from foreman.projections.tally import NO_JOB, Tally, facts_of
from foreman.projections.timeline import Timeline
from foreman.storage.fresh import Fresh, fresh
from foreman.storage.reading import Row

__all__ = ["Beside", "Rebuilt", "contents_of", "rebuild"]

START: Final = Position(0)
#: Events between two writes, and between two calls of `told`.
CHUNK: Final = 5_000
#: Artifacts of a chunk; each may have megabytes.
FEW: Final = 16
#: So many of the contents that were left out are named.
NAMED: Final = 10

#: Of a key whose job has expired: a job without a view yet is unfinished.
DELETE_SPENT: Final = """
DELETE FROM idempotency WHERE key = ?1 AND NOT EXISTS (
    SELECT 1 FROM idempotency AS own LEFT JOIN jobs USING (job_id)
    WHERE own.key = ?1 AND coalesce(jobs.state, '') != 'expired'
)
"""


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """What was made."""

    position: Position = START
    hash: bytes = GENESIS
    jobs: int = 0
    #: Artifacts that were taken over, and those that the log says there are and nobody had.
    contents: int = 0
    missing: int = 0
    #: Artifacts that are not what the log says, or of which it says nothing, and the names of the first of them.
    refused: int = 0
    refused_names: list[str] = field(default_factory=list)


def rebuild(
    path: Path,
    events: Iterable[StoredEvent],
    contents: Iterable[Row] = (),
    beside: Beside | None = None,
    told: Callable[[int], None] | None = None,
) -> Rebuilt:
    """Make a new database at `path` from a whole log, given in order from its first event on.

    `contents` are rows of artifacts (job_id, name, content_type, size, sha256, encoding, bytes), those of a job
    together; one whose bytes are not what its event says is left out and counted. `beside` says how deliveries went.
    One of which nobody knows is `dead`: it is not sent again unless somebody asks for it. `told` is called with the
    position reached, now and then.

    Nothing is there under the name before all of it is. Raises LogCorrupt or UnknownEvent, naming the position, if the
    log contradicts itself; DatabaseUnusable if there is a file already; StorageFull.
    """
    with fresh(path, MIGRATIONS) as file:
        making = _Making(file)
        remaining = iter(events)
        while chunk := list(islice(remaining, CHUNK)):
            making.take(chunk)
            if told is not None:
                told(making.made.position)
        making.end()
        making.take_contents(contents)
        put_outcomes(file, beside)
    return making.made


class _Making:
    """The tables on their way: what is known of them that is not in the file yet."""

    def __init__(self, file: Fresh) -> None:
        self.file = file
        self.made = Rebuilt()
        self.statistics, self.tally, self.timeline = Statistics(), Tally(), Timeline()
        self._daemon_version = 0
        #: Every unfinished job, and those that have finished since the last write.
        self._jobs: dict[str, Job] = {}
        self._ended: set[str] = set()
        self._told: list[Row] = []
        self._keys: list[Row] = []
        self._untold: list[Row] = []
        #: Keys of jobs that have expired: they may be spent.
        self._spent: set[str] = set()

    def take(self, chunk: list[StoredEvent]) -> None:
        """The log's next events: check them, fold them, write them."""
        try:
            for stored in chunk:
                self._take(stored)
        except (UnknownEvent, LogCorrupt) as error:
            raise type(error)(f"event {stored.position}: {error}") from error
        except ForemanError as error:
            raise LogCorrupt(f"event {stored.position}: {error}") from error
        self.file.insert(log.INSERT, chunk)
        self._write()

    def end(self) -> None:
        """That was the whole log."""
        self._write()
        self.file.insert(jobs.UPSERT, map(jobs.row, self._jobs.values()))
        self._jobs.clear()
        states = (self.statistics, self.tally, self.timeline)
        self.file.insert(snapshots.UPSERT, [snapshots.row(state) for state in states])

    def _take(self, stored: StoredEvent) -> None:
        position, stream, version, type_, at, data, hash_ = stored
        made = self.made
        if position != made.position + 1:
            raise LogCorrupt(f"it stands where event {made.position + 1} belongs")
        if chain_hash(made.hash, position, stream, version, type_, at, data) != hash_:
            raise LogCorrupt("it does not fit the hash of the event before it")
        made.position, made.hash = Position(position), hash_
        event = CODEC.decode(type_, data)
        recorded = Recorded(
            position=made.position, stream=stream, version=version, at=Micros(at), hash=hash_, event=event
        )
        facts = NO_JOB
        if stream != DAEMON:
            facts = facts_of(self._fold(recorded))
        else:
            self._daemon_version += 1
            if version != self._daemon_version or not isinstance(event, DAEMON_EVENTS):
                raise LogCorrupt(f"{type_} of version {version} is not the next of the daemon's own events")
        self.statistics.apply(recorded)
        self.tally.apply(recorded, facts)
        self.timeline.apply(recorded)

    def _fold(self, recorded: Recorded) -> Job:
        job_id, event = recorded.stream, recorded.event
        before = self._jobs.get(job_id)
        if before is None and recorded.version > 1:
            before = found(self.file, job_id)
        job = self._jobs[job_id] = fold(before, recorded)
        if isinstance(event, JobQueued):
            self.made.jobs += 1
            self.made.missing += 1  # its request, until somebody brings it
            if event.idempotency is not None:
                self._learn(event.idempotency.key, event.idempotency.ordinal, job_id, event.idempotency.fingerprint)
        elif isinstance(event, JobDone):
            self.made.missing += len(event.artifacts)
        elif isinstance(event, JobExpired):
            assert before is not None, "the table lets it follow a final state only"
            self._expire(before)
        if job.finished:
            self._ended.add(job_id)
        if deliveries.is_told(job):
            told = deliveries.told(job)
            self._told.append((told.position, job_id, told.version, told.state, told.receiver, told.at))
        return job

    def _learn(self, key: str, ordinal: int, job_id: str, fingerprint: str) -> None:
        if key in self._spent:
            self._write()  # it may be forgotten, and used once more
        self._keys.append((key, ordinal, job_id, fingerprint))

    def _expire(self, job: Job) -> None:
        self.made.missing -= 1 + len(job.artifacts)
        if job.webhook is not None:
            self._untold.append((job.job_id,))
        if job.idempotency is not None:
            self._spent.add(job.idempotency.key)

    def _write(self) -> None:
        """Write what has come up since the last time; finished jobs are forgotten with it."""
        insert = self.file.insert
        insert(jobs.UPSERT, [jobs.row(self._jobs.pop(job_id)) for job_id in self._ended])
        insert(deliveries.INSERT, self._told)
        insert(deliveries.DELETE, self._untold)
        insert(keys.INSERT, self._keys)
        insert(DELETE_SPENT, [(key,) for key in self._spent])
        for written in (self._ended, self._told, self._untold, self._keys, self._spent):
            written.clear()

    def take_contents(self, rows: Iterable[Row]) -> None:
        """Artifacts, as far as they are what the log says."""
        remaining, owner = iter(rows), Owner(self.file)
        while chunk := list(islice(remaining, FEW)):
            self.file.insert(contents.INSERT, [row for row in chunk if self._is_sound(owner, row)])

    def _is_sound(self, owner: Owner, row: Row) -> bool:
        made = self.made
        if owner.has(row):
            made.contents += 1
            made.missing -= 1
            return True
        made.refused += 1
        if made.refused <= NAMED:
            made.refused_names.append(f"{row[1]} of {row[0]}")
        return False
