"""HTTP to the target. Keeps apart what could not be reached, what broke midway, and what the target refused.

httpx is the API and aiohttp the transport (ADR 5). Its mapping of aiohttp's errors is not relied on: it calls a
reset connection a connect timeout, and whether a call had started is what the retry rule turns on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from foreman.errors import TargetBroke, TargetError, TargetRefused, TargetUnreachable

#: Of a caller's headers, those that Ollama looks at. `Authorization` is never passed on.
FORWARDED: Final = ("user-agent", "accept", "content-type")
#: Of an error text, so much goes into the log, whose events are small; a blocking caller gets the whole body.
LONGEST_ERROR: Final = 1_000
#: ValueError is what the transport makes of a status line that is no UTF-8.
FAILURES: Final = (httpx.TransportError, httpx.StreamError, aiohttp.ClientError, OSError, ValueError)
#: Requests that change nothing, so that one which a kept connection swallowed may be sent again. (aiohttp repeats
#: GET and HEAD by itself.)
REPEATABLE: Final = frozenset({"/api/embed", "/api/embeddings", "/api/show"})
#: A laptop that falls asleep closes nothing. After so many seconds of silence it is asked for a sign of life, which a
#: target that thinks for minutes gives too; without one for a minute the connection is broken. macOS and Linux
#: differ in the first name.
PROBES: Final = {
    "TCP_KEEPIDLE": 20,
    "TCP_KEEPALIVE": 20,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 4,
    "TCP_USER_TIMEOUT": 60_000,  # the same for what was sent and not acknowledged, in milliseconds
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetAddress:
    """Where the target is and how to introduce oneself. `host_header` empty means: chosen by `host_header_for`."""

    url: str
    token: str | None = None
    host_header: str = ""
    connect_timeout_s: float = 5.0


class Reply:
    """An answer whose body is still to come."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status: int = response.status_code
        self.content_type: str = response.headers.get("content-type", "")
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come. Raises TargetBroke if the connection ends before the body does."""
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except FAILURES as error:
            raise TargetBroke(f"the target's answer broke off: {_reason(error)}") from error

    async def read(self) -> bytes:
        """The whole body. Raises TargetBroke."""
        return b"".join([chunk async for chunk in self.chunks()])


class Target:
    """The Ollama server at one address."""

    def __init__(self, address: TargetAddress) -> None:
        self.address = address
        self._headers = {"host": address.host_header or host_header_for(address.url), "accept-encoding": "identity"}
        if address.token:
            self._headers["authorization"] = f"Bearer {address.token}"
        # A generation gets a connection of its own: on a kept one, a request that fails could not be told from one
        # that never started, and a target that was away would cost the job an attempt.
        #
        # Requests go to the transport itself: of what httpx's client adds (redirects, cookies, proxies, merged
        # headers) nothing is wanted here, and it costs as much as the rest of the call.
        self._fresh = self._transport(keep=False)
        self._kept = self._transport(keep=True)
        self._extensions = {"timeout": {"connect": address.connect_timeout_s}}

    @staticmethod
    def _transport(*, keep: bool) -> AiohttpTransport:
        def session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(limit=0, force_close=not keep, socket_factory=_socket)
            return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

        return AiohttpTransport(client=session)

    @asynccontextmanager
    async def generate(self, path: str, body: bytes, headers: Mapping[str, str]) -> AsyncIterator[Reply]:
        """Send a generation on a connection of its own; leaving the block closes it.

        Raises TargetUnreachable if the call never started, TargetBroke if it did and no answer came.
        """
        async with self._send(self._fresh, "POST", path, body, headers) as reply:
            yield reply

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, body: bytes | AsyncIterator[bytes] | None, headers: Mapping[str, str]
    ) -> AsyncIterator[Reply]:
        """Send anything else, to be passed on as it comes. Raises as `generate` does."""
        async with self._send(self._kept, method, path, body, headers) as reply:
            yield reply

    async def fetch(self, method: str, path: str, body: bytes | None = None, *, within_s: float) -> bytes:
        """The body of a 200. Raises TargetError: refused, broken, unreachable or too late.

        On a connection of its own: a kept one may still answer when the target takes no new ones.
        """
        try:
            async with asyncio.timeout(within_s), self._send(self._fresh, method, path, body, {}) as reply:
                answer = await reply.read()
        except TimeoutError:
            raise TargetBroke(f"{method} {path} had no answer within {within_s:g} s") from None
        if reply.status != httpx.codes.OK:
            raise refused(reply.status, reply.content_type, answer)
        return answer

    @asynccontextmanager
    async def _send(
        self,
        transport: AiohttpTransport,
        method: str,
        path: str,
        body: bytes | AsyncIterator[bytes] | None,
        headers: Mapping[str, str],
    ) -> AsyncIterator[Reply]:
        request = httpx.Request(
            method,
            self.address.url.rstrip("/") + path,
            content=body,
            headers={**headers, **self._headers},
            extensions=self._extensions,
        )
        try:
            response = await self._open(transport, request)
        except TargetBroke:
            if transport is not self._kept or path not in REPEATABLE:
                raise
            response = await self._open(self._fresh, request)
        try:
            yield Reply(response)
        finally:
            await response.aclose()

    async def _open(self, transport: AiohttpTransport, request: httpx.Request) -> httpx.Response:
        try:
            return await transport.handle_async_request(request)
        except FAILURES as error:
            raise _failure(self.address.url, error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._fresh.aclose()
        await self._kept.aclose()


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """Of a caller's headers, those to pass on, without what HTTP cannot carry though a lenient parser took it."""
    given = ((name, headers.get(name)) for name in FORWARDED)
    return {name: value for name, value in given if value is not None and value.isascii() and value.isprintable()}


def refused(status: int, content_type: str, body: bytes) -> TargetRefused:
    """An error answer of the target's as an error."""
    return TargetRefused(error_text(status, body), status=status, body=body, content_type=content_type)


def error_text(status: int, body: bytes) -> str:
    """The sentence in an error answer; Ollama's are `{"error": "…"}`."""
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        decoded = None
    error = decoded.get("error") if isinstance(decoded, dict) else None
    if isinstance(error, str) and error:
        return error[:LONGEST_ERROR]
    text = body.decode(errors="replace").strip()
    return text[:LONGEST_ERROR] or f"the target answered with HTTP status {status}"


def host_header_for(url: str) -> str:
    """The Host header that gets past Ollama's check.

    An Ollama bound to loopback answers 403 to a host name it does not know, such as that of the machine in front of
    it. Plain http to a private address or a short name is such a case; a public name may need itself.
    """
    parsed = httpx.URL(url)
    host = parsed.host
    if parsed.scheme == "https" or not _is_private(host):
        return parsed.netloc.decode()
    return f"localhost:{parsed.port or 80}"


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".home.arpa"))


def _failure(url: str, error: BaseException) -> TargetError:
    """Whether a call never started or broke."""
    cause = error.__cause__ if isinstance(error, httpx.TransportError) and error.__cause__ else error
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL):
        return TargetUnreachable(f"cannot reach {url}: {_reason(cause)}")
    return TargetBroke(f"the connection to {url} broke before an answer: {_reason(cause)}")


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, aiohttp.ClientConnectorError):
        return cause.strerror or str(cause.os_error) or str(cause)
    return str(cause) or type(cause).__name__
