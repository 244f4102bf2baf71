"""The whole log of a database as stored rows, for audits, replays and exports: its archives first, then its table.

Checks nothing but the digests of archive files and, if asked to, the chain; decodes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain, islice
from typing import Final

from foreman.errors import LogCorrupt
from foreman.events import archives, log
from foreman.events.archives import Archive
from foreman.events.codec import GENESIS, chain_hash
from foreman.events.lines import StoredEvent
from foreman.events.log import SELECT_HEAD
from foreman.events.types import Recorded
from foreman.storage.reading import Read, Row
from foreman.storage.still import Still

__all__ = ["END", "History", "StoredEvent", "chained", "pages"]

SELECT: Final = """
SELECT position, stream, version, type, at, data, hash FROM events WHERE position > ? AND position <= ?
ORDER BY position
"""
SELECT_STREAM: Final = """
SELECT position, stream, version, type, at, data, hash FROM events WHERE stream = ? ORDER BY version
"""
#: Past every position.
END: Final = 2**63 - 1


class History:
    """The events of one database, those included that were moved to its archives.

    Reading raises ArchiveUnusable when it comes to an archive that is missing or was changed.
    """

    def __init__(self, still: Still) -> None:
        self._still = still

    def head(self) -> tuple[int, bytes]:
        """The last event's position and hash; 0 and the genesis hash for an empty log."""
        found = next(self._still.rows(SELECT_HEAD), None)
        return (found[0], found[1]) if found else (0, GENESIS)

    def archives(self, after: int = 0) -> list[Archive]:
        """The archives that hold events past the position, in order; their files have not been looked at."""
        if next(self._still.rows(archives.SELECT_TABLE), None) is None:
            return []
        return [Archive._make(row) for row in self._still.rows(archives.SELECT, (after,))]

    def events(self, after: int = 0, until: int = END) -> Iterator[StoredEvent]:
        """The events past `after` and up to `until`, in order; a few in memory at a time."""
        return map(StoredEvent._make, self.rows(after, until))

    def rows(self, after: int = 0, until: int = END) -> Iterator[Row]:
        """The same as plain tuples: to give a million of them names takes longer than to read them."""
        for archive in self.archives(after):
            for event in archive.events(self._still.path, after):
                if event.position > until:
                    return
                yield event
            after = archive.last
        yield from self._still.rows(SELECT, (after, until))

    def of_stream(self, stream: str) -> Iterator[StoredEvent]:
        """One stream's events, in order of version. Archives are read through only if its first ones are not here."""
        kept = map(StoredEvent._make, self._still.rows(SELECT_STREAM, (stream,)))
        first = next(kept, None)
        if first is None or first.version > 1:
            for archive in self.archives():
                yield from (event for event in archive.events(self._still.path) if event.stream == stream)
        if first is not None:
            yield from chain([first], kept)


def chained(events: Iterable[StoredEvent]) -> Iterator[StoredEvent]:
    """The events of a whole log, each once it is known to follow the one before.

    Raises LogCorrupt, naming the position, at the first one that does not.
    """
    position, last = 0, GENESIS
    for event in events:
        if event.position != position + 1:
            raise LogCorrupt(f"event {event.position}: it stands where event {position + 1} belongs")
        if chain_hash(last, *event[:-1]) != event.hash:
            raise LogCorrupt(f"event {event.position}: it does not fit the hash of the event before it")
        position, last = event.position, event.hash
        yield event


async def pages(read: Read, position: int, size: int) -> AsyncIterator[list[Recorded]]:
    """All events past `position`, so many at a time, for what is folded anew at a start. Raises ArchiveUnusable."""
    database, archived = await archives.past(read, position)
    for archive in archived:
        events = archive.events(database, position)
        while page := [log.from_row(event) for event in islice(events, size)]:
            yield page
        position = archive.last
    while page := await log.after(read, position, size):
        yield page
        position = page[-1].position
