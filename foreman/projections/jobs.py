"""The `jobs` table: the view of every job, written in its event's own transaction. SQL and rows, no rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from foreman.errors import ViewCorrupt
from foreman.fsm.job import ACTIVE, State
from foreman.projections.job import Job
from foreman.storage.reading import Read
from foreman.target.names import canonical

SCHEMA: Final = """
CREATE TABLE jobs (
    job_id    TEXT PRIMARY KEY,
    ordinal   INTEGER NOT NULL UNIQUE,
    state     TEXT NOT NULL,
    model     TEXT NOT NULL,
    class     TEXT NOT NULL,
    source    TEXT NOT NULL,
    endpoint  TEXT NOT NULL,
    completed INTEGER,
    view      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_state ON jobs (state, ordinal);
CREATE INDEX jobs_by_model ON jobs (model, ordinal);
CREATE INDEX jobs_by_completion ON jobs (completed) WHERE completed IS NOT NULL AND state != 'expired';
"""
#: Without a rowid SQLite keeps a row of this size on a page of its own, 4.8 KB for each job; with one it takes 1.4 KB.
SMALLER: Final = """
ALTER TABLE jobs RENAME TO jobs_before;
DROP INDEX jobs_by_state;
DROP INDEX jobs_by_model;
DROP INDEX jobs_by_completion;
CREATE TABLE jobs (
    ordinal   INTEGER PRIMARY KEY,
    job_id    TEXT NOT NULL UNIQUE,
    state     TEXT NOT NULL,
    model     TEXT NOT NULL,
    class     TEXT NOT NULL,
    source    TEXT NOT NULL,
    endpoint  TEXT NOT NULL,
    completed INTEGER,
    view      TEXT NOT NULL
) STRICT;
INSERT INTO jobs (ordinal, job_id, state, model, class, source, endpoint, completed, view)
SELECT ordinal, job_id, state, model, class, source, endpoint, completed, view FROM jobs_before ORDER BY ordinal;
DROP TABLE jobs_before;
CREATE INDEX jobs_by_state ON jobs (state, ordinal);
CREATE INDEX jobs_by_model ON jobs (model, ordinal);
CREATE INDEX jobs_by_completion ON jobs (completed) WHERE completed IS NOT NULL AND state != 'expired';
"""

UPSERT: Final = """
INSERT INTO jobs (job_id, ordinal, state, model, class, source, endpoint, completed, view)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job_id) DO UPDATE SET state = excluded.state, completed = excluded.completed, view = excluded.view
"""

_write: Final = msgspec.json.Encoder().encode
_read: Final = msgspec.json.Decoder(Job).decode
_canonical: Final = lru_cache(maxsize=1_024)(canonical)

SELECT_ONE: Final = "SELECT view FROM jobs WHERE job_id = ?"
SELECT_MANY: Final = "SELECT view FROM jobs WHERE job_id IN (SELECT value FROM json_each(?))"
SELECT_ACTIVE: Final = "SELECT view FROM jobs WHERE state IN (SELECT value FROM json_each(?)) ORDER BY ordinal"
#: Finished before ?1; one that has something to tell yet has until ?2. (The plus keeps SQLite from going through all
#: that is pending for each of these jobs.)
SELECT_OVERDUE: Final = """
SELECT job_id FROM jobs WHERE completed IS NOT NULL AND state != 'expired' AND completed < ?1 AND (
    completed < ?2 OR NOT EXISTS (
        SELECT 1 FROM deliveries WHERE deliveries.job_id = jobs.job_id AND +deliveries.status = 'pending'
    )
)
ORDER BY completed LIMIT ?3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list; None means any. `before` is the ordinal that the page before ended with."""

    states: tuple[State, ...] | None = None
    model: str | None = None
    job_class: str | None = None
    source: str | None = None
    endpoint: str | None = None
    before: int | None = None
    limit: int = 100


def row(job: Job) -> tuple[Any, ...]:
    """The job as parameters of UPSERT."""
    return (
        job.job_id,
        job.order,
        str(job.state),
        _canonical(job.model),
        str(job.job_class),
        str(job.source),
        str(job.endpoint),
        job.completed_at,
        _write(job).decode(),
    )


def from_view(text: str) -> Job:
    """The job that `row` wrote. Raises ViewCorrupt."""
    try:
        return _read(text)
    except (ValueError, RecursionError) as error:
        raise ViewCorrupt(f"the view of a job cannot be read ({error}): {text[:60]!r}") from error


async def find(read: Read, job_id: str) -> Job | None:
    """The job, or None."""
    rows = await read(SELECT_ONE, (job_id,))
    return from_view(rows[0][0]) if rows else None


async def find_many(read: Read, job_ids: Iterable[str]) -> list[Job]:
    """Those of the jobs that exist, in no order."""
    rows = await read(SELECT_MANY, (orjson.dumps(list(job_ids)).decode(),))
    return [from_view(view) for (view,) in rows]


async def active(read: Read) -> list[Job]:
    """Every job that waits or runs, oldest first."""
    states = orjson.dumps(sorted(state.value for state in ACTIVE)).decode()
    return [from_view(view) for (view,) in await read(SELECT_ACTIVE, (states,))]


async def page(read: Read, wanted: JobFilter) -> list[Job]:
    """One page of jobs, newest first."""
    clauses: list[str] = []
    values: list[Any] = []
    if wanted.states is not None:
        clauses.append(f"state IN ({', '.join('?' * len(wanted.states))})")
        values += [state.value for state in wanted.states]
    for column, value in (
        ("model", None if wanted.model is None else canonical(wanted.model)),
        ("class", wanted.job_class),
        ("source", wanted.source),
        ("endpoint", wanted.endpoint),
    ):
        if value is not None:
            clauses.append(f"{column} = ?")
            values.append(value)
    if wanted.before is not None:
        clauses.append("ordinal < ?")
        values.append(wanted.before)
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    # Only the fixed texts above are formatted in; every value is bound.
    sql = f"SELECT view FROM jobs {where} ORDER BY ordinal DESC LIMIT ?"  # noqa: S608
    return [from_view(view) for (view,) in await read(sql, (*values, wanted.limit))]
