"""A database as text: all that derives from its log, written the same way whoever wrote it. Reads, and judges nothing.

Two databases with equal dumps answer alike. Left out are the artifacts' bytes and how deliveries went, which no event
says; when a snapshot was taken, since only the state it leads to matters; and how a view is spelled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine, Iterable, Iterator
from itertools import zip_longest
from typing import Any, Final

import msgspec

from foreman.errors import ViewCorrupt
from foreman.events.history import History
from foreman.projections import jobs, snapshots
from foreman.projections.job import Job
from foreman.storage.reading import Row
from foreman.storage.still import Still

SELECT_JOBS: Final = """
SELECT job_id, ordinal, state, model, class, source, endpoint, completed, view FROM jobs ORDER BY job_id
"""
SELECT_KEYS: Final = "SELECT key, ordinal, job_id, fingerprint FROM idempotency ORDER BY key, ordinal"
#: The rest of a row says how the delivery went.
SELECT_DELIVERIES: Final = "SELECT position, job_id, version, state, receiver FROM deliveries ORDER BY position"


def canonical_dump(still: Still) -> Iterator[str]:
    """The lines, a few in memory at a time: events, jobs, idempotency keys, deliveries, states of projections."""
    for event in History(still).events():
        yield _line("event", (*event[:-1], event.hash.hex()))
    for *columns, view in still.rows(SELECT_JOBS):
        yield _line("job", (*columns, _readable(view)))
    for name, sql in (("key", SELECT_KEYS), ("delivery", SELECT_DELIVERIES)):
        for row in still.rows(sql):
            yield _line(name, row)
    yield from _answer(_states(still))


def digest(lines: Iterable[str]) -> str:
    """One text that stands for a whole dump."""
    sum_ = hashlib.sha256()
    for line in lines:
        sum_.update(line.encode() + b"\n")
    return sum_.hexdigest()


def first_difference(one: Iterable[str], other: Iterable[str]) -> tuple[str | None, str | None] | None:
    """The first lines that differ, None for one that has ended; None if all are equal."""
    return next((pair for pair in zip_longest(one, other) if pair[0] != pair[1]), None)


def _readable(view: str) -> Job | str:
    """A job however its view is written; what is none, as it stands, so that it differs from what should be there."""
    try:
        return jobs.from_view(view)
    except ViewCorrupt:
        return view


def _line(name: str, values: Row) -> str:
    return msgspec.json.encode((name, *values)).decode()


async def _states(still: Still) -> list[str]:
    return [_line("projection", snapshots.row(state)) for state in await snapshots.states_now(still.read)]


def _answer(reading: Coroutine[Any, Any, list[str]]) -> list[str]:
    """What it comes to. Reading from a still file never waits, so this needs no event loop and may be called in one."""
    try:
        reading.send(None)
    except StopIteration as ended:
        return list(ended.value)
    raise AssertionError("it waited")
