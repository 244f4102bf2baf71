"""The `snapshots` table: states of projections that live in memory, so that a start need not fold the whole log."""

from __future__ import annotations

from typing import Final

from foreman.events import log
from foreman.projections import statistics
from foreman.projections.statistics import Statistics
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
PAGE: Final = 5_000


def row(state: Statistics) -> tuple[str, int, int, str]:
    """The state as parameters of UPSERT."""
    return (state.NAME, state.VERSION, state.position, state.dump())


async def statistics_now(read: Read) -> Statistics:
    """The statistics as of the log's head: the last snapshot, and the events since."""
    rows = await read(SELECT, (Statistics.NAME, Statistics.VERSION))
    state = statistics.load(rows[0][0]) if rows else Statistics()
    while events := await log.after(read, state.position, PAGE):
        for recorded in events:
            state.apply(recorded)
    return state
