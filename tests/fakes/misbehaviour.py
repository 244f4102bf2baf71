"""What the fake webhook receiver can do to one request, as values that a test can name and compare.

Owns the bytes of each misbehaviour and the connection as it sees it. Must not know which request it is done to.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.client import responses
from ssl import SSLContext

_BOMB_MIB = 256


class Wire:
    """One connection as a behaviour sees it: one request in, any bytes out, and the ways to end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.ready = False  #: are reader and writer there?
        self.lasting = False  #: may another request follow?
        self._wants_to_last = False

    async def begin(self, ssl: SSLContext | None) -> None:
        """Make reader and writer; OSError if a TLS handshake fails. Must not be cancelled: asyncio would leak it."""
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=1 << 20)
        protocol = asyncio.StreamReaderProtocol(self.reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, self.socket, ssl=ssl)
        self.writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)
        self.ready = True

    async def request(self, begun: bytes) -> tuple[str, str, dict[str, str], bytes]:
        """Read one request whole, of which `begun` was read already; IncompleteReadError if it breaks off."""
        head = begun + await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, path, protocol = first.split(" ")
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in lines):
            key = name.lower()
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
        self._wants_to_last = protocol == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return method, path, headers, await self._chunks()
        return method, path, headers, await self.reader.readexactly(int(headers.get("content-length", "0")))

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass  # a trailer
        return body

    async def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """One proper answer, after which the connection can be used again."""
        length = {} if status == 204 else {"Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in {**(headers or {}), **length}.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        self.lasting = self._wants_to_last

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; ConnectionError if the client has left."""
        self.writer.write(data)
        await self.writer.drain()

    async def left(self, within: float | None = None) -> bool:
        """Wait until the client has left, at most so many seconds; whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while await self.reader.read(65536):
                    pass
                return True
        return False

    def reset(self) -> None:
        """End it so that the client sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def end(self, *, at_once: bool = False) -> None:
        """Close it when all is sent, or at once whatever is still unsent; return when the socket is closed."""
        self.writer.transport.abort() if at_once else self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@dataclass(frozen=True)
class Behaviour:
    """What the receiver does to one request. Two of the same name are equal."""

    name: str
    act: Callable[[Wire], Awaitable[None]] = field(repr=False, compare=False)
    unread: bool = False  #: is done instead of reading the request, which is not recorded then


def answer(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Behaviour:
    """A proper answer."""
    said = "".join([f" {name}: {value}" for name, value in (headers or {}).items()] + [f" {body[:40]!r}"] * bool(body))
    return Behaviour(f"answer {status}{said}", lambda wire: wire.answer(status, body, headers))


def redirect(location: str, status: int = 302) -> Behaviour:
    """An answer that sends the client elsewhere."""
    return answer(status, headers={"Location": location})


def too_many(retry_after: object) -> Behaviour:
    """429 with a Retry-After as it is given: seconds or an HTTP date."""
    return answer(429, headers={"Retry-After": str(retry_after)})


def gone() -> Behaviour:
    """410: never call here again."""
    return answer(410)


def set_cookie() -> Behaviour:
    """200, and a cookie that nobody should send back."""
    return answer(headers={"Set-Cookie": "session=1; Path=/"})


def gzip_bomb() -> Behaviour:
    """200 with a small compressed body that inflates to 256 MiB."""
    return Behaviour("gzip_bomb", lambda wire: wire.answer(200, _bomb(), {"Content-Encoding": "gzip"}))


@functools.cache
def _bomb() -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(deflate.compress(bytes(1 << 20)) for _ in range(_BOMB_MIB)), deflate.flush()])


def hold(gate: asyncio.Event, then: Behaviour | None = None) -> Behaviour:
    """Behave only when the gate opens, even to a client that has left by then; by default, answer 200."""
    then = then or answer()

    async def act(wire: Wire) -> None:
        await gate.wait()
        await then.act(wire)

    return Behaviour(f"hold, {then.name}", act)


def hang() -> Behaviour:
    """Read the request and never answer."""

    async def act(wire: Wire) -> None:
        await wire.left()

    return Behaviour("hang", act)


def refuse_reading() -> Behaviour:
    """Never read. The connection stays open until the receiver closes: who does not read sees no one leave."""

    async def act(wire: Wire) -> None:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport for both ways
        await asyncio.Event().wait()

    return Behaviour("refuse_reading", act, unread=True)


def drip(seconds: float = 1.0) -> Behaviour:
    """200 and a body without a foreseeable end, a byte every so many seconds."""
    return _dripping(f"drip {seconds}", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", seconds)


def drip_header(seconds: float = 1.0) -> Behaviour:
    """200 and a header without an end, a byte every so many seconds."""
    return _dripping(f"drip_header {seconds}", b"HTTP/1.1 200 OK\r\nX-Drip: ", seconds)


def _dripping(name: str, head: bytes, seconds: float) -> Behaviour:
    async def act(wire: Wire) -> None:
        await wire.send(head)
        while not await wire.left(within=seconds):
            await wire.send(b".")

    return Behaviour(name, act)


def endless(chunk: bytes = b"." * 65536) -> Behaviour:
    """200 and a body for ever, as fast as the client reads."""

    async def act(wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            await wire.send(chunk)
            await asyncio.sleep(0)  # sending does not yield as long as the client keeps up

    return Behaviour("endless", act)


def reset() -> Behaviour:
    """A reset instead of an answer."""
    return _raw("reset", b"", resets=True)


def reset_midway() -> Behaviour:
    """Half an answer, then a reset."""
    return _raw("reset_midway", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"." * 50, resets=True)


def wrong_length() -> Behaviour:
    """A body shorter than announced, then the end."""
    return _raw("wrong_length", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"." * 50)


def garbage() -> Behaviour:
    """Bytes that are no HTTP."""
    return _raw("garbage", b"\x00\xff\x16\x03 this is no HTTP\r\n\r\n\x00")


def close_at_once() -> Behaviour:
    """Close a new connection without reading anything."""
    return _raw("close_at_once", b"", unread=True)


def _raw(name: str, data: bytes, *, resets: bool = False, unread: bool = False) -> Behaviour:
    async def act(wire: Wire) -> None:
        await wire.send(data)
        if resets:
            wire.reset()

    return Behaviour(name, act, unread)


#: What `Receiver.at_random` chooses from if not told otherwise, with the weight of each.
HOSTILE = {
    answer(): 0.4,
    answer(500): 0.2,
    too_many(1): 0.1,
    reset(): 0.1,
    reset_midway(): 0.1,
    hang(): 0.05,
    drip(1.0): 0.05,
}
