"""The request bodies of Ollama's native routes: which field has which type, and what Go says when one is wrong.

`bind(route, value)` gives the fields as ordinary Python data. Rules that need a model are in `routes`, not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import goduration, gojson
from tests.fakes.gojson import GoError, Number, Pairs

_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_THINK_WORDS = ("high", "medium", "low", "max")
_THINK_CHOICES = '"high", "medium", "low", "max", true, or false'


class Mismatch(GoError):
    """A value of the wrong JSON type for its field."""

    def __init__(self, shown: str, go_type: str, struct: str, path: str) -> None:
        self.shown, self.go_type, self.struct, self.path = shown, go_type, struct, path
        where = f"struct field {struct}.{path}" if struct else "value"
        super().__init__(f"json: cannot unmarshal {shown} into Go {where} of type {go_type}")


@dataclass
class Place:
    """Where in the request a value stands. `faults` are those that Go reports only after reading on."""

    struct: str = ""
    path: str = ""
    faults: list[GoError] = field(default_factory=list)

    def inside(self, struct: str, name: str) -> Place:
        """The place of field `name` of `struct`, which stands here."""
        return Place(struct, f"{self.path}.{name}" if self.path else name, self.faults)

    def mismatch(self, value: Any, go_type: str, *, exact: bool = False) -> None:
        """Note that `value` does not fit `go_type`; `exact` shows the number itself."""
        shown = _kind(value) + (f" {value}" if exact else "")
        self.faults.append(Mismatch(shown, go_type, self.struct, self.path))


Binder = Callable[[Any, Place], Any]


def _kind(value: Any) -> str:
    if isinstance(value, Number):
        return "number"
    return {bool: "bool", str: "string", list: "array", Pairs: "object"}[type(value)]


def text(value: Any, place: Place) -> Any:
    """A Go string."""
    if isinstance(value, str) and not isinstance(value, Number):
        return value
    return place.mismatch(value, "string")


def flag(value: Any, place: Place) -> Any:
    """A Go bool."""
    return value if isinstance(value, bool) else place.mismatch(value, "bool")


def integer(value: Any, place: Place) -> Any:
    """A Go int: a number without fraction or exponent."""
    if not isinstance(value, Number):
        return place.mismatch(value, "int")
    if re.fullmatch(r"-?\d+", value) and -(2**63) <= int(value) < 2**63:
        return int(value)
    return place.mismatch(value, "int", exact=True)


def raw(value: Any, place: Place) -> Any:
    """Anything, not looked into."""
    return value


def anything(value: Any, place: Place) -> Any:
    """Anything; only a number too large for a float is refused."""
    if isinstance(value, Number) and float(value) in (float("inf"), float("-inf")):
        return place.mismatch(value, "float64", exact=True)
    if isinstance(value, Pairs):
        return {key: anything(member, place) for key, member in value}
    if isinstance(value, list):
        return [anything(member, place) for member in value]
    return gojson.number(value) if isinstance(value, Number) else value


def image(value: Any, place: Place) -> Any:
    """Go bytes: base64 text (Go also takes a list of numbers)."""
    if isinstance(value, list) and not isinstance(value, Pairs):
        return b""
    if not isinstance(value, str) or isinstance(value, Number):
        return place.mismatch(value, "api.ImageData")
    match = _BASE64.match(value)
    good = match.end() if match else 0
    if len(value) % 4 or value[good:] not in ("", "=", "=="):
        place.faults.append(GoError(f"illegal base64 data at input byte {good if value[good:] else good // 4 * 4}"))
    return value


def list_of(binder: Binder, go_type: str) -> Binder:
    """A Go slice."""

    def bind_list(value: Any, place: Place) -> Any:
        if not isinstance(value, list) or isinstance(value, Pairs):
            return place.mismatch(value, go_type)
        return [None if member is None else binder(member, place) for member in value]

    return bind_list


def map_of(binder: Binder, go_type: str) -> Binder:
    """A Go map with string keys."""

    def bind_map(value: Any, place: Place) -> Any:
        if not isinstance(value, Pairs):
            return place.mismatch(value, go_type)
        return {key: None if member is None else binder(member, place) for key, member in value}

    return bind_map


def struct(name: str, fields: Mapping[str, Binder]) -> Binder:
    """A Go struct: unknown keys are ignored, known ones match in any case."""

    def bind_struct(value: Any, place: Place) -> Any:
        if not isinstance(value, Pairs):
            return place.mismatch(value, f"api.{name}")
        found: dict[str, Any] = {}
        for key, member in value:
            known = key if key in fields else _fold(key)
            if known in fields and member is not None:
                found[known] = fields[known](member, place.inside(name, known))
        return found

    return bind_struct


def own_decoder(binder: Binder) -> Binder:
    """A type with an UnmarshalJSON of its own: its errors end the decoding at once, and name the outer struct."""

    def bind_whole(value: Any, place: Place) -> Any:
        inner = Place()
        bound = binder(value, inner)
        if not inner.faults:
            return bound
        first = inner.faults[0]
        if isinstance(first, Mismatch):
            path = f"{place.path}.{first.path}" if first.path else place.path
            raise Mismatch(first.shown, first.go_type, place.struct, path)
        raise first

    return bind_whole


def _fold(key: str) -> str:
    return key.replace("\u017f", "s").lower()  # lower() itself maps the Kelvin sign


def _keep_alive(value: Any, place: Place) -> Any:
    if isinstance(value, Number) and float(value) in (float("inf"), float("-inf")):
        return place.mismatch(value, "float64", exact=True)
    return goduration.keep_alive(value)


def _think(value: Any, place: Place) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or isinstance(value, Number):
        raise GoError(f"think must be a boolean or string ({_THINK_CHOICES})")
    if value not in _THINK_WORDS:
        raise GoError(f"invalid think value: {gojson.quote(value)} (must be {_THINK_CHOICES})")
    return value


def _ordered_map(value: Any, place: Place) -> Any:
    if not isinstance(value, Pairs):
        raise GoError("Value looks like object, but can't find closing '}' symbol")
    return gojson.plain(value)


_OPTIONS = map_of(anything, "map[string]interface {}")
_TEXTS = map_of(text, "map[string]string")
_IMAGES = list_of(image, "[]api.ImageData")
_KEEP_ALIVE, _THINK = own_decoder(_keep_alive), own_decoder(_think)

_CALLED = struct("ToolCallFunction", {"index": integer, "name": text, "arguments": _ordered_map})
_MESSAGE = own_decoder(
    struct(
        "Alias",
        {
            "role": text,
            "content": text,
            "thinking": text,
            "images": _IMAGES,
            "tool_calls": list_of(struct("ToolCall", {"id": text, "function": _CALLED}), "[]api.ToolCall"),
            "tool_name": text,
            "tool_call_id": text,
        },
    )
)
_MESSAGES = list_of(_MESSAGE, "[]api.Message")
_PARAMETERS = struct(
    "ToolFunctionParameters",
    {"type": text, "required": list_of(text, "[]string"), "properties": _ordered_map, "items": raw, "$defs": raw},
)
_FUNCTION = struct("ToolFunction", {"name": text, "description": text, "parameters": _PARAMETERS})
_TOOLS = list_of(struct("Tool", {"type": text, "items": raw, "function": _FUNCTION}), "api.Tools")

_RUN: dict[str, Binder] = {
    "model": text,
    "stream": flag,
    "format": raw,
    "keep_alive": _KEEP_ALIVE,
    "options": _OPTIONS,
    "think": _THINK,
    "truncate": flag,
    "shift": flag,
    "_debug_render_only": flag,
    "logprobs": flag,
    "top_logprobs": integer,
}
_NAMED: dict[str, Binder] = {"model": text, "name": text}
_REGISTRY = _NAMED | {"insecure": flag, "username": text, "password": text, "stream": flag}

BODIES: dict[str, Binder] = {
    "/api/chat": struct("ChatRequest", _RUN | {"messages": _MESSAGES, "tools": _TOOLS}),
    "/api/generate": struct(
        "GenerateRequest",
        _RUN
        | dict.fromkeys(("prompt", "suffix", "system", "template"), text)
        | {"context": list_of(integer, "[]int"), "raw": flag, "images": _IMAGES},
    ),
    "/api/embed": struct(
        "EmbedRequest",
        {
            "model": text,
            "input": anything,
            "keep_alive": _KEEP_ALIVE,
            "truncate": flag,
            "dimensions": integer,
            "options": _OPTIONS,
        },
    ),
    "/api/embeddings": struct(
        "EmbeddingRequest", {"model": text, "prompt": text, "keep_alive": _KEEP_ALIVE, "options": _OPTIONS}
    ),
    "/api/show": struct(
        "ShowRequest", _NAMED | {"system": text, "template": text, "verbose": flag, "options": _OPTIONS}
    ),
    "/api/copy": struct("CopyRequest", {"source": text, "destination": text}),
    "/api/delete": struct("DeleteRequest", _NAMED),
    "/api/pull": struct("PullRequest", _REGISTRY),
    "/api/push": struct("PushRequest", _REGISTRY),
    "/api/create": struct(
        "CreateRequest",
        _NAMED
        | dict.fromkeys(("quantize", "quantization", "from", "template", "system", "renderer", "parser"), text)
        | {"stream": flag, "files": _TEXTS, "adapters": _TEXTS, "license": raw, "messages": _MESSAGES}
        | dict.fromkeys(("parameters", "info"), _OPTIONS),
    ),
}


def bind(route: str, value: Any) -> dict[str, Any]:
    """The fields that a decoded body sets for `route`; GoError with Go's text when one has the wrong type."""
    place = Place()
    bound: Any = {} if value is None else BODIES[route](value, place)
    if place.faults:
        raise place.faults[0]
    return {name: member for name, member in bound.items() if member is not None}
