"""Where the daemon is and how httpx is to reach it: what both drivers have in common. Opens no connection."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

import httpx

from foreman import __version__
from foreman.client.core import Answer, Lost, Request
from foreman.client.errors import Unreachable
from foreman.errors import ConfigError

DEFAULT_URL: Final = "http://127.0.0.1:8080"
#: A host that does not answer at all is given up sooner than one that takes its time.
_CONNECT_S: Final = 10.0
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


class Connection:
    """The daemon's address and the token for it, neither of which is looked at again once a client is made."""

    def __init__(
        self, url: str | None, token: str | None, timeout_s: float, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._url = _checked(url or environ.get("FOREMAN_URL", "").strip() or DEFAULT_URL)
        self._token = _token(environ.get("FOREMAN_TOKEN", "") if token is None else token)
        self._timeout_s = timeout_s
        #: For messages: without a user's name or password, which a URL may hold.
        self.url = str(self._url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")

    def arguments(self) -> dict[str, Any]:
        """What an httpx client is made with."""
        headers = {"user-agent": f"foreman-client/{__version__}", "accept": "application/json"}
        # Compressed, a line would only come once enough others have.
        headers["accept-encoding"] = "identity"
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        return {
            "base_url": self._url,
            "headers": headers,
            # A proxy cannot know what is at this machine's loopback.
            "trust_env": not _is_loopback(self._url.host),
            # To load a machine's certificates takes 30 ms, which nobody needs who speaks plain HTTP.
            "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if self._url.scheme == "http" else True,
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
        }

    def options(self, request: Request) -> dict[str, Any]:
        """What an httpx request is made with."""
        silence_s = self._timeout_s if request.silence_s is None else request.silence_s
        return {
            "method": request.method,
            "url": request.path,
            "params": dict(request.params),
            "headers": dict(request.headers),
            "content": request.body or None,
            "timeout": httpx.Timeout(silence_s, connect=min(self._timeout_s, _CONNECT_S), pool=None),
        }

    def lost(self, error: httpx.RequestError) -> Lost:
        """What an exception of httpx's means."""
        silent = isinstance(error, httpx.TimeoutException)
        why = "it does not answer" if silent else str(error) or type(error).__name__
        sent = not isinstance(error, _NEVER_SENT)
        if self._url.scheme == "https" and not sent and (silent or "WRONG_VERSION_NUMBER" in why):
            why = f"{'no' if silent else 'a wrong'} answer to TLS, which foreman itself does not speak: try http://"
        words = "the connection to foreman broke" if sent else "foreman cannot be reached"
        unreachable = Unreachable(f"{words} at {self.url}: {why}")
        unreachable.__cause__ = error
        return Lost(unreachable, sent=sent)


def answered(response: httpx.Response, body: bytes) -> Answer:
    """A response of httpx's as the core takes it."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=headers, body=body)


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        host = parsed.host
        parsed.raw_host.decode("ascii").encode("idna")  # as the resolver will, which says it with a traceback
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"foreman's URL is not one: {error}") from None
    if parsed.scheme not in {"http", "https"} or not host:
        raise ConfigError("foreman's URL must begin with http:// or https:// and name a host, as http://127.0.0.1:8080")
    return parsed.copy_with(query=None, fragment=None)


def _token(given: str) -> str:
    token = given.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("the token may hold only visible ASCII characters, no blanks")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
