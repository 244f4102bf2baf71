"""How one attempt gets to its receiver: the addresses it may dial, and how much it takes in. Speaks no HTTP itself."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from typing import Final, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from foreman.destinations import Destination, Place
from foreman.destinations.url import joined
from foreman.errors import AddressRefused

#: Of a reply's body, so much is read.
LONGEST_REPLY: Final = 64 * 1024
#: All that is taken from a connection: a reply can be long before its body begins, or beside it.
LONGEST_WIRE: Final = 2 * LONGEST_REPLY


class Way(AbstractResolver):
    """One attempt's way to its receiver. Only addresses that were judged are dialled, whatever the library asks for."""

    def __init__(self, destination: Destination, places: Sequence[Place]) -> None:
        self.destination = destination
        #: The address that was dialled last.
        self.dialled: str | None = None
        self._places = places
        self._judged = {_key(place.sockaddr): place.address for place in places}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The judged addresses."""
        return [
            ResolveResult(
                hostname=host,
                host=str(place.sockaddr[0]),
                port=int(place.sockaddr[1]),
                family=place.family,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for place in self._places
        ]

    async def close(self) -> None:
        """Nothing is kept open."""

    def socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """A socket to dial this address with. Raises AddressRefused for one that was not judged."""
        family, kind, protocol, _, sockaddr = info
        address = self._judged.get(_key(sockaddr))
        if address is None:
            raise AddressRefused(f"{sockaddr[0]} is none of the addresses of {self.destination.host}")
        self.dialled = address
        return socket.socket(family, kind, protocol)


class Connection(aiohttp.TCPConnector):
    """A connection of an attempt's own."""

    def __init__(self, way: Way, tls: ssl.SSLContext) -> None:
        super().__init__(resolver=way, socket_factory=way.socket, ssl=tls, force_close=True, use_dns_cache=False)
        self._handlers: list[Bounded] = []
        # The library's own hook for what reads a connection; the only place where all that comes in can be counted.
        self._factory = self._handler  # type: ignore[assignment]

    @property
    def address(self) -> str | None:
        """The address that is connected, `192.0.2.7:443`."""
        return next((handler.peer for handler in reversed(self._handlers) if handler.peer), None)

    def cut(self) -> None:
        """End it at once: a close would first wait for a receiver that reads nothing, or ends no TLS."""
        for handler in self._handlers:
            handler.cut()

    def _handler(self) -> Bounded:
        self._handlers.append(Bounded(asyncio.get_running_loop()))
        return self._handlers[-1]


class Bounded(ResponseHandler):
    """Takes in so many bytes, whatever they are: interim replies and chunk extensions need not end either."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.peer: str | None = None
        self._left = LONGEST_WIRE
        #: Kept here too: the library lets go of one that it has begun to close.
        self._connected: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who is at the other end."""
        super().connection_made(transport)
        self._connected = cast(asyncio.Transport, transport)
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self.peer = joined(host, port) if host else None

    def data_received(self, data: bytes) -> None:
        """Pass it on, as long as it is within the limit."""
        self._left -= len(data)
        if self._left < 0:
            self.cut()
            return
        # The head by itself: it says whether the receiver took the delivery, whatever is wrong with what follows.
        head, blank_line, rest = data.partition(b"\r\n\r\n")
        super().data_received(head + blank_line)
        if rest and self.exception() is None:
            super().data_received(rest)
        # The library tells whoever waits for a head of what is no HTTP, but not who reads a body.
        if self.exception() is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.feed_eof()

    def cut(self) -> None:
        """End the connection without waiting for anything."""
        if self._connected is not None:
            self._connected.abort()


def _key(sockaddr: tuple[object, ...]) -> tuple[object, object]:
    """The address and port, however the address is spelt."""
    try:
        return ipaddress.ip_address(str(sockaddr[0]).partition("%")[0]), sockaddr[1]
    except ValueError:
        return sockaddr[0], sockaddr[1]
