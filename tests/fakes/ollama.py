"""A fake Ollama: a real HTTP server of which only the GPU is made up. `FakeOllama` is what tests use.

::

    async with FakeOllama(models=["a", "b"], load_seconds=0.5) as fake:
        with fake.hold("a", after=2) as gate:  # answers of model a stop after two tokens
            ...  # let the program under test talk to fake.url
            await gate.reached()
        fake.inject("reset_after", model="b", after=3)  # the next answer of b breaks off after three lines
        await fake.wait_for(lambda: fake.calls[-1].finished_at)

`python -m tests.fakes.ollama --models a,b` runs it as a process of its own, steered through `/_control`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote

from aiohttp import web
from aiohttp.web_server import Server

from tests.fakes import control, edge
from tests.fakes.exchange import Broken, Exchange, Refused
from tests.fakes.faults import Call, Fault, Faults, Gate, Kind, Matching
from tests.fakes.machine import Behaviour, Changes, FakeModel, LoadKey, Machine, QueueFull
from tests.fakes.routes import Inference
from tests.fakes.store import Library, Store

_BUSY = "server busy, please try again.  maximum pending requests exceeded"


class FakeOllama:
    """The server, its record of what happened, and the means to make things go wrong.

    `settings` are the fields of `Behaviour`; `port=0` takes any free port and keeps it for the fake's life.
    """

    def __init__(self, models: Iterable[str | FakeModel] = ("a", "b", "c"), *, port: int = 0, **settings: Any) -> None:
        self.behaviour = Behaviour()
        self.behaviour.change(**settings)
        self.port = port
        self.calls: list[Call] = []
        self.changes = Changes()
        self.faults = Faults(self.changes)
        self.machine = Machine(self.behaviour, self.changes)
        self.store = Store([model if isinstance(model, FakeModel) else FakeModel(model) for model in models])
        self._handlers = _handlers(Inference(self.machine, self.faults, self.store), Library(self.store, self.machine))
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None
        self._leaving = False  # connections that break now are broken by us

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def loads(self) -> list[LoadKey]:
        """Every load begun, in order."""
        return self.machine.loads

    @property
    def loaded_models(self) -> list[str]:
        """The names in `loads`, without `:latest`."""
        return [key.model.removesuffix(":latest") for key in self.machine.loads]

    @property
    def max_concurrent(self) -> int:
        """The most answers ever made at once."""
        return self.machine.max_concurrent

    @property
    def max_concurrent_keys(self) -> int:
        """The most load keys ever answered for at once."""
        return self.machine.max_concurrent_keys

    def calls_of(self, on: str = "generation", model: str | None = None) -> list[Call]:
        """The calls so far of a kind or path (`*` for all), and of a model."""
        return [call for call in self.calls if Matching(on, model).fits(call)]

    async def wait_for(self, true: Callable[[], Any], timeout: float = 10.0) -> None:
        """Return as soon as `true()` is; it is asked again after every change of the fake."""
        await self.changes.wait_for(true, timeout)

    async def wait_for_calls(self, count: int, on: str = "generation", model: str | None = None) -> list[Call]:
        """Wait until so many calls of a kind have come, and return them."""
        await self.wait_for(lambda: len(self.calls_of(on, model)) >= count)
        return self.calls_of(on, model)

    def hold(
        self, model: str | None = None, *, after: int = 0, at: Literal["token", "load"] = "token", on: str = ""
    ) -> Gate:
        """Hold answers before token number `after`, or loads, until the gate is released."""
        return self.faults.hold(Matching(on or ("*" if at == "load" else "generation"), model), at, after)

    def inject(self, kind: Kind, *, on: str = "generation", model: str | None = None, **details: Any) -> Fault:
        """Make something go wrong for the next matching call, or as many as `times` says."""
        return self.faults.add(Fault(kind, Matching(on, model), **details))

    def release(self) -> None:
        """Open every gate, let go what hangs, and drop all faults."""
        self.faults.release()

    async def start(self) -> None:
        """Listen."""
        server = Server(
            self._handle,
            request_factory=_request,
            handler_cancellation=True,  # a client that leaves cancels its handler, as in Ollama
            auto_decompress=False,
            access_log=None,
        )
        self._runner = web.ServerRunner(server)
        await self._runner.setup()
        await self.come_back()

    async def stop(self) -> None:
        """Break off whatever is open and stop listening."""
        await self.go_away()
        self.machine.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def go_away(self) -> None:
        """Refuse new connections and break the open ones, like a machine that has gone to sleep."""
        self._leaving = True
        if self._site is not None:
            await self._site.stop()
            self._site = None
        server = self._runner.server if self._runner is not None else None
        for connection in server.connections if server is not None else []:
            if connection.transport is not None:
                connection.transport.abort()
        await self.wait_for(lambda: all(call.finished_at for call in self.calls))

    async def come_back(self) -> None:
        """Listen again on the same port."""
        if self._runner is None or self._site is not None:
            return
        self._leaving = False
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, backlog=1024)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = unquote(request.raw_path.partition("?")[0])
        if path == "/_control":
            return await control.answer(self, request)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        call = Call(len(self.calls) + 1, request.method, path, headers)
        exchange = Exchange(request, call, self.changes)
        self.calls.append(call)
        try:
            await self._answer(exchange)
        except (asyncio.CancelledError, ConnectionError):
            call.aborted = not self._leaving
            raise
        except Broken:
            pass
        finally:
            call.finished_at = time.monotonic()
            self.changes.tell()
        return exchange.response

    async def _answer(self, exchange: Exchange) -> None:
        request, call = exchange.request, exchange.call
        call.body = await request.content.read()
        call.classify()
        self.changes.tell()
        call.fault = fault = self.faults.take(call)
        if fault is not None and fault.kind == "hang":
            await fault.released.wait()
        elif fault is not None and fault.kind == "reset":
            exchange.reset()
        elif fault is not None and fault.kind == "status":
            return await exchange.error(fault.status, fault.body)
        route = edge.route_of(call.path)
        early = edge.redirected(request) or edge.refused(request, route, check_host=self.behaviour.check_host)
        if early is not None:
            exchange.response, call.status = early, early.status
            return None
        try:
            return await self._handlers[route](exchange)
        except Refused as refusal:
            return await exchange.error(refusal.status, str(refusal))
        except QueueFull:
            return await exchange.error(503, _BUSY)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> edge.GoRequest:
    return edge.GoRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _handlers(inference: Inference, library: Library) -> dict[str, Callable[[Exchange], Awaitable[None]]]:
    return {
        "/": library.root,
        "/api/version": library.version,
        "/api/status": library.status,
        "/api/tags": library.tags,
        "/api/ps": library.ps,
        "/api/show": library.show,
        "/api/copy": library.copy,
        "/api/delete": library.delete,
        "/api/pull": library.pull,
        "/api/push": library.push,
        "/api/create": library.create,
        "/api/blobs/:digest": library.blob,
        "/api/chat": inference.run,
        "/api/generate": inference.run,
        "/api/embed": inference.embed,
        "/api/embeddings": inference.embed,
    }


if __name__ == "__main__":
    control.main(FakeOllama)
