"""The HTTP server as one thing to start and stop: an application on its sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Final

from sanic import Sanic
from sanic.server.async_server import AsyncioServer

from foreman.config.kinds import Address
from foreman.sockets import is_loopback, listen

#: How long open connections are given to take their last bytes.
CLOSE_WITHIN_S: Final = 5.0
BACKLOG: Final = 1024


class HttpServer:
    """Serves one application on the sockets of one address, in the running loop."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._servers: list[AsyncioServer] = []

    def bind(self, address: Address) -> None:
        """Take the address, so that a start which cannot have it fails first. Raises ConfigError."""
        self._sockets = listen(address)

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each socket."""
        return tuple(sock.getsockname()[:2] for sock in self._sockets)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return all(is_loopback(sock) for sock in self._sockets)

    async def start(self, app: Sanic[Any, Any]) -> None:
        """Accept connections."""
        # On a terminal Sanic would warn that it runs in production, which is just what it is to do.
        os.environ.setdefault("SANIC_IGNORE_PRODUCTION_WARNING", "1")
        for sock in self._sockets:
            server = await app.create_server(
                sock=sock, return_asyncio_server=True, asyncio_server_kwargs={"start_serving": False}, backlog=BACKLOG
            )
            assert server is not None
            self._servers.append(server)
        await self._servers[0].startup()  # type: ignore[no-untyped-call]
        for server in self._servers:
            await server.start_serving()  # type: ignore[no-untyped-call]

    async def stop(self) -> None:
        """Stop accepting, let open answers go out, then cut what is left."""
        for server in self._servers:
            server.close()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                while connections := [item for server in self._servers for item in server.connections]:
                    for connection in connections:
                        connection.close_if_idle()
                    await asyncio.sleep(0.02)  # Sanic tells nobody when a connection ends or falls idle
        except TimeoutError:
            for server in self._servers:
                for connection in list(server.connections):
                    connection.abort()
        for sock in self._sockets:
            sock.close()
        self._servers.clear()
        self._sockets.clear()
