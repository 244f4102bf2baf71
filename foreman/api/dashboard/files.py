"""`/dashboard`: the page's files as they lie in the package. A fixed set read once; nothing of a request names a path.

They hold no data, so they are open without a token. What the page may do in a browser is said here, in their headers.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

from sanic import HTTPResponse, Request
from sanic.response import raw

from foreman.errors import NotFound

PAGE: Final = "index.html"
#: By the end of the name. Not from the system's table, which differs from machine to machine.
CONTENT_TYPES: Final = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
        ".md": "text/plain; charset=utf-8",
        "LICENSE": "text/plain; charset=utf-8",
    }
)
#: Nothing but the page's own files runs or is loaded, nothing is sent elsewhere, and no text can become markup.
POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
HEADERS: Final = MappingProxyType(
    {
        "content-security-policy": "; ".join(POLICY),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        # Kept, but asked for each time: after an upgrade no tab may mix old files with new ones.
        "cache-control": "no-cache",
        "vary": "Accept-Encoding",
    }
)


@dataclass(frozen=True, slots=True)
class Form:
    """A file's bytes as they are sent, and the tag that they are known by."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page, plain and compressed."""

    content_type: str
    plain: Form
    gzipped: Form


@cache
def assets() -> Mapping[str, Asset]:
    """Every file by its path below `/dashboard/`."""
    return MappingProxyType(dict(_read(files("foreman.api.dashboard") / "static", "")))


async def page(request: Request) -> HTTPResponse:
    """`GET /dashboard`: the dashboard's page. It holds no data, and asks for the token itself if there is one."""
    return _answer(request, assets()[PAGE])


async def asset(request: Request, name: str) -> HTTPResponse:
    """`GET /dashboard/{name}`: a script or a style sheet of the page. Raises NotFound."""
    found = assets().get(name or PAGE)
    if found is None:
        raise NotFound("the dashboard has no such file")
    return _answer(request, found)


def _read(folder: Traversable, prefix: str) -> Iterator[tuple[str, Asset]]:
    for item in folder.iterdir():
        name = f"{prefix}{item.name}"
        if item.is_dir():
            yield from _read(item, f"{name}/")
            continue
        content_type = next((kind for end, kind in CONTENT_TYPES.items() if name.endswith(end)), None)
        if content_type is not None:  # else a thing that an editor or a tool has left there
            body = item.read_bytes()
            yield name, Asset(content_type, _form(body), _form(gzip.compress(body, mtime=0)))


def _form(body: bytes) -> Form:
    return Form(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _answer(request: Request, found: Asset) -> HTTPResponse:
    compressed = _takes_gzip(request.headers.get("accept-encoding", ""))
    form = found.gzipped if compressed else found.plain
    headers = {**HEADERS, "etag": form.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {form.etag, "*"}:
        return HTTPResponse(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    if compressed:
        headers["content-encoding"] = "gzip"
    return raw(form.body, headers=headers, content_type=found.content_type)


def _takes_gzip(accepted: str) -> bool:
    """Whether `Accept-Encoding` names gzip, and not with a weight of 0."""
    for item in accepted.lower().split(","):
        coding, _, weight = (part.strip() for part in item.partition(";"))
        if coding == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
