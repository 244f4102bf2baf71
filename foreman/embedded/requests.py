"""Reads requests as Ollama's Go code does, and says no in its words. Pure: touches no model and no socket."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import durationpy
import orjson
from durationpy import DurationError

#: Go's longest duration, about 292 years: what Ollama calls for ever.
FOREVER_S = (2**63 - 1) / 1e9

#: Field → its Go type. A value of another JSON kind is refused as Go's decoder refuses it.
FIELDS = {
    **dict.fromkeys(("model", "name", "prompt", "suffix", "system", "template"), "string"),
    **dict.fromkeys(("stream", "raw", "truncate", "shift", "logprobs"), "bool"),
    **dict.fromkeys(("top_logprobs", "dimensions"), "int"),
    "context": "[]int",
    "messages": "[]api.Message",
    "tools": "api.Tools",
    "images": "[]api.ImageData",
    "options": "map[string]interface {}",
}
PYTHON = {"string": str, "bool": bool, "int": int, "map[string]interface {}": dict}
KINDS = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
GO_TYPES = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}

#: Options for one request; the value is the name llama.cpp has for it.
SAMPLING_OPTIONS = {"num_keep": "n_keep", "num_predict": "n_predict"} | {
    name: name
    for name in (
        *("seed", "temperature", "top_k", "top_p", "min_p", "typical_p", "stop"),
        *("repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty"),
    )
}
#: Options that belong to the loaded model: Ollama loads it anew when one of them changes, and so
#: does this server, though only the first three do anything here.
RUNNER_OPTIONS = ("num_ctx", "num_batch", "num_thread", "num_gpu", "main_gpu", "use_mmap", "draft_num_predict")
INTEGERS = {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n", *RUNNER_OPTIONS} - {"use_mmap"}
THINK_LEVELS = ("high", "medium", "low", "max")


class Refusal(Exception):
    """An answer of this server that is an error: its HTTP status and Ollama's text for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def decode(raw: bytes, type_name: str) -> dict[str, Any]:
    """The body with lower-case keys and without nulls; whatever Go would not decode is refused with 400."""
    if not raw.strip():
        raise Refusal(400, "missing request body")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, str(error)) from error
    if not isinstance(value, dict):
        raise Refusal(400, f"json: cannot unmarshal {_kind(value)} into Go value of type api.{type_name}")
    body = {key.lower(): item for key, item in value.items() if item is not None}
    for key, item in body.items():
        go_type = FIELDS.get(key)
        if go_type is not None and type(item) is not PYTHON.get(go_type, list):
            where = f"Go struct field {type_name}.{key} of type {go_type}"
            raise Refusal(400, f"json: cannot unmarshal {_kind(item)} into {where}")
    if "think" in body:
        _check_think(body["think"])
    if "keep_alive" in body:
        body["keep_alive"] = keep_alive_s(body["keep_alive"])
    if not 0 <= body.get("top_logprobs", 0) <= 20:
        raise Refusal(400, "top_logprobs must be between 0 and 20")
    return body


def keep_alive_s(value: Any) -> float:
    """Seconds to stay loaded: a number, or a Go duration; anything negative is for ever."""
    if isinstance(value, bool | list | dict):
        raise Refusal(400, f"Unsupported type: '{GO_TYPES[type(value)]}'")
    if isinstance(value, str):
        try:
            value = 0.0 if value == "0" else _go_duration(value).total_seconds()
        except (DurationError, OverflowError) as error:
            reason = "missing unit in" if re.search(r"^[-+]?[\d.]*\d$", value) else "invalid"
            raise Refusal(400, f"time: {reason} duration {_quoted(value)}") from error
    return FOREVER_S if value < 0 else min(float(value), FOREVER_S)


def messages_of(body: dict[str, Any]) -> list[dict[str, str]]:
    """The conversation as llama.cpp's template wants it."""
    messages = []
    for item in body.get("messages", []):
        if not isinstance(item, dict):
            raise Refusal(
                400,
                f"json: cannot unmarshal {_kind(item)} into Go struct field ChatRequest.messages of type api.Message",
            )
        message = {key.lower(): value for key, value in item.items() if value is not None}
        for key in ("role", "content"):
            if not isinstance(message.setdefault(key, ""), str):
                where = f"Go struct field Message.messages.{key} of type string"
                raise Refusal(400, f"json: cannot unmarshal {_kind(message[key])} into {where}")
        messages.append(
            {"role": message["role"].lower(), "content": message["content"], "images": message.get("images", [])}
        )
    return messages


def options_of(body: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The model's parameters under the request's options; unknown ones are dropped, as Ollama does."""
    given = {key: value for key, value in body.get("options", {}).items() if value is not None}
    options = dict(defaults)
    for key, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in INTEGERS:
            wanted, fits = "integer", number
        elif key == "use_mmap":
            wanted, fits = "boolean", isinstance(value, bool)
        elif key == "stop":
            wanted, fits = "array", isinstance(value, list)
        elif key in SAMPLING_OPTIONS:
            wanted, fits = "float32", number
        else:
            continue
        if not fits:
            raise Refusal(500, f"option {_quoted(key)} must be of type {wanted}")
        options[key] = int(value) if key in INTEGERS else value
    if not all(isinstance(word, str) for word in options.get("stop", [])):
        raise Refusal(500, 'option "stop" must be of an array of strings')
    return options


def grammar_of(body: dict[str, Any]) -> dict[str, Any]:
    """llama.cpp's parameter for `format`."""
    wanted = body.get("format", "")
    if wanted == "":
        return {}
    if wanted == "json":
        return {"json_schema": {"type": "object"}}
    if isinstance(wanted, dict):
        return {"json_schema": wanted}
    shown = _quoted(orjson.dumps(wanted).decode())
    raise Refusal(500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')


def _go_duration(text: str) -> timedelta:
    """What Go's ParseDuration reads."""
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)\D.*", text):
        raise DurationError("not a number with a unit")
    duration: timedelta = durationpy.from_str(text)
    return duration


def _check_think(value: Any) -> None:
    if not isinstance(value, bool) and value not in THINK_LEVELS:
        allowed = 'must be "high", "medium", "low", "max", true, or false'
        raise Refusal(400, f"invalid think value: {orjson.dumps(value).decode()} ({allowed})")


def _kind(value: Any) -> str:
    """JSON's word for the value, as Go says it."""
    return KINDS.get(type(value), "null")


def _quoted(text: str) -> str:
    """The text in double quotes, as Go's %q."""
    return orjson.dumps(text).decode()
