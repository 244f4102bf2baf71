"""What the fake model says, made from the request alone, and the JSON objects that carry it. No waiting, no HTTP.

The model echoes: the words of the prompt (of the last message) are its tokens. `<think> so </think>` in it becomes
thinking, and with `tools` in the request `<tool_call> {"name": "f", "arguments": {}} </tool_call>` becomes a call.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from tests.fakes.machine import FakeModel

_TOOL_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_HEAD_OF_CALL = "<tool_call>"


@dataclass
class Piece:
    """What one token adds to the answer."""

    content: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Answer:
    """A whole answer and what it is measured by."""

    pieces: list[Piece]
    done_reason: str
    prompt_tokens: int
    tokens: int
    context: list[int]


def answer(route: str, request: dict[str, Any], model: FakeModel, tokens: int | None) -> Answer:
    """The answer to a chat or generate request. `tokens` fixes its length."""
    chat = route == "/api/chat"
    messages = [message or {} for message in request.get("messages", [])]
    texts = [message.get("content", "") for message in messages] if chat else [request.get("prompt", "")]
    words = texts[-1].split()
    said = words if tokens is None else list(itertools.islice(itertools.cycle(words or ["word"]), tokens))
    limit = int((request.get("options") or {}).get("num_predict") or 0)
    reason = "stop"
    if 0 < limit < len(said):
        said, reason = said[:limit], "length"
    spoken = [word if index == 0 else f" {word}" for index, word in enumerate(said)]
    if request.get("tools") and _HEAD_OF_CALL in "".join(spoken):
        pieces = _calls("".join(spoken))
    elif "thinking" in model.capabilities and request.get("think", True):
        pieces = _thoughts(spoken, empty_first=not chat)
    else:
        pieces = [Piece(content=token) for token in spoken]
    if request.get("logprobs"):
        for piece, token in zip(pieces, spoken, strict=False):
            piece.logprobs = [_logprob(token, request.get("top_logprobs", 0))]
    context = [] if chat or request.get("raw") else _tokenized(texts[-1] + "".join(spoken))
    return Answer(pieces, reason, sum(len(text.split()) for text in texts), len(said), context)


def _thoughts(spoken: list[str], *, empty_first: bool) -> list[Piece]:
    pieces: list[Piece] = []
    thinking, fresh = False, False  # fresh: at the start of a part, where blanks are dropped
    for index, token in enumerate(spoken):
        if index == 0 and token == "<think>":
            thinking, fresh = True, True
            pieces += [Piece()] if empty_first else []
        elif thinking and token.strip() == "</think>":
            pieces.append(Piece(thinking=token.removesuffix("</think>")))
            thinking, fresh = False, True
        else:
            shown = token.lstrip() if fresh else token
            pieces.append(Piece(thinking=shown) if thinking else Piece(content=shown))
            fresh = False
    return pieces


def _calls(text: str) -> list[Piece]:
    before = text.partition(_HEAD_OF_CALL)[0].split()
    pieces = [Piece(content=word if index == 0 else f" {word}") for index, word in enumerate(before)]
    for index, match in enumerate(_TOOL_CALL.finditer(text)):
        call = orjson.loads(match.group(1))
        function = {"index": index, "name": call["name"], "arguments": call.get("arguments", {})}
        name = hashlib.sha256(match.group(1).encode()).hexdigest()[:8]
        pieces.append(Piece(tool_calls=[{"id": f"call_{name}", "function": function}]))
    return pieces


def _logprob(token: str, top: int) -> dict[str, Any]:
    def one(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    shown = one(token, -0.5)
    return shown | {"top_logprobs": [one(token, -0.5), one("x", -1.5)][:top]} if top else shown


def _tokenized(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def timestamp(nanoseconds: int | None = None) -> str:
    """RFC 3339 in UTC as Go writes it: nine fraction digits, trailing zeros dropped."""
    at = time.time_ns() if nanoseconds is None else nanoseconds
    whole = datetime.fromtimestamp(at // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{at % 10**9:09d}".rstrip("0").rstrip(".")
    return f"{whole}{fraction}Z"


def chunk(route: str, model: str, piece: Piece) -> dict[str, Any]:
    """A line of a stream."""
    return _body(route, model, piece) | {"done": False} | _logprobs(piece)


def whole(route: str, model: str, answer: Answer, took: Took | None) -> dict[str, Any]:
    """The one object of an answer that is not streamed; without `took` it never came to its end."""
    piece = Piece(
        "".join(piece.content for piece in answer.pieces),
        "".join(piece.thinking for piece in answer.pieces),
        [call for piece in answer.pieces for call in piece.tool_calls],
        [logprob for piece in answer.pieces for logprob in piece.logprobs],
    )
    end = {"done": False} if took is None else _end(answer)
    rest = [_logprobs(piece), {} if took is None else took.metrics(answer)]
    if route == "/api/generate":  # the two routes order these differently
        rest.reverse()
    return _body(route, model, piece) | end | rest[0] | rest[1]


def final(route: str, model: str, answer: Answer, took: Took) -> dict[str, Any]:
    """The last line of a stream."""
    return _body(route, model, Piece()) | _end(answer) | took.metrics(answer)


def empty(route: str, model: str, reason: str) -> dict[str, Any]:
    """The answer to a request that only loads or unloads."""
    return _body(route, model, Piece()) | {"done": True, "done_reason": reason}


def _body(route: str, model: str, piece: Piece) -> dict[str, Any]:
    head: dict[str, Any] = {"model": model, "created_at": timestamp()}
    thinking = {"thinking": piece.thinking} if piece.thinking else {}
    calls = {"tool_calls": piece.tool_calls} if piece.tool_calls else {}
    if route == "/api/chat":
        return head | {"message": {"role": "assistant", "content": piece.content} | thinking | calls}
    return head | {"response": piece.content} | thinking


def _end(answer: Answer) -> dict[str, Any]:
    context = {"context": answer.context} if answer.context else {}
    return {"done": True, "done_reason": answer.done_reason} | context


def _logprobs(piece: Piece) -> dict[str, Any]:
    return {"logprobs": piece.logprobs} if piece.logprobs else {}


@dataclass
class Took:
    """Measures a request, in monotonic nanoseconds."""

    started: int = field(default_factory=time.monotonic_ns)
    loaded: int = 0
    slot: int = 0

    def metrics(self, answer: Answer) -> dict[str, int]:
        """The last fields of a finished answer; what is zero is left out."""
        now = time.monotonic_ns()
        fields = {
            "total_duration": now - self.started,
            "load_duration": self.loaded - self.started,
            "prompt_eval_count": answer.prompt_tokens,
            "prompt_eval_duration": 1_500_000,
            "eval_count": answer.tokens,
            "eval_duration": max(now - self.slot, 1),
        }
        return {name: value for name, value in fields.items() if value}


def vector(text: str, dimensions: int) -> list[float]:
    """A unit vector that depends on nothing but the text."""
    digest = hashlib.shake_256(text.encode()).digest(dimensions)
    values = [byte - 127.5 for byte in digest]
    length = math.sqrt(sum(value * value for value in values))
    return [round(value / length, 7) for value in values]
