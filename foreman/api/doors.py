"""Who may come in: the bearer token, and the browser checks that Ollama makes. Runs before a body is read."""

from __future__ import annotations

import hmac
import ipaddress
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from sanic import Request
from sanic.response import BaseHTTPResponse

from foreman.errors import Unauthorized

#: Open without a token: the probe, what Ollama's own clients ask first, and the page that asks for the token.
OPEN_PATHS: Final = frozenset({"/healthz", "/", "/dashboard"})
#: The page's files. They are the same for everybody, and nothing else is ever served from there.
OPEN_FOLDER: Final = "/dashboard/"
#: Origins that Ollama allows by default (ollama 0.33, envconfig): these hosts over http or https, and these schemes.
LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "0.0.0.0"})  # noqa: S104  (compared, never bound)
APP_SCHEMES: Final = frozenset({"app", "file", "tauri", "vscode-webview", "vscode-file"})
LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")
PREFLIGHT: Final = {
    "access-control-allow-headers": (
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,"
        "X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,"
        "X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,"
        "X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout"
    ),
    "access-control-allow-methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "access-control-max-age": "43200",
}
#: What a preflight's answer depends on, beside the origin.
PREFLIGHT_VARIES: Final = ("Access-Control-Request-Method", "Access-Control-Request-Headers")

#: For what is no page of foreman's own: opened as one it runs nothing, whatever a caller, a model or a target wrote.
NO_PAGE: Final = MappingProxyType(
    {
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    }
)


def check_token(request: Request, token: str | None) -> None:
    """Raises Unauthorized unless the request carries the token, compared in constant time."""
    if token is None or request.path in OPEN_PATHS or request.method == "OPTIONS":
        return
    if request.path.startswith(OPEN_FOLDER):
        return
    given = request.headers.get("authorization", "")
    scheme, _, value = given.partition(" ")
    if not given:
        raise Unauthorized("this foreman needs a token: send it as 'Authorization: Bearer <token>'")
    right = hmac.compare_digest(value.strip().encode(errors="surrogateescape"), token.encode())
    if scheme.lower() != "bearer" or not right:
        raise Unauthorized("the token is wrong")


def is_foreign(request: Request, *, check_host: bool, public_url: str | None = None) -> bool:
    """Whether a browser sent this on behalf of a page that has no business here; Ollama answers 403, empty.

    `check_host` is for a foreman bound to loopback: only there does an unknown Host mean DNS rebinding.
    `public_url` is where a proxy shows foreman: the dashboard's own origin there, whatever Host the proxy sends on.
    """
    origin = request.headers.get("origin")
    if origin is not None and not _is_own(origin, request, public_url) and not is_allowed_origin(origin):
        return True
    return check_host and not is_local_host(request.headers.get("host", ""))


def is_allowed_origin(origin: str) -> bool:
    """Whether Ollama allows pages of this origin by default."""
    scheme, separator, rest = origin.partition("://")
    if not separator:
        return False
    if scheme in APP_SCHEMES:
        return True
    return scheme in {"http", "https"} and _host(rest) in LOCAL_HOSTS


def is_local_host(host: str) -> bool:
    """Whether a Host header names this machine or its private network."""
    name = _host(host)
    if not host or name == "localhost" or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def origin_of(url: str | None) -> str:
    """The origin as a browser writes it; empty for no URL."""
    parts = urlsplit(url or "")
    if not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" if parts.port in {None, usual} else f"{parts.scheme}://{host}:{parts.port}"


def _host(place: str) -> str:
    """The host in `host:port`; empty for what is none."""
    try:
        return urlsplit(f"//{place}").hostname or ""
    except ValueError:
        return ""


def make_inert(response: BaseHTTPResponse) -> None:
    """Tell the browser that this is no page, unless the answer has said for itself what it is."""
    for name, value in NO_PAGE.items():
        response.headers.setdefault(name, value)


def allow_origin(request: Request, response: BaseHTTPResponse) -> None:
    """Tell the browser that the page may read this answer."""
    origin = request.headers.get("origin")
    if origin is None or _is_same(origin, request) or not is_allowed_origin(origin):
        return
    response.headers["access-control-allow-origin"] = origin
    response.headers.add("vary", "Origin")
    if request.method == "OPTIONS":
        response.headers.update(PREFLIGHT)
        for name in PREFLIGHT_VARIES:
            response.headers.add("vary", name)


def _is_own(origin: str, request: Request, public_url: str | None) -> bool:
    return _is_same(origin, request) or origin == origin_of(public_url)


def _is_same(origin: str, request: Request) -> bool:
    return origin.partition("://")[2] == request.headers.get("host")
