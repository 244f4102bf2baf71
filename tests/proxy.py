"""A TCP proxy between a client and a foreman, which cuts connections where a test wants it, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes on, each way; `url` is for the client."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        #: How many bytes of each answer are passed on before its connection is cut; None for all.
        self.cut_after: int | None = None
        #: Called with the first bytes of the next answer, which is swallowed and its connection cut.
        self.swallow: Callable[[bytes], Awaitable[None]] | None = None
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Cut every connection that is open now."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(client)
        place = urlsplit(self.target)
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            self._writers.add(writer)
            up = asyncio.create_task(self._copy(client_reader, writer))
            await self._answers(reader, client)
            up.cancel()
            await asyncio.wait({up})
            writer.transport.abort()
            self._writers.discard(writer)
        client.transport.abort()
        self._writers.discard(client)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(65536):
            if self.swallow is not None:
                swallow, self.swallow = self.swallow, None
                await swallow(data)
                return
            if self.cut_after is not None and passed + len(data) >= self.cut_after:
                client.write(data[: self.cut_after - passed])
                await client.drain()
                client.close()  # what was written arrives before the connection ends
                await client.wait_closed()
                return
            passed += len(data)
            client.write(data)
            await client.drain()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Proxy]:
        """Listen until the end of the block."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            tasks = set(self._tasks)
            for task in tasks:
                task.cancel()
            self.cut()
            if tasks:
                await asyncio.wait(tasks)
            await server.wait_closed()
