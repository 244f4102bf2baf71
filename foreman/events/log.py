"""The event log's table and how it is read. Appending is the ledger's alone; this module gives it the statement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from foreman.clock import Micros
from foreman.events import archives
from foreman.events.codec import CODEC, GENESIS
from foreman.events.types import DAEMON, Position, Recorded
from foreman.storage.reading import Read

SCHEMA: Final = """
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    stream   TEXT NOT NULL,
    version  INTEGER NOT NULL,
    type     TEXT NOT NULL,
    at       INTEGER NOT NULL,
    data     TEXT NOT NULL,
    hash     BLOB NOT NULL,
    UNIQUE (stream, version)
) STRICT;
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
"""

INSERT: Final = "INSERT INTO events (position, stream, version, type, at, data, hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
SELECT_HEAD: Final = "SELECT position, hash FROM events ORDER BY position DESC LIMIT 1"
SELECT_HASH: Final = "SELECT hash FROM events WHERE position = ?"
SELECT_STREAM_VERSION: Final = "SELECT coalesce(max(version), 0) FROM events WHERE stream = ?"
SELECT_AT: Final = "SELECT at FROM events WHERE position = ?"
SELECT_TIMES: Final = "SELECT position, at FROM events WHERE position IN (SELECT value FROM json_each(?))"
SELECT_AFTER: Final = """
SELECT position, stream, version, type, at, data, hash FROM events WHERE position > ? ORDER BY position LIMIT ?
"""
SELECT_STREAM: Final = """
SELECT position, stream, version, type, at, data, hash FROM events WHERE stream = ? AND version > ?
ORDER BY version LIMIT ?
"""
#: The wanted events from ?1 (left out) to ?2. Which model a job is for, its row says, which its first event wrote.
SELECT_PAGE: Final = """
SELECT position, stream, version, type, at, data, hash FROM events WHERE position > ?1 AND position <= ?2
AND (?6 IS NULL OR stream = ?6) AND (?3 IS NULL OR type IN (SELECT value FROM json_each(?3)))
AND (?4 IS NULL OR EXISTS (SELECT 1 FROM jobs WHERE jobs.job_id = events.stream AND jobs.model = ?4))
ORDER BY position LIMIT ?5
"""
#: The same of one stream. The plus keeps SQLite from walking through all positions instead of the stream's index.
SELECT_PAGE_OF_STREAM: Final = """
SELECT position, stream, version, type, at, data, hash FROM events WHERE stream = ?6
AND +position > ?1 AND +position <= ?2
AND (?3 IS NULL OR type IN (SELECT value FROM json_each(?3)))
AND (?4 IS NULL OR EXISTS (SELECT 1 FROM jobs WHERE jobs.job_id = events.stream AND jobs.model = ?4))
ORDER BY version LIMIT ?5
"""
#: Positions looked at for one page of a filtered log: what is rare must not keep a reader busy with all of it.
SCANNED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which events are wanted; None means any. `model` is a canonical name, and only jobs have one."""

    stream: str | None = None
    types: tuple[str, ...] | None = None
    model: str | None = None


def row(recorded: Recorded, text: str) -> tuple[Any, ...]:
    """The event as parameters of INSERT; `text` is its stored text, which its hash covers."""
    return (
        recorded.position,
        recorded.stream,
        recorded.version,
        recorded.event.type,
        recorded.at,
        text,
        recorded.hash,
    )


def from_row(row: tuple[Any, ...]) -> Recorded:
    """The event that a row holds. Raises UnknownEvent or LogCorrupt."""
    position, stream, version, type_, at, data, hash_ = row
    return Recorded(
        position=Position(position),
        stream=stream,
        version=version,
        at=Micros(at),
        hash=hash_,
        event=CODEC.decode(type_, data),
    )


async def head(read: Read) -> tuple[Position, bytes]:
    """The last event's position and hash; 0 and the genesis hash for an empty log."""
    rows = await read(SELECT_HEAD)
    return (Position(rows[0][0]), rows[0][1]) if rows else (Position(0), GENESIS)


async def hash_at(read: Read, position: int) -> bytes:
    """The hash of an event that is in the table; at position 0 the genesis hash."""
    rows = await read(SELECT_HASH, (position,))
    return bytes(rows[0][0]) if rows else GENESIS


async def after(read: Read, position: int, limit: int) -> list[Recorded]:
    """Events past `position`, in order."""
    return [from_row(row) for row in await read(SELECT_AFTER, (position, limit))]


async def of_stream(read: Read, stream: str, after_version: int, limit: int) -> list[Recorded]:
    """One stream's events past `after_version`, in order."""
    return [from_row(row) for row in await read(SELECT_STREAM, (stream, after_version, limit))]


async def page(read: Read, wanted: LogFilter, after: int, head: int, limit: int) -> tuple[list[Recorded], Position]:
    """Wanted events past `after` and up to `head`, and the position to go on from, past all that were looked at.

    It looks at so many positions at most, but at all of one stream's: the page may be empty before the head.
    """
    types = None if wanted.types is None else orjson.dumps(wanted.types).decode()
    if wanted.stream in {None, DAEMON}:  # the daemon's own stream grows for ever, as the log does
        last = min(head, after + SCANNED)
        rows = await read(SELECT_PAGE, (after, last, types, wanted.model, limit, wanted.stream))
    else:
        last = head
        rows = await read(SELECT_PAGE_OF_STREAM, (after, last, types, wanted.model, limit, wanted.stream))
    events = [from_row(row) for row in rows]
    reached = events[-1].position if len(events) == limit else last
    return events, Position(max(after, reached))


async def times(read: Read, positions: Iterable[Position]) -> dict[Position, Micros]:
    """When these events happened."""
    return dict(await read(SELECT_TIMES, (orjson.dumps(list(positions)).decode(),)))


async def position_at(read: Read, at: Micros) -> Position:
    """The first event of that time or later; past the head if there is none. A clock that leapt back blurs it.

    Only the table is looked at: a time before that gives the table's first event.
    """
    archived = await archives.last(read)
    low, high = (archived[0] if archived else 0) + 1, (await head(read))[0] + 1
    while low < high:
        middle = (low + high) // 2
        if (await read(SELECT_AT, (middle,)))[0][0] < at:
            low = middle + 1
        else:
            high = middle
    return Position(low)
