"""Ollama's native routes over the catalog and the residency: shapes, statuses and texts. Must not manage processes."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from foreman.clock import Clock, rfc3339
from foreman.embedded import answers
from foreman.embedded.answers import Question
from foreman.embedded.catalog import Catalog, Model, local_time, normal_name
from foreman.embedded.requests import Refusal, decode, messages_of, options_of
from foreman.embedded.runner import Load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from foreman.embedded.residency import Residency

#: The Ollama whose wire this is.
VERSION = "0.33.0"
JSON = "application/json; charset=utf-8"
#: Bodies are text: pictures are not understood.
MAX_BODY_BYTES = 64 << 20


class Wire:
    """The handlers of the routes."""

    def __init__(self, catalog: Catalog, residency: Residency, clock: Clock) -> None:
        self.catalog = catalog
        self.residency = residency
        self.clock = clock

    def app(self) -> web.Application:
        """The application with every route."""
        app = web.Application(middlewares=[_as_ollama], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(_without_server_header)
        app.router.add_get("/", self.root)
        app.router.add_get("/api/version", self.version)
        app.router.add_get("/api/tags", self.tags)
        app.router.add_get("/api/ps", self.ps, allow_head=False)
        app.router.add_post("/api/show", self.show)
        app.router.add_post("/api/chat", partial(self.answer, kind=answers.CHAT))
        app.router.add_post("/api/generate", partial(self.answer, kind=answers.GENERATE))
        app.router.add_post("/api/embed", self.embed)
        app.router.add_post("/api/embeddings", self.embeddings)
        return app

    async def root(self, _: web.Request) -> web.Response:
        """The greeting that clients look for."""
        return web.Response(text="Ollama is running")

    async def version(self, _: web.Request) -> web.Response:
        """The version whose wire this is."""
        return _json({"version": VERSION})

    async def tags(self, _: web.Request) -> web.Response:
        """The models on offer."""
        return _json({"models": [model.listed() for model in self.catalog.models.values()]})

    async def ps(self, _: web.Request) -> web.Response:
        """The loaded models."""
        return _json(
            {"models": [_loaded(runner.load, runner.size_bytes, at) for runner, at in self.residency.listed()]}
        )

    async def show(self, request: web.Request) -> web.Response:
        """One model in detail."""
        body = decode(await request.read(), "ShowRequest")
        name = body.get("model") or body.get("name") or ""
        if not name:
            raise Refusal(400, "model is required")
        shortest = normal_name_or_refusal(name).removeprefix("registry.ollama.ai/").removeprefix("library/")
        model = self._find(name, f"model '{shortest}' not found")
        return _json(model.shown(body.get("system", "")))

    async def answer(self, request: web.Request, kind: answers.Kind) -> web.StreamResponse:
        """`/api/chat` and `/api/generate`."""
        started_s = self.clock.monotonic()
        body = decode(await request.read(), kind.type_name)
        name = body.get("model", "")
        if not name and kind is answers.CHAT:
            raise Refusal(400, "model is required")
        model = self._find(name, f"model '{name}' not found")
        asked = messages_of(body) if kind is answers.CHAT else body.get("prompt", "")
        if not asked and body.get("keep_alive") == 0:
            self.residency.unload(model.name)
            return _json(kind.chunk(name, self._now(), "") | {"done": True, "done_reason": "unload"})
        answers.check_abilities(kind, model, body)
        load, options = self._load(model, body)
        async with self.residency.hold(load, body.get("keep_alive")) as runner:
            if not asked:
                return _json(kind.chunk(name, self._now(), "") | {"done": True, "done_reason": "load"})
            loaded_s = self.clock.monotonic()
            question = Question(
                kind=kind, body=body, load=load, options=options, now=self._now, elapsed_s=self._since(started_s),
                load_s=loaded_s - started_s,
            )  # fmt: skip
            async with runner.slot, aclosing(answers.answer(runner, question)) as chunks:
                if body.get("stream", True):
                    return await _stream(request, chunks)
                return _json(await answers.joined(kind, chunks))

    async def embed(self, request: web.Request) -> web.Response:
        """`/api/embed`: one vector for each text."""
        started_s = self.clock.monotonic()
        body = decode(await request.read(), "EmbedRequest")
        name, texts = body.get("model", ""), body.get("input", [])
        texts = [texts] if isinstance(texts, str) and texts else texts or []
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise Refusal(400, "invalid input type")
        load, _ = self._load(self._embedder(name, f'model "{name}" not found, try pulling it first'), body)
        async with self.residency.hold(load, body.get("keep_alive")) as runner:
            if not texts:
                return _json({"model": name, "embeddings": []})
            loaded_s = self.clock.monotonic()
            async with runner.slot:
                vectors, tokens = await answers.embeddings(runner, load, texts, body)
            total_s = self.clock.monotonic() - started_s
            metrics = {"total_duration": total_s, "load_duration": loaded_s - started_s}
            times = {key: int(value * 1e9) for key, value in metrics.items()}
            return _json({"model": name, "embeddings": vectors} | times | {"prompt_eval_count": tokens})

    async def embeddings(self, request: web.Request) -> web.Response:
        """`/api/embeddings`: the older route for one text."""
        body = decode(await request.read(), "EmbeddingRequest")
        name = body.get("model", "")
        if not name:
            raise Refusal(400, "model is required")
        load, _ = self._load(self._embedder(name, f'model "{name}" not found, try pulling it first'), body)
        async with self.residency.hold(load, body.get("keep_alive")) as runner:
            if not body.get("prompt"):
                return _json({"embedding": []})
            async with runner.slot:
                vectors, _ = await answers.embeddings(runner, load, [body["prompt"]], body)
            return _json({"embedding": vectors[0]})

    def _embedder(self, name: str, missing: str) -> Model:
        model = self._find(name, missing)
        if not model.embeds:
            # What Ollama passes on from llama.cpp, but without loading the model for it.
            raise Refusal(501, "This model does not support embeddings")
        return model

    def _find(self, name: str, missing: str) -> Model:
        if name:
            normal_name_or_refusal(name)
        model = self.catalog.find(name) if name else None
        if model is None:
            raise Refusal(404, missing)
        return model

    def _load(self, model: Model, body: dict[str, Any]) -> tuple[Load, dict[str, Any]]:
        """What to load for the request, and the options of the request itself."""
        options = options_of(body, model.options)
        return Load.of(model, options), options

    def _now(self) -> str:
        return rfc3339(self.clock.now())

    def _since(self, started_s: float) -> Callable[[], float]:
        return lambda: self.clock.monotonic() - started_s


def normal_name_or_refusal(name: str) -> str:
    """The full name, or Ollama's 400."""
    try:
        return normal_name(name)
    except ValueError as error:
        raise Refusal(400, str(error)) from error


