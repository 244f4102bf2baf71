"""`AsyncClient`: drives the operations on asyncio. Decides nothing: what is asked, and when again, is in `core`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from foreman.client.connection import Connection, answered
from foreman.client.core import Answer, Item, Items, Lost, Operation, Pause, Read, Request, Retry, Step
from foreman.client.described import described
from foreman.client.operations import Operations

P = ParamSpec("P")
T = TypeVar("T")


def _one(
    operation: Callable[Concatenate[Operations, P], Operation[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A method that returns what the operation does."""

    async def method(client: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client._run(operation(client._operations, *args, **kwargs))  # noqa: SLF001

    return described(method, operation)


def _many(
    operation: Callable[Concatenate[Operations, P], Items[T]],
) -> Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]]:
    """A method that hands out what the operation does."""

    def method(client: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return client._iterate(operation(client._operations, *args, **kwargs))  # noqa: SLF001

    return described(method, operation, "AsyncGenerator[{}, None]")


class AsyncClient:
    """A daemon, by calls to be awaited; what hands out several things is for `async for`.

    `url` and `token` are `FOREMAN_URL` (else http://127.0.0.1:8080) and `FOREMAN_TOKEN` if they are not given.
    `timeout` is how many seconds an answer may take; to wait for a job has a limit of its own. Close it, or use it as a
    context manager. It belongs to one event loop, whose tasks may share it.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, timeout: float = 30.0, retry: Retry | None = None
    ) -> None:
        self._connection = Connection(url, token, timeout)
        self._operations = Operations(retry, timeout_s=timeout)
        self._http = httpx.AsyncClient(**self._connection.arguments())

    submit = _one(Operations.submit)
    submit_many = _many(Operations.submit_many)
    get = _one(Operations.get)
    wait = _one(Operations.wait)
    completion = _one(Operations.completion)
    artifact = _one(Operations.artifact)
    stream = _many(Operations.stream)
    cancel = _one(Operations.cancel)
    retry = _one(Operations.retry)
    list_jobs = _many(Operations.list_jobs)
    job_events = _one(Operations.job_events)
    events = _many(Operations.events)
    deliveries = _many(Operations.deliveries)
    redeliver = _one(Operations.redeliver)
    redeliver_all = _one(Operations.redeliver_all)
    queue = _one(Operations.queue)
    ps = _one(Operations.ps)
    models = _one(Operations.models)
    health = _one(Operations.health)
    statistics = _one(Operations.statistics)
    audit_head = _one(Operations.audit_head)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection.url!r})"

    async def _run(self, operation: Operation[T]) -> T:
        reply = None
        async with _Line(self._http, self._connection) as line:
            while True:
                try:
                    step = operation.send(reply)
                except StopIteration as end:
                    result: T = end.value
                    return result
                reply = await line.perform(step)

    async def _iterate(self, operation: Items[T]) -> AsyncGenerator[T, None]:
        reply = None
        async with _Line(self._http, self._connection) as line:
            while True:
                try:
                    step = operation.send(reply)
                except StopIteration:
                    return
                if isinstance(step, Item):
                    yield step.value
                    reply = None
                else:
                    reply = await line.perform(step)


class _Line:
    """Performs the steps of one operation, and holds the answer that it reads piece by piece."""

    def __init__(self, http: httpx.AsyncClient, connection: Connection) -> None:
        self._http = http
        self._connection = connection
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hang_up()

    async def perform(self, step: Step) -> Answer | Lost | bytes | None:
        """What came of a step."""
        match step:
            case Pause(seconds):
                await asyncio.sleep(seconds)
                return None
            case Read():
                return await self._read()
            case Request():
                return await self._ask(step)

    async def _ask(self, request: Request) -> Answer | Lost:
        await self._hang_up()
        try:
            response = await self._http.send(
                self._http.build_request(**self._connection.options(request)), stream=request.streamed
            )
            if request.streamed and response.is_success:
                self._response, self._pieces = response, response.aiter_bytes()
                return answered(response, b"")
            try:
                return answered(response, await response.aread())
            finally:
                await response.aclose()
        except httpx.RequestError as error:
            return self._connection.lost(error)

    async def _read(self) -> bytes | Lost:
        assert self._pieces is not None
        try:
            return await anext(self._pieces, b"")
        except httpx.RequestError as error:
            return self._connection.lost(error)

    async def _hang_up(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None
