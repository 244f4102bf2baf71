"""Generation requests as Ollama reads them, and the bodies that foreman sends in their place. Pure.

Ollama decodes with Go's encoding/json: only the first JSON value counts, keys match in any case, the last of two
equal keys wins, broken UTF-8 becomes U+FFFD. Whatever Go accepts is understood here; what is not understood is
Ollama's to refuse.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from foreman.errors import RequestInvalid

#: A model is held this long (seconds) for a job that wants it gone afterwards: a load with 0 would be an unload.
LOAD_KEEP_ALIVE_S: Final = 300
#: Go's own limit of nesting is 10,000; Python's decoder needs the stack for it.
MAX_DEPTH: Final = 10_000
#: keep_alive's spellings of zero (ollama 0.33, api.Duration).
ZEROS: Final = (0, "0", "0s", "0m", "0h", "0ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What foreman needs to know of a chat or generate request. `model` is None if it names none."""

    model: str | None
    stream: bool
    options: Mapping[str, Any]
    keep_alive: Any
    #: There is nothing to answer: the request only loads or unloads.
    empty: bool
    #: The target may keep a whole tool call back until it has ended.
    tools: bool
    #: The request's JSON, re-encoded only if it could not be read as it was.
    body: bytes

    def releases(self, otherwise: int | str = -1) -> bool:
        """The model is to be gone as soon as the answer is. `otherwise` is sent as keep_alive if this has none."""
        held = otherwise if self.keep_alive is None else self.keep_alive
        return not isinstance(held, bool) and held in ZEROS

    @property
    def unloads(self) -> bool:
        """The request wants the model gone, at once and without scheduling."""
        return self.empty and self.releases()


def read_object(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object in a body as Go would find it, with bytes that any JSON reader takes. Raises RequestInvalid."""
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        decoded, body = _read_leniently(body)
    if not isinstance(decoded, dict):
        raise RequestInvalid("the request body must be a JSON object")
    return decoded, body


def read_generation(body: bytes) -> Generation:
    """Read a chat or generate request. Raises RequestInvalid if its body is no JSON object."""
    decoded, plain = read_object(body)
    fields = {key.lower(): value for key, value in decoded.items()}
    model, options = fields.get("model"), fields.get("options")
    return Generation(
        model=model if isinstance(model, str) and model else None,
        stream=fields.get("stream") is not False,
        options=options if isinstance(options, dict) else {},
        keep_alive=fields.get("keep_alive"),
        empty=not fields.get("messages") and not fields.get("prompt") and not fields.get("suffix"),
        tools=bool(fields.get("tools")),
        body=plain,
    )


def with_members(body: bytes, members: Mapping[str, Any]) -> bytes:
    """The body with members put last, where they win over earlier ones; the rest stays as it was, byte for byte."""
    if not members:
        return body
    head = body.rstrip()[:-1].rstrip()
    separator = b"" if head.endswith(b"{") else b","
    return head + separator + orjson.dumps(dict(members))[1:]


def work_body(generation: Generation, keep_alive: int | str, *, stream: bool | None) -> bytes:
    """What is sent for a job: the caller's body, with a keep_alive if it has none, and `stream` if that is ours."""
    members: dict[str, Any] = {}
    if generation.keep_alive is None:
        members["keep_alive"] = keep_alive
    if stream is not None:
        members["stream"] = stream
    return with_members(generation.body, members)


def load_body(generation: Generation, keep_alive: int | str) -> bytes:
    """The caller's own request with nothing to answer: it loads the model as the job itself would.

    Its other members stay, byte for byte, so that what the target would refuse the job for it refuses before it
    evicts another model.
    """
    members: dict[str, Any] = {"messages": [], "prompt": "", "stream": False}
    if generation.releases(keep_alive):
        members["keep_alive"] = LOAD_KEEP_ALIVE_S
    elif generation.keep_alive is None:
        members["keep_alive"] = keep_alive
    return with_members(generation.body, members)


def _read_leniently(body: bytes) -> tuple[Any, bytes]:
    """The first JSON value and its own bytes."""
    text = body.decode("utf-8", errors="replace").lstrip(" \t\r\n")
    if not text:
        raise RequestInvalid("missing request body")
    before = sys.getrecursionlimit()
    try:
        # The decoder recurses once a level; raised only for this call, and what it returns is not nested deeper.
        sys.setrecursionlimit(max(before, MAX_DEPTH + 1_000))
        value, end = json.JSONDecoder(parse_constant=_refuse, parse_int=_whole).raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"the request body is not valid JSON: {error}") from error
    finally:
        sys.setrecursionlimit(before)
    return value, text[:end].encode("utf-8")


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)
