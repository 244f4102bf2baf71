"""One attempt over HTTP, to an address that was judged, within limits that are ours. Knows no job and keeps nothing.

Each attempt has a connection of its own: a kept one would reach an address that was judged for an earlier attempt.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import aiohttp
import certifi
from aiohttp.client_reqrep import ClientResponse
from yarl import URL

from foreman import __version__
from foreman.destinations import Destinations, parse_url
from foreman.errors import AddressRefused
from foreman.logs import get_logger
from foreman.webhooks.way import LONGEST_REPLY, Connection, Way

log = get_logger(__name__)

#: Of a reply, so much is kept.
KEPT_REPLY: Final = 1024
#: An error's words, which may quote the receiver.
LONGEST_ERROR: Final = 500
USER_AGENT: Final = f"foreman/{__version__}"
#: ValueError and EOFError are what the library makes of some replies that are no HTTP.
FAILURES: Final = (aiohttp.ClientError, OSError, ValueError, EOFError)


@dataclass(slots=True)
class Exchange:
    """What is known of an attempt, as far as it got. `error` is None if the receiver took the delivery."""

    address: str | None = None
    status: int | None = None
    retry_after: str | None = None
    reply: bytes = b""
    error: str | None = None


class Sender:
    """Makes attempts: no redirects, no proxies, no cookies, no decompression."""

    def __init__(self, destinations: Destinations, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        """`timeout_s` is for a whole attempt, from the look-up of the name to the end of the reply."""
        self._destinations = destinations
        self._timeout_s = timeout_s
        self._tls = tls or _trusted()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Exchange:
        """Send a body and take in the reply; what goes wrong is in the exchange."""
        exchange = Exchange()
        try:
            async with asyncio.timeout(self._timeout_s):
                destination = parse_url(url)
                places = await self._destinations.places(destination)
                await self._exchange(exchange, Way(destination, places), headers, body)
        except TimeoutError:
            exchange.error = f"no complete reply within {self._timeout_s:g} s"
        except AddressRefused as error:
            exchange.error = str(error)
        except FAILURES as error:
            exchange.error = _words(error)
        except Exception as error:
            # What a receiver sends must never end foreman, and the next start meet the same receiver.
            log.error("webhook.odd_reply", exc_info=error)
            exchange.error = _storable(f"the attempt broke off: {type(error).__name__}")
        return exchange

    async def _exchange(self, exchange: Exchange, way: Way, headers: Mapping[str, str], body: bytes) -> None:
        connector = Connection(way, self._tls)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        )
        ours = {"content-type": "application/json", "user-agent": USER_AGENT, "accept-encoding": "identity"}
        try:
            url = URL(way.destination.url, encoded=True)
            # As a file, since the library warns of large bytes.
            sent = session.post(url, data=io.BytesIO(body), headers={**ours, **headers}, allow_redirects=False)
            async with sent as response:
                await _take_in(exchange, response)
        finally:
            exchange.address = connector.address or way.dialled
            connector.cut()
            await session.close()


async def _take_in(exchange: Exchange, response: ClientResponse) -> None:
    exchange.status = response.status
    exchange.retry_after = response.headers.get("retry-after")
    size, kept = 0, bytearray()
    with suppress(*FAILURES):  # the status has said whether the receiver took it, whatever is wrong with the rest
        async for chunk in response.content.iter_any():
            size += len(chunk)
            kept += chunk[: KEPT_REPLY - len(kept)]
            exchange.reply = bytes(kept)
            if size >= LONGEST_REPLY:
                break
    if not 200 <= response.status < 300:
        location = response.headers.get("location")
        where = f"; redirects are not followed (to {location})" if location else ""
        exchange.error = _storable(f"the receiver answered {response.status}{where}")


def _trusted() -> ssl.SSLContext:
    """The machine's own trust, which SSL_CERT_FILE may replace; where it has none, as on some Macs, certifi's."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def _words(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, aiohttp.ClientConnectorError) and error.__cause__ else error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return "the receiver closed the connection without a reply"
    if isinstance(cause, aiohttp.ClientResponseError):
        # Its own words would quote the URL, which may hold a secret of the receiver's.
        return _storable(f"the reply is no HTTP that foreman reads: {' '.join(cause.message.split())}")
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return "there is no TLS at this port; is it http:// that was meant?"
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError | socket.gaierror) and cause.errno:
        # Its own words for a refused connection name the address, which is on record, instead of the reason.
        return os.strerror(cause.errno)
    if isinstance(cause, OSError) and cause.strerror:
        return _storable(cause.strerror)
    return _storable(str(cause) or type(cause).__name__)


def _storable(words: str) -> str:
    """Words that may quote the receiver, as JSON and a database take them: bytes that are no UTF-8 stand in them."""
    return words[:LONGEST_ERROR].encode(errors="replace").decode()
