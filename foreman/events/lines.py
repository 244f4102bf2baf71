"""The log as lines of JSON, the one format of exports and archives: a header, the events, artifacts, an end.

Each line is an object. An event's stored text is a string in it and not an object: its hash covers the text byte by
byte, and only strings come unchanged through every program that reads JSON and writes it again. Opens no file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from foreman import __version__
from foreman.errors import ExportInvalid
from foreman.events.codec import chain_hash

FORMAT: Final = "foreman-log"
FORMAT_VERSION: Final = 1
_KINDS: Final = (int, str, int, str, int, str, bytes)


class StoredEvent(NamedTuple):
    """One event exactly as it is stored; nothing of it has been checked, not even its types."""

    position: int
    stream: str
    version: int
    type: str
    at: int
    data: str
    hash: bytes


class StoredArtifact(NamedTuple):
    """One artifact exactly as it is stored, its bytes perhaps compressed."""

    job_id: str
    name: str
    content_type: str
    size: int
    sha256: str
    encoding: str
    bytes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What part of a log follows: the events past `after` and up to `until`, and the hashes of these two."""

    after: int
    previous_hash: bytes
    until: int
    hash: bytes
    foreman_version: str = __version__

    def line(self) -> bytes:
        """The first line."""
        members = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "foreman_version": self.foreman_version,
            "after": self.after,
            "previous_hash": self.previous_hash.hex(),
            "until": self.until,
            "hash": self.hash.hex(),
        }
        return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


def event_line(event: StoredEvent) -> bytes:
    """One event's line."""
    members = {**event._asdict(), "hash": event.hash.hex()}
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


def last_line(header: Header, artifacts: int = 0) -> bytes:
    """The line that says that nothing is missing."""
    members = {
        "end": True,
        "events": header.until - header.after,
        "artifacts": artifacts,
        "position": header.until,
        "hash": header.hash.hex(),
    }
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


def event_of(members: dict[str, Any]) -> StoredEvent:
    """The event of a line that is known to be whole. Raises KeyError, TypeError or ValueError for another."""
    return StoredEvent(
        members["position"],
        members["stream"],
        members["version"],
        members["type"],
        members["at"],
        members["data"],
        bytes.fromhex(members["hash"]),
    )


class CheckedLines:
    """Reads such lines and believes none: each event's place and hash are checked as it comes, the end at the end.

    Everything here raises ExportInvalid, which names the file, the line and the event. What remains after the events
    is read by `rest`.
    """

    def __init__(self, lines: Iterable[bytes], name: str) -> None:
        self._lines = iter(lines)
        self._name = name
        self._number = 0
        #: The first line past the events.
        self._following: dict[str, Any] | None = None
        self.header = self._read_header()
        self._position, self._hash = self.header.after, self.header.previous_hash

    def events(self) -> Iterator[StoredEvent]:
        """The events, in order. Raises ExportInvalid."""
        while "position" in (members := self._next()) and "end" not in members:
            yield self._checked(members)
        self._following = members
        if (self._position, self._hash) != (self.header.until, self.header.hash):
            raise self.wrong(f"the events end at position {self._position} instead of {self.header.until}")

    def rest(self) -> Iterator[dict[str, Any]]:
        """The members of the lines between the last event and the end. Raises ExportInvalid."""
        assert self._following is not None, "the events come first"
        count, members = 0, self._following
        while "end" not in members:
            count += 1
            yield members
            members = self._next()
        said = tuple(members.get(key) for key in ("events", "artifacts", "position", "hash"))
        if said != (self._position - self.header.after, count, self._position, self._hash.hex()):
            raise self.wrong("the end does not agree with what came before it")
        if next(self._lines, None) is not None:
            self._number += 1
            raise self.wrong("something follows the end")

    def wrong(self, what: str) -> ExportInvalid:
        """The error that says so of the line that was read last."""
        return ExportInvalid(f"{self._name}, line {self._number}: {what}")

    def _checked(self, members: dict[str, Any]) -> StoredEvent:
        due = self._position + 1
        try:
            event = event_of(members)
            # "5" and 5 come to the same hash.
            if any(type(value) is not kind for value, kind in zip(event, _KINDS, strict=True)):
                raise TypeError
            hash_ = chain_hash(self._hash, *event[:-1])
        except (KeyError, TypeError, ValueError):
            raise self.wrong(f"the event that should be at position {due} is not whole") from None
        if event.position != due:
            raise self.wrong(f"the event at position {due} is missing; here is that at position {event.position}")
        if hash_ != event.hash:
            raise self.wrong(f"the event at position {due} does not fit its hash: it, or one before it, was changed")
        self._position, self._hash = due, hash_
        return event

    def _read_header(self) -> Header:
        members = self._next()
        if members.get("specversion"):
            raise self.wrong("these are CloudEvents, which do not hold the log as it is stored; export without them")
        if members.get("format") != FORMAT:
            raise self.wrong("this is no export of a foreman's log")
        if members.get("format_version") != FORMAT_VERSION:
            raise self.wrong(f"its format is {members.get('format_version')}; this foreman knows {FORMAT_VERSION}")
        try:
            return Header(
                after=int(members["after"]),
                previous_hash=bytes.fromhex(members["previous_hash"]),
                until=int(members["until"]),
                hash=bytes.fromhex(members["hash"]),
                foreman_version=str(members["foreman_version"]),
            )
        except (KeyError, TypeError, ValueError):
            raise self.wrong("the header is not whole") from None

    def _next(self) -> dict[str, Any]:
        self._number += 1
        try:
            line = next(self._lines, None)
        except (OSError, EOFError, zlib.error) as error:  # a compressed file that is cut off or damaged
            raise self.wrong(f"it cannot be read on: {error}") from error
        if not line:
            raise self.wrong("the file was cut off here" if self._number > 1 else "the file is empty")
        try:
            members = orjson.loads(line)
        except ValueError:
            members = None
        if not isinstance(members, dict):
            raise self.wrong("this is no JSON object on a line of its own")
        return members
