"""What Ollama's HTTP layer does before any route is reached: redirects, CORS, the Host check, 404 and 405.

Also the header order of Go's server. Knows no request body.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import socket
from urllib.parse import unquote

from aiohttp import web

_PLAIN = {"Content-Type": "text/plain"}
_READ, _POST = ("HEAD", "GET"), ("POST",)
#: Every native route and its methods, in the order in which `Allow` names them.
ROUTES: dict[str, tuple[str, ...]] = {
    "/": _READ,
    "/api/version": _READ,
    "/api/tags": _READ,
    "/api/ps": ("GET",),
    "/api/status": ("GET",),
    "/api/show": _POST,
    "/api/chat": _POST,
    "/api/generate": _POST,
    "/api/embed": _POST,
    "/api/embeddings": _POST,
    "/api/pull": _POST,
    "/api/push": _POST,
    "/api/create": _POST,
    "/api/copy": _POST,
    "/api/delete": ("DELETE",),
    "/api/blobs/:digest": ("HEAD", "POST"),
}
_ORIGIN = re.compile(
    r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:.*)?|(app|file|tauri|vscode-webview|vscode-file)://.*"
)
_PREFLIGHT = {
    "Access-Control-Allow-Headers": "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,"
    "X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,"
    "X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout",
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Max-Age": "43200",
}
_LAST = ("Date", "Content-Length", "Transfer-Encoding", "Connection")


class GoRequest(web.BaseRequest):
    """A request whose answer gets its headers in Go's order: by name, then what the server itself adds."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        headers = response.headers
        found = [(name, value) for name, value in headers.items() if name not in (*_LAST, "Server")]
        if headers.get("Content-Type") == "application/octet-stream":  # aiohttp's own default
            found = [(name, value) for name, value in found if name != "Content-Type"]
        found.sort(key=lambda header: header[0])
        found += [(name, headers[name]) for name in _LAST if name in headers]
        headers.clear()
        for name, value in found:
            headers.add(name, value)


def route_of(path: str) -> str:
    """The route that a decoded path belongs to; "" for none."""
    if path.startswith("/api/blobs/") and path.count("/") == 3 and not path.endswith("/"):
        return "/api/blobs/:digest"
    return path if path in ROUTES else ""


def redirected(request: web.BaseRequest) -> web.Response | None:
    """The redirect of an unclean path or a slash too many."""
    raw, _, query = request.raw_path.partition("?")
    path = unquote(raw)
    clean = posixpath.normpath(path).replace("//", "/", 1) + ("/" if path.endswith("/") and path.strip("/") else "")
    if clean != path and request.method != "CONNECT":
        return _redirect(request, 307, clean, query)
    shorter = path.removesuffix("/")
    if shorter != path and request.method in ROUTES.get(route_of(shorter), ()):
        return _redirect(request, 301 if request.method == "GET" else 307, shorter, query)
    return None


def _redirect(request: web.BaseRequest, status: int, path: str, query: str) -> web.Response:
    target = f"{path}?{query}" if query else path
    if request.method not in ("GET", "HEAD"):
        return web.Response(status=status, headers={"Location": target})
    reason = {301: "Moved Permanently", 307: "Temporary Redirect"}[status]
    escaped = target.replace("&", "&amp;")
    return web.Response(
        status=status,
        body=f'<a href="{escaped}">{reason}</a>.\n\n'.encode(),
        headers={"Content-Type": "text/html; charset=utf-8", "Location": target},
    )


def refused(request: web.BaseRequest, route: str, *, check_host: bool) -> web.Response | None:
    """The answer that keeps a request from its route, if there is one. May note CORS headers for the answer."""
    host = request.headers.get("Host")
    if host is None or " " in host:
        fault = "missing required" if host is None else "malformed"
        said = f"400 Bad Request: {fault} Host header".encode()
        return _closing(web.Response(status=400, body=said, headers={"Content-Type": "text/plain; charset=utf-8"}))
    methods = ROUTES.get(route, ())
    allow = {} if request.method in methods or not methods else {"Allow": ", ".join(methods)}
    origin = request.headers.get("Origin", "")
    if origin and origin not in (f"http://{host}", f"https://{host}"):
        if not _ORIGIN.fullmatch(origin):
            return web.Response(status=403, headers=allow)
        if request.method == "OPTIONS":
            preflight = web.Response(status=204, headers=_PREFLIGHT | allow)
            preflight.headers["Access-Control-Allow-Origin"] = origin
            for name in ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"):
                preflight.headers.add("Vary", name)
            return preflight
    named = _name_allowed(_hostname(host))
    if check_host and not named and not _address_allowed(_hostname(host)):
        return web.Response(status=403)
    if check_host and named and request.method == "OPTIONS":
        return web.Response(status=204, headers=allow)
    if allow:
        return web.Response(status=405, body=b"405 method not allowed", headers=_PLAIN | allow)
    return None if methods else web.Response(status=404, body=b"404 page not found", headers=_PLAIN)


def cors(request: web.BaseRequest) -> dict[str, str]:
    """The headers that an allowed foreign origin adds to an answer."""
    origin = request.headers.get("Origin", "")
    host = request.headers.get("Host", "")
    if not origin or origin in (f"http://{host}", f"https://{host}"):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response


def _hostname(host: str) -> str:
    match = re.fullmatch(r"\[([^\]]*)\]:\d*|([^:\[\]]*):\d*", host)
    return (match.group(1) or match.group(2) or "") if match else host


def _address_allowed(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def _name_allowed(host: str) -> bool:
    host = host.lower()
    return host in ("", "localhost", socket.gethostname().lower()) or host.endswith(
        (".localhost", ".local", ".internal")
    )
