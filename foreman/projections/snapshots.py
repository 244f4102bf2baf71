"""The `snapshots` table: states of projections that live in memory, so that a start need not fold the whole log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar, Final, NamedTuple, Protocol, Self, TypeVar

import orjson

from foreman.events.history import pages
from foreman.events.types import Position, Recorded
from foreman.projections import statistics, tally, timeline
from foreman.projections.statistics import Statistics
from foreman.projections.tally import NO_JOB, Facts, Tally
from foreman.projections.timeline import Timeline
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
SELECT: Final = "SELECT state, position FROM snapshots WHERE projection = ? AND version = ?"
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


class Fold(Projection, Protocol):
    """One that needs to know nothing but the events."""

    def apply(self, recorded: Recorded) -> None:
        """Take one more event into account."""
        ...


Folded = TypeVar("Folded", bound=Fold)
Kept = TypeVar("Kept", Statistics, Tally, Timeline)


def row(state: Projection) -> tuple[str, int, int, str]:
    """The state as parameters of UPSERT."""
    return (state.NAME, state.VERSION, state.position, state.dump())


async def taken_at(read: Read) -> Position:
    """How far the snapshots reach: a start folds what came after."""
    found = [await read(SELECT_POSITION, (kind.NAME, kind.VERSION)) for kind in (Statistics, Tally, Timeline)]
    return Position(min(rows[0][0] if rows else 0 for rows in found))


class States(NamedTuple):
    """All of them."""

    statistics: Statistics
    tally: Tally
    timeline: Timeline

    @classmethod
    def empty(cls) -> Self:
        """Those of an empty log."""
        return cls(Statistics(), Tally(), Timeline())

    def take(self, events: Sequence[Recorded], facts: Sequence[Facts]) -> None:
        """The next events, each with the facts of its job.

        Each projection takes all of them before the next one does: what it works on is in the processor's cache then.
        """
        for state in (self.statistics, self.timeline):
            apply = state.apply
            for recorded in events:
                apply(recorded)
        for recorded, own in zip(events, facts, strict=True):
            self.tally.apply(recorded, own)


async def states_now(read: Read) -> States:
    """All of them, each as of the log's head."""
    return States(await statistics_now(read), await tally_now(read), await timeline_now(read))


async def statistics_now(read: Read) -> Statistics:
    """The statistics as of the log's head: the last snapshot, and the events since."""
    return await _caught_up(read, await _taken(read, Statistics, statistics.load))


async def timeline_now(read: Read) -> Timeline:
    """The timeline as of the log's head, likewise."""
    return await _caught_up(read, await _taken(read, Timeline, timeline.load))


async def tally_now(read: Read) -> Tally:
    """The tally as of the log's head, likewise."""
    state = await _taken(read, Tally, tally.load)
    async for events in pages(read, state.position, PAGE):
        job_ids = orjson.dumps(sorted({recorded.stream for recorded in events})).decode()
        facts = {job_id: Facts(model, job_class) for job_id, model, job_class in await read(SELECT_FACTS, (job_ids,))}
        for recorded in events:
            state.apply(recorded, facts.get(recorded.stream, NO_JOB))
    return state


async def _taken(read: Read, kind: type[Kept], load: Callable[[str], Kept]) -> Kept:
    """The last snapshot of a projection, or its beginning: one that cannot be read is one that was not taken."""
    for text, position in await read(SELECT, (kind.NAME, kind.VERSION)):
        with suppress(ValueError, RecursionError):
            state = load(text)
            if state.position == position:
                return state
    return kind()


async def _caught_up(read: Read, state: Folded) -> Folded:
    async for events in pages(read, state.position, PAGE):
        for recorded in events:
            state.apply(recorded)
    return state
