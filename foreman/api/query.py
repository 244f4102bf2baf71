"""Query strings: what each route takes, with every fault named. Knows the shapes, not what they are for."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sanic import Request

from foreman.durations import duration_s
from foreman.errors import RequestInvalid
from foreman.events.codec import CODEC
from foreman.fsm.job import State

#: A wait longer than most proxies allow would only look like a broken connection.
LONGEST_WAIT_S: Final = 60.0
STATES: Final = ", ".join(state.value for state in State if state is not State.NEW)
#: SQLite's integers end here; no log gets that far.
LARGEST_POSITION: Final = 2**63 - 1
#: `wait=10` as RFC 7240 allows it to be written.
WAIT_PREFERENCE: Final = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)

Query = TypeVar("Query", bound=BaseModel)


class ListQuery(BaseModel):
    """`GET /jobs`."""

    model_config = ConfigDict(extra="forbid")

    state: str | None = None
    model: str | None = None
    job_class: Literal["batch", "interactive"] | None = Field(None, alias="class")
    source: Literal["sync", "async"] | None = None
    endpoint: Literal["chat", "generate"] | None = None
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, max_length=64)

    def states(self) -> tuple[State, ...] | None:
        """The states asked for, `a,b`. Raises RequestInvalid."""
        if self.state is None:
            return None
        names = [name.strip() for name in self.state.split(",")]
        unknown = [name for name in names if name == State.NEW or name not in set(State)]
        if unknown:
            raise RequestInvalid(f"'state': {', '.join(unknown)!r} is none of {STATES}")
        return tuple(State(name) for name in names)

    def before(self) -> int | None:
        """The position that the page before ended with. Raises RequestInvalid."""
        return position_in(self.cursor)


class DeliveriesQuery(BaseModel):
    """`GET /deliveries`."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["pending", "delivered", "dead", "gone"] | None = None
    receiver: str | None = Field(None, min_length=1, max_length=300)
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, max_length=64)


class FollowQuery(BaseModel):
    """`GET /events` as a stream: which events, and the position before the first."""

    model_config = ConfigDict(extra="forbid")

    after: int | None = Field(None, ge=0, le=LARGEST_POSITION)
    job: str | None = None
    type_: str | None = Field(None, alias="type")
    model: str | None = Field(None, min_length=1)

    def types(self) -> tuple[str, ...] | None:
        """The types asked for, `a,b`. Raises RequestInvalid."""
        if self.type_ is None:
            return None
        names = tuple(name.strip() for name in self.type_.split(","))
        if unknown := [name for name in names if name not in CODEC.types]:
            raise RequestInvalid(f"'type': {', '.join(unknown)!r} is none of {', '.join(CODEC.types)}")
        return names


class EventsQuery(FollowQuery):
    """`GET /events` as a page."""

    limit: int = Field(100, ge=1, le=1000)


def cursor(position: int) -> str:
    """What `position_in` reads; callers are not to look into it."""
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def position_in(given: str | None) -> int | None:
    """The position in a cursor; None without one. Raises RequestInvalid."""
    if given is None:
        return None
    try:
        position = int(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
    except (ValueError, binascii.Error):
        position = -1
    if not 0 <= position <= LARGEST_POSITION:
        raise RequestInvalid("'cursor' must be the 'next' of an earlier page")
    return position


class NoQuery(BaseModel):
    """A route that takes no parameters."""

    model_config = ConfigDict(extra="forbid")


class QueueQuery(BaseModel):
    """`GET /queue`: how many jobs to show of each load key."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(10, ge=0, le=20)


class StatisticsQuery(BaseModel):
    """`GET /statistics`: how far back."""

    model_config = ConfigDict(extra="forbid")

    window: Literal["1h", "6h", "24h", "7d", "30d"] = "1h"


class AuditQuery(BaseModel):
    """`GET /audit/head`: which event's hash; None means the last one's."""

    model_config = ConfigDict(extra="forbid")

    position: int | None = Field(None, ge=0, le=LARGEST_POSITION)


class WaitQuery(BaseModel):
    """`GET /jobs/{id}`."""

    model_config = ConfigDict(extra="forbid")

    wait: str | None = None


class StreamQuery(BaseModel):
    """`GET /jobs/{id}/stream`: the first line wanted (from 0 on), and the run it belongs to."""

    model_config = ConfigDict(extra="forbid")

    offset: int = Field(0, ge=0)
    run: int = Field(1, ge=1)


def read_query(shape: type[Query], request: Request) -> Query:
    """The query string as that shape. Raises RequestInvalid naming every fault."""
    given: dict[str, str] = {}
    for name, value in request.get_query_args(keep_blank_values=True):
        if name in given:
            raise RequestInvalid(f"'{name}' is given twice")
        given[name] = value
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        faults = []
        for detail in error.errors():
            name = ".".join(str(part) for part in detail["loc"])
            unknown = detail["type"] == "extra_forbidden"
            faults.append(f"'{name}' is not a parameter here" if unknown else f"'{name}': {detail['msg']}")
        raise RequestInvalid("; ".join(faults)) from error


def wanted_wait(query: WaitQuery, request: Request) -> tuple[float, bool]:
    """Seconds to wait, and whether they come from a `Prefer` header (RFC 7240), which is capped instead of refused."""
    if query.wait is not None:
        wait_s = _seconds(query.wait)
        if not 0 <= wait_s <= LONGEST_WAIT_S:
            raise RequestInvalid(f"'wait' must be from 0 to {LONGEST_WAIT_S:g} seconds")
        return wait_s, False
    for header in request.headers.getall("prefer", []):
        for preference in header.split(","):
            if given := WAIT_PREFERENCE.fullmatch(preference):
                return min(float(given[1]), LONGEST_WAIT_S), True
    return 0.0, False


def _seconds(text: str) -> float:
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return duration_s(text)
    except ValueError as error:
        raise RequestInvalid("'wait' must be a duration such as 30s, or seconds") from error
