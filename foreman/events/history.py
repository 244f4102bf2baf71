"""The whole log of a database file as stored rows, for audits, replays and exports. Checks and decodes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from foreman.events.codec import GENESIS
from foreman.events.log import SELECT_HEAD
from foreman.storage.still import Still

SELECT: Final = """
SELECT position, stream, version, type, at, data, hash FROM events WHERE position > ? AND position <= ?
ORDER BY position
"""
SELECT_STREAM: Final = """
SELECT position, stream, version, type, at, data, hash FROM events WHERE stream = ? ORDER BY version
"""
#: Past every position.
END: Final = 2**63 - 1


class StoredEvent(NamedTuple):
    """One event exactly as it is stored; nothing of it has been checked, not even its types."""

    position: int
    stream: str
    version: int
    type: str
    at: int
    data: str
    hash: bytes


class History:
    """The events of one database, those included that were moved to its archives."""

    def __init__(self, still: Still) -> None:
        self._still = still

    def head(self) -> tuple[int, bytes]:
        """The last event's position and hash; 0 and the genesis hash for an empty log."""
        found = next(self._still.rows(SELECT_HEAD), None)
        return (found[0], found[1]) if found else (0, GENESIS)

    def events(self, after: int = 0, until: int = END) -> Iterator[StoredEvent]:
        """The events past `after` and up to `until`, in order; a few in memory at a time."""
        return map(StoredEvent._make, self._still.rows(SELECT, (after, until)))

    def of_stream(self, stream: str) -> Iterator[StoredEvent]:
        """One stream's events, in order of version."""
        return map(StoredEvent._make, self._still.rows(SELECT_STREAM, (stream,)))
