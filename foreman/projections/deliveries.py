"""The `deliveries` table: one row for each event that a receiver is to be told of, its attempts beside it.

Rows are written in their event's own transaction and go when their job's contents do. SQL and rows, no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from foreman.clock import Micros
from foreman.destinations import parse_url
from foreman.events.types import Position
from foreman.fsm.job import FINISHED, State
from foreman.projections.job import Job
from foreman.projections.outbox import Attempt, Attempted, Change, Dropped, Pending, Revived, Status, Told
from foreman.storage.database import Statement
from foreman.storage.reading import Read, Row

SCHEMA: Final = """
CREATE TABLE deliveries (
    position INTEGER PRIMARY KEY,
    job_id   TEXT NOT NULL,
    version  INTEGER NOT NULL,
    state    TEXT NOT NULL,
    receiver TEXT NOT NULL,
    status   TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'dead', 'gone')),
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    ended    INTEGER
) STRICT;
CREATE INDEX deliveries_by_job ON deliveries (job_id, position);
CREATE INDEX deliveries_by_status ON deliveries (status, position);
CREATE TABLE delivery_attempts (
    position INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    address  TEXT,
    status   INTEGER,
    reply    TEXT,
    error    TEXT,
    PRIMARY KEY (position, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE webhook_secrets (
    job_id TEXT PRIMARY KEY,
    secret TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""

INSERT: Final = """
INSERT INTO deliveries (position, job_id, version, state, receiver, status, attempts, failures, due)
VALUES (?, ?, ?, ?, ?, 'pending', 0, 0, ?)
"""
#: Nothing is kept of an attempt whose delivery has gone meanwhile.
INSERT_ATTEMPT: Final = """
INSERT INTO delivery_attempts (position, number, at, duration, address, status, reply, error)
SELECT position, attempts + 1, ?2, ?3, ?4, ?5, ?6, ?7 FROM deliveries WHERE position = ?1 AND status = 'pending'
"""
#: `ended` is never taken back: on one that is pending it says that somebody has asked for it once more.
UPDATE: Final = """
UPDATE deliveries SET status = ?2, due = ?3, ended = coalesce(?4, ended),
    attempts = attempts + ?5, failures = failures + ?6
WHERE position = ?1 AND status = 'pending'
"""
#: The receiver wants no more of the job.
UPDATE_LATER: Final = """
UPDATE deliveries SET status = 'gone', ended = ?3 WHERE job_id = ?1 AND position > ?2 AND status = 'pending'
"""
REVIVE: Final = "UPDATE deliveries SET status = 'pending', due = ?2, failures = 0 WHERE position = ?1"
DELETE_ATTEMPTS: Final = """
DELETE FROM delivery_attempts WHERE position IN (SELECT position FROM deliveries WHERE job_id = ?)
"""
DELETE: Final = "DELETE FROM deliveries WHERE job_id = ?"
INSERT_SECRET: Final = "INSERT INTO webhook_secrets (job_id, secret) VALUES (?, ?)"  # noqa: S105  (a query)
DELETE_SECRET: Final = "DELETE FROM webhook_secrets WHERE job_id = ?"  # noqa: S105  (a query)

SELECT_PENDING: Final = """
SELECT job_id, receiver, position, due, failures FROM deliveries WHERE status = 'pending' ORDER BY position
"""
SELECT_GONE: Final = """
SELECT 1 FROM deliveries AS own JOIN deliveries AS earlier USING (job_id)
WHERE own.position = ? AND own.ended IS NULL AND earlier.status = 'gone' AND earlier.position < own.position LIMIT 1
"""
SELECT_SECRET: Final = "SELECT secret FROM webhook_secrets WHERE job_id = ?"  # noqa: S105  (a query)
COLUMNS: Final = "position, job_id, version, state, receiver, status, attempts, due, ended"
SELECT_ATTEMPTS: Final = """
SELECT position, at, duration, address, status, reply, error FROM delivery_attempts
WHERE position IN (SELECT value FROM json_each(?)) ORDER BY position, number
"""
SELECT_LAST: Final = """
SELECT made.position, at, duration, address, made.status, reply, error
FROM deliveries AS own JOIN delivery_attempts AS made ON made.position = own.position AND made.number = own.attempts
WHERE own.position IN (SELECT value FROM json_each(?))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event to one receiver, and how it stands."""

    position: Position
    job_id: str
    version: int
    #: The job's state that it tells of.
    state: str
    receiver: str
    status: Status
    #: Attempts made in all.
    attempts: int
    #: When the next attempt is due, if it is pending and the first of its lane.
    due: Micros
    ended: Micros | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries to list; None means any. Positions are those of their events, both ends included."""

    status: Status | None = None
    job_id: str | None = None
    receiver: str | None = None
    first: int | None = None
    last: int | None = None
    newest_first: bool = False
    limit: int = 100


def message_id(job_id: str, version: int) -> str:
    """What names a delivery to its receiver, the same at each attempt."""
    return f"{job_id}-{version}"


def is_told(job: Job) -> bool:
    """Whether the job's receiver is to hear of the state that the job is in. Removal by age is no news to anybody."""
    if job.webhook is None or job.state is State.EXPIRED:
        return False
    events = job.webhook.events
    return events is None or job.state in FINISHED or job.state in events


def told(job: Job) -> Told:
    """The change that tells of the job's last event."""
    assert job.webhook is not None
    return Told(
        job_id=job.job_id,
        position=job.position,
        version=job.version,
        receiver=receiver_of(job.webhook.url),
        state=job.state.value,
        at=job.updated_at,
    )


@lru_cache(maxsize=1_024)
def receiver_of(url: str) -> str:
    """The receiver's name, `host:port`."""
    try:
        return parse_url(url).receiver
    except ValueError:
        # It was accepted once: a rule that is stricter since must not stop the log. The attempt will say what is wrong.
        return "unknown"


def statements(changes: Iterable[Change], now: Micros) -> list[Statement]:
    """What to run for these changes, one after the other: each may be about rows that those before it wrote."""
    return [statement for change in changes for statement in _STATEMENTS[type(change)](change, now)]


def _insert(change: Told, now: Micros) -> list[Statement]:
    row = (change.position, change.job_id, change.version, change.state, change.receiver, change.at)
    return [Statement(INSERT, [row])]


def _update(change: Attempted, now: Micros) -> list[Statement]:
    made = [] if change.attempt is None else [_attempt_row(change.position, change.attempt)]
    later = [(change.job_id, change.position, now)] if change.status is Status.GONE else []
    return [
        Statement(INSERT_ATTEMPT, made),
        Statement(UPDATE, [_update_row(change, now)]),
        Statement(UPDATE_LATER, later),
    ]


def _revive(change: Revived, now: Micros) -> list[Statement]:
    return [Statement(REVIVE, [(position, change.at) for position in change.positions])]


def _delete(change: Dropped, now: Micros) -> list[Statement]:
    return [Statement(sql, [(change.job_id,)]) for sql in (DELETE_ATTEMPTS, DELETE, DELETE_SECRET)]


_STATEMENTS: Final[Mapping[type, Callable[[Any, Micros], list[Statement]]]] = {
    Told: _insert,
    Attempted: _update,
    Revived: _revive,
    Dropped: _delete,
}


def _attempt_row(position: Position, attempt: Attempt) -> tuple[Any, ...]:
    return (
        position,
        attempt.at,
        attempt.duration,
        attempt.address,
        attempt.status,
        attempt.reply,
        attempt.error,
    )


def _update_row(change: Attempted, now: Micros) -> tuple[Any, ...]:
    pending = change.status is Status.PENDING
    ended = None if pending else now
    return (change.position, change.status.value, change.due, ended, change.attempt is not None, pending)


async def pending(read: Read) -> list[tuple[str, str, Pending]]:
    """Every delivery that has not ended, with its job and receiver, in the order of their events."""
    rows = await read(SELECT_PENDING)
    return [(job_id, receiver, Pending(position, due, failures)) for job_id, receiver, position, due, failures in rows]


async def is_gone(read: Read, position: Position) -> bool:
    """Whether the receiver has answered an earlier delivery of the job's with 410, and nobody asked for this one."""
    return bool(await read(SELECT_GONE, (position,)))


async def secret_of(read: Read, job_id: str) -> str | None:
    """The job's own secret, if it came with one."""
    rows = await read(SELECT_SECRET, (job_id,))
    return rows[0][0] if rows else None


async def page(read: Read, wanted: DeliveryFilter) -> list[Delivery]:
    """One page of deliveries, in the order of their events or the other way round."""
    clauses, values = ["1"], []
    for clause, value in (
        ("status = ?", wanted.status and wanted.status.value),
        ("job_id = ?", wanted.job_id),
        ("receiver = ?", wanted.receiver),
        ("position >= ?", wanted.first),
        ("position <= ?", wanted.last),
    ):
        if value is not None:
            clauses.append(clause)
            values.append(value)
    order = "DESC" if wanted.newest_first else "ASC"
    # Only the fixed texts above are formatted in; every value is bound.
    sql = f"SELECT {COLUMNS} FROM deliveries WHERE {' AND '.join(clauses)} ORDER BY position {order} LIMIT ?"  # noqa: S608
    return [_from_row(row) for row in await read(sql, (*values, wanted.limit))]


async def attempts(read: Read, positions: Iterable[Position]) -> dict[Position, list[Attempt]]:
    """The attempts at these deliveries, oldest first."""
    return _by_position(await read(SELECT_ATTEMPTS, (orjson.dumps(list(positions)).decode(),)))


async def last_attempts(read: Read, positions: Iterable[Position]) -> dict[Position, list[Attempt]]:
    """The last attempt at each of these deliveries, if there was one."""
    return _by_position(await read(SELECT_LAST, (orjson.dumps(list(positions)).decode(),)))


def _by_position(rows: Iterable[Row]) -> dict[Position, list[Attempt]]:
    found: dict[Position, list[Attempt]] = {}
    for position, at, duration, address, status, reply, error in rows:
        attempt = Attempt(at=at, duration=duration, address=address, status=status, reply=reply, error=error)
        found.setdefault(position, []).append(attempt)
    return found


def _from_row(row: tuple[Any, ...]) -> Delivery:
    position, job_id, version, state, receiver, status, made, due, ended = row
    return Delivery(
        position=position,
        job_id=job_id,
        version=version,
        state=state,
        receiver=receiver,
        status=Status(status),
        attempts=made,
        due=due,
        ended=ended,
    )
