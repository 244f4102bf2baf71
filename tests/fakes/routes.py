"""Ollama's native routes as the fake plays them: checks in Ollama's order, answers in Ollama's words.

Takes the machine, the faults and the store from outside and owns none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic_ns as time_ns
from typing import Any

from tests.fakes import gojson, names, replies
from tests.fakes.exchange import Exchange, Refused, read
from tests.fakes.faults import Faults
from tests.fakes.machine import RELOADING, FakeModel, LoadKey, Machine
from tests.fakes.names import BadName, BothSources, Name, NoName
from tests.fakes.store import Store

_CLOUD_OFF = "ollama cloud is disabled: remote model is unavailable"
_INTEGERS = frozenset(RELOADING) - {"use_mmap"} | {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n"}
_FLOATS = ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty")


class Inference:
    """The routes that need a resident model."""

    def __init__(self, machine: Machine, faults: Faults, store: Store) -> None:
        self.machine, self.faults, self.store = machine, faults, store

    async def run(self, exchange: Exchange) -> None:
        """POST /api/chat and /api/generate."""
        route, took = exchange.call.path, replies.Took()
        request = read(exchange)
        model = self._model(route, request)
        name = request.get("model", "")
        wanted = request.get("messages" if route == "/api/chat" else "prompt")
        keep_alive = request.get("keep_alive")
        if not wanted and keep_alive == 0:
            self.machine.unload(model)
            return await exchange.json(replies.empty(route, name, "unload"))
        _check_abilities(route, request, model)
        options = _options(request)
        key = LoadKey.of(model, options, shift=request.get("shift", True))
        async with self.machine.use(model, key, keep_alive, self._on_load(exchange)) as resident:
            took.loaded = time_ns()
            if not wanted:
                return await exchange.json(replies.empty(route, name, "load"))
            answer = replies.answer(route, request, model, self.machine.behaviour.tokens)
            async with self.machine.slot(resident):
                took.slot = time_ns()
                return await self._speak(exchange, request, answer, took)

    async def _speak(
        self, exchange: Exchange, request: dict[str, Any], answer: replies.Answer, took: replies.Took
    ) -> None:
        call, fault = exchange.call, exchange.call.fault
        name, streams = request["model"], request.get("stream", True)
        for done, piece in enumerate(answer.pieces):
            await self.faults.gates(call, "token", done)
            if self.machine.behaviour.seconds_per_token:
                await asyncio.sleep(self.machine.behaviour.seconds_per_token)
            if streams:
                await exchange.line(replies.chunk(call.path, name, piece))
        await self.faults.gates(call, "token", len(answer.pieces))
        if not streams:
            cut = fault is not None and fault.kind == "no_done"
            return await exchange.whole(replies.whole(call.path, name, answer, None if cut else took))
        await exchange.line(replies.final(call.path, name, answer, took))
        return await exchange.end()

    async def embed(self, exchange: Exchange) -> None:
        """POST /api/embed and the older /api/embeddings."""
        route, took = exchange.call.path, replies.Took()
        request = read(exchange)
        newer = route == "/api/embed"
        ref = _reference(route, request.get("model", ""))
        texts = _inputs(request.get("input")) if newer else [request["prompt"]] if request.get("prompt") else []
        model = self._stored(route, ref, request.get("model", ""))
        key = LoadKey.of(model, _options(request))
        async with self.machine.use(model, key, request.get("keep_alive"), self._on_load(exchange)) as resident:
            took.loaded = time_ns()
            if not texts:
                empty = {"model": request["model"], "embeddings": []} if newer else {"embedding": []}
                return await exchange.json(empty)
            async with self.machine.slot(resident):
                await self.faults.gates(exchange.call, "token")
                if request.get("truncate") is False and any(len(t.split()) > model.context_length for t in texts):
                    raise Refused(400, "the input length exceeds the context length")
                size = request.get("dimensions") or model.embedding_length
                vectors = [replies.vector(text, min(size, model.embedding_length)) for text in texts]
                if not newer:
                    return await exchange.whole({"embedding": vectors[0]})
                words = sum(len(text.split()) for text in texts)
                metrics = took.metrics(replies.Answer([], "", words, 0, []))
                kept = ("total_duration", "load_duration", "prompt_eval_count")
                body = {"model": request["model"], "embeddings": vectors}
                return await exchange.whole(body | {field: metrics[field] for field in kept if field in metrics})

    def _model(self, route: str, request: dict[str, Any]) -> FakeModel:
        if not 0 <= request.get("top_logprobs", 0) <= 20:
            raise Refused(400, "top_logprobs must be between 0 and 20")
        name = request.get("model", "")
        return self._stored(route, _reference(route, name), name)

    def _stored(self, route: str, ref: Name, shown: str) -> FakeModel:
        model = self.store.find(ref)
        if model is None:
            raise Refused(404, _not_found(route, shown))
        return model

    def _on_load(self, exchange: Exchange) -> Callable[[], Awaitable[None]]:
        return lambda: self.faults.gates(exchange.call, "load")


def _reference(route: str, name: str) -> Name:
    """The name of the model to run."""
    try:
        ref, cloud = names.reference(name)
    except NoName:
        if route in ("/api/generate", "/api/embed"):
            raise Refused(404, f"model '{name}' not found") from None
        raise Refused(400, "model is required") from None
    except BadName:
        raise Refused(400, "invalid model name") from None
    except BothSources as error:
        raise Refused(400, str(error)) from None
    if cloud:
        raise Refused(403, _CLOUD_OFF)
    return ref


def _not_found(route: str, name: str) -> str:
    if route in ("/api/embed", "/api/embeddings"):
        return f'model "{name}" not found, try pulling it first'
    return f"model '{name}' not found"


def _check_abilities(route: str, request: dict[str, Any], model: FakeModel) -> None:
    templated = request.get("template") or request.get("system") or request.get("context")
    if route == "/api/generate" and request.get("raw") and templated:
        raise Refused(400, "raw mode does not support template, system, or context")
    shown = gojson.quote(request["model"])
    if request.get("think") and "thinking" not in model.capabilities:
        raise Refused(400, f"{shown} does not support thinking")
    if "completion" not in model.capabilities:
        raise Refused(400, f"{shown} does not support {route.removeprefix('/api/')}")
    for asked, ability in (("tools", "tools"), ("suffix", "insert")):
        if request.get(asked) and ability not in model.capabilities:
            raise Refused(400, f"{names.parse(model.name).full} does not support {ability}")


def _options(request: dict[str, Any]) -> dict[str, Any]:
    """The options, checked as Ollama checks them: after the model was found, with status 500."""
    options: dict[str, Any] = request.get("options") or {}
    for name, value in options.items():
        wrong = None if value is None else _option_fault(name, value)
        if wrong:
            raise Refused(500, f'option "{name}" must be of {wrong}')
    return options


def _option_fault(name: str, value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _INTEGERS:
        return None if is_number else "type integer"
    if name in _FLOATS:
        return None if is_number else "type float32"
    if name == "use_mmap":
        return None if isinstance(value, bool) else "type boolean"
    if name == "stop":
        if not isinstance(value, list):
            return "type array"
        return None if all(isinstance(item, str) for item in value) else "an array of strings"
    return None


def _inputs(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise Refused(400, "invalid input type")
    return texts
