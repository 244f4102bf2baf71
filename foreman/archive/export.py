"""The log as lines of JSON for whoever takes it elsewhere: foreman's own lines, or CloudEvents. Reads, never writes.

Webhook secrets are in neither: they are no part of the log.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Final

import orjson

from foreman.clock import Micros, rfc3339
from foreman.errors import LogCorrupt, RequestInvalid
from foreman.events.codec import GENESIS
from foreman.events.history import History
from foreman.events.lines import Header, StoredArtifact, StoredEvent, event_line, last_line
from foreman.projections import contents
from foreman.storage.still import Still

#: Events between two words about how far it is.
TOLD_EVERY: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be exported: the events past `after` and up to `until` (None: all), and in which shape."""

    after: int = 0
    until: int | None = None
    artifacts: bool = False
    cloudevents: bool = False
    #: The CloudEvents' `source`; None makes one of the log's first hash, which no other log has.
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was exported."""

    header: Header
    artifacts: int


class Export:
    """One export of a database as it stands at one moment."""

    def __init__(self, file: Still, wanted: Wanted) -> None:
        """Raises RequestInvalid for positions that the log does not have."""
        self._file = file
        self._history = History(file)
        self._wanted = wanted
        self.header = self._header()

    @property
    def count(self) -> int:
        """How many events."""
        return self.header.until - self.header.after

    def write(self, out: IO[bytes], told: Callable[[int], None]) -> Exported:
        """Write it line by line; `told` hears of so many more events. Raises what reading and writing raise."""
        if self._wanted.cloudevents:
            self._write_events(out, self._cloudevent, told)
            return Exported(header=self.header, artifacts=0)
        out.write(self.header.line())
        self._write_events(out, event_line, told)
        count = 0
        if self._wanted.artifacts:
            for row in self._file.rows(contents.SELECT_ALL):
                out.write(_artifact_line(StoredArtifact._make(row)))
                count += 1
        out.write(last_line(self.header, count))
        return Exported(header=self.header, artifacts=count)

    def _write_events(self, out: IO[bytes], line: Callable[[StoredEvent], bytes], told: Callable[[int], None]) -> None:
        untold = 0
        for event in self._history.events(self.header.after, self.header.until):
            out.write(line(event))
            untold += 1
            if untold == TOLD_EVERY:
                told(untold)
                untold = 0
        told(untold)

    def _header(self) -> Header:
        head, head_hash = self._history.head()
        after, until = self._wanted.after, head if self._wanted.until is None else self._wanted.until
        if not after <= until <= head:
            raise RequestInvalid(f"the log ends at position {head}: there is nothing from {after + 1} to {until}")
        last_hash = head_hash if until == head else self._hash_at(until)
        return Header(after=after, previous_hash=self._hash_at(after), until=until, hash=last_hash)

    def _hash_at(self, position: int) -> bytes:
        if position == 0:
            return GENESIS
        event = next(self._history.events(position - 1, position), None)
        if event is None:
            raise LogCorrupt(f"the log has no event at position {position}")
        return event.hash

    def _cloudevent(self, event: StoredEvent) -> bytes:
        """CloudEvents 1.0 in JSON; the names of extensions must be lower case letters and digits."""
        source = self._wanted.source
        if source is None:
            source = f"/foreman/{self._hash_at(1).hex()[:16]}"
            self._wanted = Wanted(cloudevents=True, source=source)
        try:
            orjson.loads(event.data)
        except ValueError:
            raise LogCorrupt(f"the event at position {event.position} holds no JSON") from None
        members = {
            "specversion": "1.0",
            "id": str(event.position),
            "source": source,
            "type": event.type,
            "subject": event.stream,
            "time": rfc3339(Micros(event.at)),
            "datacontenttype": "application/json",
            "data": orjson.Fragment(event.data),
            "foremanhash": event.hash.hex(),
            "foremanversion": event.version,
        }
        return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


def as_lines(header: Header, events: Iterator[StoredEvent]) -> Iterator[bytes]:
    """The lines of an archive."""
    yield header.line()
    yield from map(event_line, events)
    yield last_line(header)


def _artifact_line(artifact: StoredArtifact) -> bytes:
    members = {**artifact._asdict(), "bytes": base64.b64encode(artifact.bytes).decode()}
    return orjson.dumps({"artifact": members}, option=orjson.OPT_APPEND_NEWLINE)
