"""The `snapshots` table: states of projections that live in memory, so that a start need not fold the whole log."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

import orjson

from foreman.events import log
from foreman.events.types import Position
from foreman.projections import statistics, tally
from foreman.projections.statistics import Statistics
from foreman.projections.tally import NO_JOB, Facts, Tally
from foreman.storage.reading import Read

SCHEMA: Final = """
CREATE TABLE snapshots (
    projection TEXT NOT NULL,
    version    INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    state      TEXT NOT NULL,
    PRIMARY KEY (projection)
) STRICT;
"""
UPSERT: Final = "INSERT OR REPLACE INTO snapshots (projection, version, position, state) VALUES (?, ?, ?, ?)"
SELECT: Final = "SELECT state FROM snapshots WHERE projection = ? AND version = ?"
SELECT_POSITION: Final = "SELECT position FROM snapshots WHERE projection = ? AND version = ?"
SELECT_FACTS: Final = "SELECT job_id, model, class FROM jobs WHERE job_id IN (SELECT value FROM json_each(?))"
PAGE: Final = 5_000


class Projection(Protocol):
    """A projection that lives in memory."""

    VERSION: ClassVar[int]
    NAME: ClassVar[str]

    @property
    def position(self) -> Position:
        """The last event that it has taken into account."""
        ...

    def dump(self) -> str:
        """The state as text."""
        ...


def row(state: Projection) -> tuple[str, int, int, str]:
    """The state as parameters of UPSERT."""
    return (state.NAME, state.VERSION, state.position, state.dump())


async def taken_at(read: Read) -> Position:
    """How far the snapshots reach: a start folds what came after."""
    found = [await read(SELECT_POSITION, (kind.NAME, kind.VERSION)) for kind in (Statistics, Tally)]
    return Position(min(rows[0][0] if rows else 0 for rows in found))


async def statistics_now(read: Read) -> Statistics:
    """The statistics as of the log's head: the last snapshot, and the events since."""
    rows = await read(SELECT, (Statistics.NAME, Statistics.VERSION))
    state = statistics.load(rows[0][0]) if rows else Statistics()
    while events := await log.after(read, state.position, PAGE):
        for recorded in events:
            state.apply(recorded)
    return state


async def tally_now(read: Read) -> Tally:
    """The tally as of the log's head, likewise."""
    rows = await read(SELECT, (Tally.NAME, Tally.VERSION))
    state = tally.load(rows[0][0]) if rows else Tally()
    while events := await log.after(read, state.position, PAGE):
        job_ids = orjson.dumps(sorted({recorded.stream for recorded in events})).decode()
        facts = {job_id: Facts(model, job_class) for job_id, model, job_class in await read(SELECT_FACTS, (job_ids,))}
        for recorded in events:
            state.apply(recorded, facts.get(recorded.stream, NO_JOB))
    return state
