"""An answer's lines to one completion, the way Ollama itself does it for `stream:false`. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import orjson

from foreman.errors import TargetBroke
from foreman.projections.job import Metrics
from foreman.target.client import LONGEST_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an answer amounts to. `error` is set if the target gave up in the middle and said why."""

    body: bytes
    last: dict[str, Any]
    error: str | None = None

    def metrics(self, first_token_s: float | None, run_s: float) -> Metrics:
        """The target's own figures beside what foreman saw."""
        last = self.last
        return Metrics(
            done_reason=last["done_reason"] if isinstance(last.get("done_reason"), str) else None,
            prompt_tokens=_count(last, "prompt_eval_count"),
            generated_tokens=_count(last, "eval_count"),
            total_duration=_count(last, "total_duration"),
            load_duration=_count(last, "load_duration"),
            prompt_eval_duration=_count(last, "prompt_eval_duration"),
            eval_duration=_count(last, "eval_duration"),
            first_token_s=first_token_s,
            run_s=run_s,
        )


def assemble(answer: bytes) -> Completion:
    """Put an answer's objects together: texts joined, lists appended, the last object gives the rest.

    Takes NDJSON as well as one plain object. Raises TargetBroke if any of it is no JSON object, which is how an
    answer looks that was cut off, or if there is none at all. A last object that does not say `done` is no fault:
    Ollama ends like that when a model repeats itself (0.33, its token-repeat guard), and would do so again.
    """
    parts = [_object(line) for line in answer.split(b"\n") if line.strip()]
    if not parts:
        raise TargetBroke("the target's answer was empty")
    last = parts[-1]
    error = last.get("error")
    if error is not None:
        text = error if isinstance(error, str) else _written(error).decode()
        return Completion(body=answer, last=last, error=text[:LONGEST_ERROR])
    if len(parts) == 1:
        return Completion(body=answer.strip(), last=last)
    whole = dict(last)
    if isinstance(last.get("message"), dict):
        whole["message"] = _joined(last["message"], [_dict(part.get("message")) for part in parts], "content")
    else:
        whole = _joined(whole, parts, "response")
    logprobs = _appended(parts, "logprobs")
    if logprobs:
        whole["logprobs"] = logprobs
    return Completion(body=_written(whole), last=last)


def _written(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # orjson reads deeper nesting than it writes
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        except RecursionError as error:
            raise TargetBroke("the target's answer is nested too deeply") from error


def _joined(target: dict[str, Any], parts: list[dict[str, Any]], text: str) -> dict[str, Any]:
    whole = {**target, text: _concatenated(parts, text)}
    thinking = _concatenated(parts, "thinking")
    if thinking:
        whole["thinking"] = thinking
    calls = _appended(parts, "tool_calls")
    if calls:
        whole["tool_calls"] = calls
    return whole


def _object(line: bytes) -> dict[str, Any]:
    try:
        decoded = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TargetBroke(f"the target's answer holds a line that is not JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise TargetBroke("the target's answer holds a line that is not a JSON object")
    return decoded


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _concatenated(parts: list[dict[str, Any]], name: str) -> str:
    return "".join(text for part in parts if isinstance(text := part.get(name), str))


def _appended(parts: list[dict[str, Any]], name: str) -> list[Any]:
    return [item for part in parts if isinstance(items := part.get(name), list) for item in items]


def _count(last: dict[str, Any], name: str) -> int | None:
    """A whole number as Go and the log can hold it; a target that says anything else has said nothing."""
    value = last.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
