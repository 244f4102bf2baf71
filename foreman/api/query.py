"""Query strings: what each route takes, with every fault named. Knows the shapes, not what they are for."""

from __future__ import annotations

from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sanic import Request

from foreman.config.kinds import duration_s
from foreman.errors import RequestInvalid
from foreman.fsm.job import State

#: A wait longer than most proxies allow would only look like a broken connection.
LONGEST_WAIT_S: Final = 60.0
STATES: Final = ", ".join(state.value for state in State if state is not State.NEW)

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
    given = {name: values[-1] for name, values in request.args.items()}
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
            name, _, value = preference.partition("=")
            if name.strip().lower() == "wait" and value.strip().isdigit():
                return min(float(value), LONGEST_WAIT_S), True
    return 0.0, False


def _seconds(text: str) -> float:
    if text.isdigit():
        return float(text)
    try:
        return duration_s(text)
    except ValueError as error:
        raise RequestInvalid("'wait' must be a duration such as 30s, or seconds") from error
