"""Events to stored text and back, across every schema version ever written. The only module that knows the text.

Stored text is JSON whose first member is `v`, the schema version it was written with. The hash chain covers the
stored text itself, so nothing has to be re-encoded to be checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from foreman.errors import LogCorrupt, RequestInvalid, UnknownEvent
from foreman.events.daemon import DAEMON_EVENTS
from foreman.events.types import JOB_EVENTS, Event

#: What stands before the first event in the hash chain.
GENESIS = bytes(32)

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class Codec:
    """Encodes events and decodes any version of them; one registry of types and upcasters."""

    def __init__(
        self, types: tuple[type[Event], ...], upcasters: Mapping[tuple[str, int], Upcaster] | None = None
    ) -> None:
        """`upcasters` maps (type, schema version) to the function that makes the next version's members of it."""
        self.types = {cls.type: cls for cls in types}
        self._write = msgspec.json.Encoder().encode
        self._readers = {cls.type: msgspec.json.Decoder(cls).decode for cls in types}
        self._prefixes = {cls.type: f'{{"v":{cls.schema}' for cls in types}
        self._heads = {type_: (prefix + ",", prefix + "}") for type_, prefix in self._prefixes.items()}
        self.upcasters = dict(upcasters or {})

    def encode(self, event: Event) -> str:
        """The stored text of an event. Raises RequestInvalid for what JSON cannot hold, as half a surrogate pair."""
        try:
            text = self.members(event).decode()
        except (TypeError, ValueError) as error:
            raise RequestInvalid(f"a {event.type} event cannot hold this: {error}") from error
        prefix = self._prefixes[event.type]
        return prefix + ("}" if text == "{}" else "," + text[1:])

    def members(self, event: Event) -> bytes:
        """An event as JSON without a schema version, as answers show it."""
        return self._write(event)

    def decode(self, type_: str, text: str) -> Event:
        """The event that was stored, in today's shape.

        Raises UnknownEvent for a type or a schema version from the future, LogCorrupt for text that is no event.
        """
        read = self._readers.get(type_)
        if read is None:
            raise UnknownEvent(f"the log holds an event of the unknown type {type_!r}")
        try:
            if text.startswith(self._heads[type_]):
                return read(text)
            return msgspec.convert(self._upcast(type_, msgspec.json.decode(text)), self.types[type_])
        except (ValueError, LookupError, TypeError, RecursionError) as error:  # what an upcaster may raise, too
            raise LogCorrupt(f"the log holds a {type_} event that cannot be read: {error}") from error

    def _upcast(self, type_: str, decoded: Any) -> dict[str, Any]:
        if not isinstance(decoded, dict) or type(decoded.get("v")) is not int:
            raise LogCorrupt(f"the log holds a {type_} event without a schema version")
        members: dict[str, Any] = decoded
        version, current = members.pop("v"), self.types[type_].schema
        if version > current:
            raise UnknownEvent(f"the log holds {type_} in schema version {version}; this foreman knows up to {current}")
        while version < current:
            upcaster = self.upcasters.get((type_, version))
            if upcaster is None:
                raise UnknownEvent(f"no upcaster leads from version {version} of {type_} to {current}")
            members = upcaster(members)
            version += 1
        return members


CODEC = Codec(JOB_EVENTS + DAEMON_EVENTS)


def chain_hash(previous: bytes, position: int, stream: str, version: int, type_: str, at: int, text: str) -> bytes:
    """SHA-256 over the previous event's hash and this event's bytes.

    The bytes are `position, stream, version, type, at` and the stored text, a line feed between each; of these only
    the text could hold one, and it is last.
    """
    head = f"{position}\n{stream}\n{version}\n{type_}\n{at}\n{text}"
    return hashlib.sha256(previous + head.encode()).digest()
