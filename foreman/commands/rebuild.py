"""A database made anew from a log: every table and every projection as the ledger would have left them.

Beside the ledger the only thing that writes, and only into a file that nobody has. Decides nothing: what happened has
been decided, and the state machine judges it once more. Its memory does not grow with the log, but for the jobs that
are unfinished at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from foreman.commands.beside import Beside, Owner, contents_of, put_outcomes
from foreman.commands.refolding import Batch, Chunk
from foreman.commands.schema import MIGRATIONS
from foreman.commands.sharing import Sharing
from foreman.errors import LogCorrupt
from foreman.events import log
from foreman.events.codec import GENESIS
from foreman.events.history import StoredEvent, chained
from foreman.events.types import JobExpired, Position
from foreman.processes import no_collector
from foreman.projections import contents, deliveries, jobs, keys, snapshots
from foreman.storage.fresh import Fresh, fresh
from foreman.storage.reading import Row

__all__ = ["Beside", "Rebuilt", "contents_of", "rebuild"]

START: Final = Position(0)
#: Events between two writes, and between two calls of `told`.
CHUNK: Final = 1_000
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

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "position": self.position,
            "hash": self.hash.hex(),
            "jobs": self.jobs,
            "artifacts": self.contents,
            "artifacts_missing": self.missing,
            "artifacts_refused": self.refused,
        }


def rebuild(
    path: Path,
    events: Iterable[StoredEvent],
    contents: Iterable[Row] = (),
    beside: Beside | None = None,
    told: Callable[[int], None] | None = None,
    sharing: Sharing | None = None,
) -> Rebuilt:
    """Make a new database at `path` from a whole log, given in order from its first event on.

    `contents` are rows of artifacts (job_id, name, content_type, size, sha256, encoding, bytes), those of a job
    together; one whose bytes are not what its event says is left out and counted. `beside` says how deliveries went.
    One of which nobody knows is `dead`: it is not sent again unless somebody asks for it. `told` is called with the
    position reached, now and then. `sharing` says what a second process does; it takes its part of a long log.

    Nothing is there under the name before all of it is. Raises LogCorrupt or UnknownEvent, naming the position, if the
    log contradicts itself; DatabaseUnusable if there is a file already, or the second process was ended by somebody;
    StorageFull.
    """
    with fresh(path, MIGRATIONS) as file, no_collector(), sharing or Sharing() as folding:
        making = _Making(file)
        for _ in making.take(events, folding):
            if told is not None:
                told(making.made.position)
        making.take_contents(contents)
        put_outcomes(file, beside)
    return making.made


class _Making:
    """The tables on their way, and the end of the chain."""

    def __init__(self, file: Fresh) -> None:
        self.file = file
        self.made = Rebuilt()

    def take(self, events: Iterable[StoredEvent], folding: Sharing) -> Iterator[None]:
        """Write all that the log comes to; yields after each chunk.

        While a chunk is folded the one before it is written and the one after it is read.
        """
        remaining, folded = chained(events), list[StoredEvent]()
        wrong: LogCorrupt | None = None
        while wrong is None:
            chunk: list[StoredEvent] = []
            try:
                chunk.extend(islice(remaining, CHUNK))
            except LogCorrupt as error:
                wrong = error  # an event before it may be wrong in another way, and is named first then
            if chunk:
                self._write(folded, folding.exchange(Chunk(list(zip(*chunk, strict=True)), self._views(chunk))))
                folded = chunk
                self.made.position, self.made.hash = Position(chunk[-1].position), chunk[-1].hash
                yield
            elif wrong is None:
                break
        self._write(folded, folding.exchange(Chunk()))  # that was the whole log, or what can be read of it
        if wrong is not None:
            raise wrong
        while not self._write([], folding.exchange(Chunk())):
            yield

    def _views(self, chunk: list[StoredEvent]) -> dict[str, str]:
        """Views of those jobs that may have been forgotten meanwhile."""
        expired = (event.stream for event in chunk if event.type == JobExpired.type)
        found = ((job_id, next(self.file.rows(jobs.SELECT_ONE, (job_id,)), None)) for job_id in expired)
        return {job_id: row[0] for job_id, row in found if row is not None}

    def _write(self, chunk: list[StoredEvent], batches: list[Batch]) -> bool:
        """Write events and what they come to; whether there is nothing after them."""
        insert, made = self.file.insert, self.made
        self.file.insert_many(log.INSERT, chunk)
        for batch in batches:
            insert(jobs.UPSERT, batch.jobs)
            insert(deliveries.INSERT, batch.told)
            insert(deliveries.DELETE, batch.untold)
            insert(keys.INSERT, batch.keys)
            insert(DELETE_SPENT, [(key,) for key in batch.spent])
            insert(snapshots.UPSERT, batch.states)
            made.jobs += batch.came
            made.missing += batch.artifacts
        return any(batch.states for batch in batches)

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
