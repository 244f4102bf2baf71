"""The `archives` table and its files: the oldest part of the log, where `foreman compact` has put it.

An archive is the log's own lines (`events.lines`), compressed, and never changed once it is written. The table says
which events it holds and what the file's digest is. Writes nothing: that is `foreman.archive`'s.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from foreman.errors import ArchiveUnusable
from foreman.events.lines import StoredEvent, event_of
from foreman.storage.reading import Read

#: An event may leave its table only if an archive is on record that has it.
SCHEMA: Final = """
CREATE TABLE archives (
    first         INTEGER PRIMARY KEY,
    last          INTEGER NOT NULL CHECK (last >= first),
    previous_hash BLOB NOT NULL,
    hash          BLOB NOT NULL,
    file          TEXT NOT NULL,
    sha256        TEXT NOT NULL,
    bytes         INTEGER NOT NULL
) STRICT;
CREATE TRIGGER archives_are_never_changed BEFORE UPDATE ON archives
BEGIN SELECT RAISE(ABORT, 'archives stay as they are'); END;
CREATE TRIGGER archives_are_never_forgotten BEFORE DELETE ON archives
BEGIN SELECT RAISE(ABORT, 'archives stay as they are'); END;
DROP TRIGGER events_are_never_removed;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM archives WHERE OLD.position BETWEEN first AND last)
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
"""
INSERT: Final = """
INSERT INTO archives (first, last, previous_hash, hash, file, sha256, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
#: Those that hold events past ?.
SELECT: Final = """
SELECT first, last, previous_hash, hash, file, sha256, bytes FROM archives WHERE last > ? ORDER BY first
"""
SELECT_LAST: Final = "SELECT last, hash, file FROM archives ORDER BY first DESC LIMIT 1"
#: A database that no foreman of this version has opened yet has no such table.
SELECT_TABLE: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'archives'"
SELECT_PATH: Final = "SELECT file FROM pragma_database_list WHERE name = 'main'"
CHUNK: Final = 1024 * 1024


class Archive(NamedTuple):
    """One archive, as the table says."""

    first: int
    last: int
    #: Those of the event before the first, and of the last.
    previous_hash: bytes
    hash: bytes
    #: Its path; one that is not absolute begins at the database's folder.
    file: str
    #: Of the file as it is, compressed.
    sha256: str
    bytes: int

    def path(self, database: Path) -> Path:
        """Where the file is."""
        return database.resolve().parent / self.file

    def check(self, database: Path) -> None:
        """Look whether the file is the one that was written. Raises ArchiveUnusable."""
        path = self.path(database)
        try:
            found = file_digest(path)
        except OSError as error:
            raise ArchiveUnusable(f"{self._named(path)} cannot be read: {error.strerror}") from error
        if found != (self.sha256, self.bytes):
            raise ArchiveUnusable(f"{self._named(path)} is not the file that was written: it was changed or cut off")

    def events(self, database: Path, after: int = 0) -> Iterator[StoredEvent]:
        """Its events past `after`, in order, once the file was checked. Raises ArchiveUnusable."""
        self.check(database)
        path = self.path(database)
        try:
            with gzip.open(path) as lines:
                next(lines)  # the header, which says what the table says
                for _ in range(self.first, self.last + 1):
                    event = event_of(orjson.loads(next(lines)))
                    if event.position > after:
                        yield event
        except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError, StopIteration) as error:
            raise ArchiveUnusable(f"{self._named(path)} does not hold what it should: {error!r}") from error

    def _named(self, path: Path) -> str:
        return f"the archive {path} of the events {self.first} to {self.last}"


def file_digest(path: Path) -> tuple[str, int]:
    """A file's SHA-256 in hex, and its size. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


async def last(read: Read) -> tuple[int, bytes, str] | None:
    """The last archived event's position and hash, and the file it is in; None if nothing was archived."""
    rows = await read(SELECT_LAST) if await read(SELECT_TABLE) else []
    return (rows[0][0], rows[0][1], rows[0][2]) if rows else None


async def past(read: Read, position: int) -> tuple[Path, list[Archive]]:
    """The database's path, and the archives that hold events past the position, in order."""
    ((path,),) = await read(SELECT_PATH)
    rows = await read(SELECT, (position,)) if await read(SELECT_TABLE) else []
    return Path(path), [Archive._make(row) for row in rows]
