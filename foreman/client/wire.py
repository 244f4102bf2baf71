"""How the daemon's JSON becomes frozen dataclasses. Knows no route and none of the types.

Each type lists its members by the names they have on the wire. What a newer daemon adds is left in `raw`, so that a
client goes on working; what is missing and has no default is an answer that is not understood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any, Self, TypeVar

from foreman.client.errors import unexpected
from foreman.errors import RequestInvalid

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """Something that the daemon told."""

    #: All of it, as it came.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: Any) -> Self:
        """The same, typed. Raises KeyError, TypeError or ValueError if it is something else."""
        if not isinstance(raw, Mapping):
            raise TypeError("not an object")
        values: dict[str, Any] = {"raw": raw}
        for member in fields(cls):
            name = member.metadata.get("name", member.name)
            value = raw.get(name)
            if value is not None:
                values[member.name] = member.metadata.get("read", _as_it_is)(value)
            elif member.default is MISSING and member.default_factory is MISSING:
                values[member.name] = raw[name]
        return cls(**values)


def read(read: Callable[[Any], Any], name: str | None = None) -> Mapping[str, Any]:
    """The metadata of a member that is read in a way of its own, and may have another name on the wire."""
    return {"read": read} if name is None else {"read": read, "name": name}


def named(name: str) -> Mapping[str, Any]:
    """The metadata of a member that has another name on the wire."""
    return {"name": name}


def each(shape: type[Wire]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads a list of these."""
    return lambda items: tuple(shape.of(item) for item in items)


def moment(text: str) -> datetime:
    """A time as every answer writes it, which is in UTC."""
    return datetime.fromisoformat(text)


def encoded(value: Any) -> bytes:
    """The value as JSON. Raises RequestInvalid for what has no place in JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestInvalid(f"the request cannot be written as JSON: {error}") from error


def decoded(status: int, body: bytes, understand: Callable[[Any], T]) -> T:
    """What the body says. Raises UnexpectedAnswer."""
    try:
        return understand(json.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise unexpected(status, body) from error


def _as_it_is(value: Any) -> Any:
    return value