def _loaded(load: Load, size_bytes: int, expires_at_s: float) -> dict[str, Any]:
    """The entry in `/api/ps`."""
    return {
        "name": load.model.name,
        "model": load.model.name,
        "size": size_bytes,
        "digest": load.model.digest,
        "details": load.model.details,
        "expires_at": local_time(expires_at_s),
        "size_vram": 0,
        "context_length": load.num_ctx,
    }


async def _stream(request: web.Request, chunks: AsyncIterator[dict[str, Any]]) -> web.StreamResponse:
    """One line for each chunk. No header goes out before the first one exists, so an early error keeps its status."""
    response: web.StreamResponse | None = None
    try:
        async for chunk in chunks:
            if response is None:
                response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
                await response.prepare(request)
            await response.write(orjson.dumps(chunk) + b"\n")
    except Refusal as refusal:
        if response is None:
            return _json({"error": refusal.message}, refusal.status, "application/json")
        await response.write(orjson.dumps({"error": refusal.message}) + b"\n")
    except ConnectionResetError:
        # The caller left between two chunks. Nobody is there to be told, and it is nothing to log a traceback about.
        return response or web.Response()
    assert response is not None  # a completion has at least its last chunk
    await response.write_eof()
    return response


def _json(value: Any, status: int = 200, content_type: str = JSON) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), headers={"Content-Type": content_type})


@web.middleware
async def _as_ollama(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors as Ollama words them."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return _json({"error": refusal.message}, refusal.status)
    except web.HTTPNotFound:
        return web.Response(status=404, body=b"404 page not found", headers={"Content-Type": "text/plain"})
    except web.HTTPMethodNotAllowed as error:
        headers = {"Content-Type": "text/plain", "Allow": ", ".join(sorted(error.allowed_methods))}
        return web.Response(status=405, body=b"405 method not allowed", headers=headers)


async def _without_server_header(_: web.Request, response: web.StreamResponse) -> None:
    """Ollama names no server software."""
    response.headers.popall("Server", None)
