"""The Sanic application: its routes, the checks before them, and what becomes of every error. Starts nothing."""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from html import escape
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final

from sanic import HTTPResponse, Request, Sanic
from sanic.application.state import ApplicationServerInfo
from sanic.exceptions import MethodNotAllowed, SanicException
from sanic.handlers import ErrorHandler
from sanic.http.constants import HTTP
from sanic.response import BaseHTTPResponse, raw

from foreman.api import audit, blocking, deliveries, events, follow, jobs, metrics, ollama, queue, statistics, system
from foreman.api.dashboard import files as dashboard
from foreman.api.desk import Desk, desk_of
from foreman.api.doors import allow_origin, check_token, is_foreign, make_inert
from foreman.api.errors import JSON, REQUEST_CANCELED, error_body, error_response
from foreman.api.relay import answer, pass_on
from foreman.errors import ForemanError, NotFound, QueueFull, TooLarge
from foreman.logs import get_logger

log = get_logger(__name__)

#: Sanic's own timeouts would cut a caller that waits for its turn; a caller that leaves ends its handler at once.
NEVER_S: Final = 10 * 365 * 24 * 3600
#: Longer than the clients' and proxies' own, so that it is they who close an idle connection.
IDLE_S: Final = 120
TEXT: Final = "text/plain"
#: Where foreman answers in its own words and not in Ollama's.
OURS: Final = (
    "/audit",
    "/dashboard",
    "/jobs",
    "/deliveries",
    "/events",
    "/healthz",
    "/metrics",
    "/queue",
    "/statistics",
)


@dataclass(frozen=True, slots=True)
class Route:
    """One route: its methods in the order Ollama lists them, and whether its body is read by the handler."""

    path: str
    methods: tuple[str, ...]
    handler: Callable[..., Any]
    streamed: bool = False

    @property
    def label(self) -> str:
        """The path as people write it, `/jobs/{job_id}`."""
        return re.sub(r"<(\w+):\w+>", r"{\1}", self.path)


BLOB: Final = "/api/blobs/<digest:str>"
ROUTES: Final = (
    Route("/", ("HEAD", "GET"), ollama.root),
    Route("/api/version", ("HEAD", "GET"), ollama.version),
    Route("/api/tags", ("HEAD", "GET"), ollama.tags),
    Route("/api/ps", ("GET",), ollama.ps),
    Route("/api/status", ("GET",), pass_on),
    Route("/api/show", ("POST",), pass_on),
    Route("/api/chat", ("POST",), blocking.chat),
    Route("/api/generate", ("POST",), blocking.generate),
    Route("/api/embed", ("POST",), ollama.embed),
    Route("/api/embeddings", ("POST",), ollama.embed),
    Route("/api/pull", ("POST",), ollama.manage),
    Route("/api/push", ("POST",), ollama.manage),
    Route("/api/create", ("POST",), ollama.manage),
    Route("/api/copy", ("POST",), ollama.manage),
    Route("/api/delete", ("DELETE",), ollama.manage),
    Route(BLOB, ("HEAD",), ollama.manage_blob),
    Route(BLOB, ("POST",), ollama.upload_blob, streamed=True),
    Route("/jobs", ("GET",), jobs.list_jobs),
    Route("/jobs", ("POST",), jobs.submit),
    Route("/jobs/<job_id:str>", ("GET",), jobs.get),
    Route("/jobs/<job_id:str>", ("DELETE",), jobs.cancel),
    Route("/jobs/<job_id:str>/artifacts", ("GET",), jobs.artifacts),
    Route("/jobs/<job_id:str>/artifacts/<name:path>", ("GET",), jobs.artifact),
    Route("/jobs/<job_id:str>/events", ("GET",), jobs.events),
    Route("/jobs/<job_id:str>/stream", ("GET",), follow.stream),
    Route("/jobs/<job_id:str>/retry", ("POST",), jobs.retry),
    Route("/jobs/<job_id:str>/deliveries", ("GET",), deliveries.of_job),
    Route("/jobs/<job_id:str>/deliveries/redeliver", ("POST",), deliveries.redeliver_of_job),
    Route("/queue", ("GET",), queue.queue),
    Route("/statistics", ("GET",), statistics.statistics),
    Route("/deliveries", ("GET",), deliveries.list_deliveries),
    Route("/deliveries/redeliver", ("POST",), deliveries.redeliver),
    Route("/events", ("GET", "HEAD"), events.events),
    Route("/audit/head", ("GET",), audit.head),
    Route("/metrics", ("GET",), metrics.metrics),
    Route("/dashboard", ("GET", "HEAD"), dashboard.page),
    Route("/dashboard/<name:path>", ("GET", "HEAD"), dashboard.asset),
    Route("/healthz", ("GET", "HEAD"), system.healthz),
)
#: The methods of each path, in Ollama's order.
ALLOWED: Final[dict[str, tuple[str, ...]]] = {}
for _route in ROUTES:
    ALLOWED[_route.path] = (*ALLOWED.get(_route.path, ()), *_route.methods)
#: Each route with each of its methods, as metrics know them; and what stands for a request that no route is for.
ENDPOINTS: Final = tuple((route.label, method) for route in ROUTES for method in route.methods)
NO_ENDPOINT: Final = ("other", "other")


def create_app(
    desk: Desk,
    *,
    name: str = "foreman",
    local_only: bool = False,
    app_class: type[Sanic[Any, Any]] = Sanic,
) -> Sanic[Any, Any]:
    """The application over a desk. `local_only`: it listens on loopback, so a foreign Host header is refused."""
    app = app_class(
        name, configure_logging=False, strict_slashes=True, error_handler=Errors(), ctx=SimpleNamespace(desk=desk)
    )
    app.config.update(
        REQUEST_MAX_SIZE=desk.settings.max_body_bytes,
        RESPONSE_TIMEOUT=NEVER_S,
        KEEP_ALIVE_TIMEOUT=IDLE_S,
        ACCESS_LOG=False,
        MOTD=False,
    )
    # What Sanic's own runner would say of itself; without it every answer carries an empty `alt-svc`.
    app.state.server_info.append(ApplicationServerInfo(settings={"version": HTTP.VERSION_1}))
    for number, route in enumerate(ROUTES):
        app.add_route(
            route.handler,
            route.path,
            methods=route.methods,
            name=f"route_{number}",
            stream=route.streamed,
            ctx_label=route.label,
        )
    dashboard.assets()  # read now: an upgrade of the package must not mix its files with those of this version
    token = desk.settings.token.get_secret_value() if desk.settings.token else None

    @app.signal("http.routing.before")
    async def at_the_door(request: Request) -> None:
        """Before the body is read, so that a stranger cannot make foreman read one."""
        request.ctx.began = desk.clock.monotonic()
        if is_foreign(request, check_host=local_only, public_url=desk.settings.public_url):
            raise Foreign
        check_token(request, token)

    async def finish(request: Request, response: BaseHTTPResponse) -> None:
        response.headers.setdefault("date", formatdate(usegmt=True))
        make_inert(response)
        allow_origin(request, response)
        if (began := getattr(request.ctx, "began", None)) is not None:
            route, method = (request.route.ctx.label, request.method) if request.route else NO_ENDPOINT
            desk.answered(route, method, response.status, desk.clock.monotonic() - began)

    app.register_middleware(finish, "response")
    return app


class Foreign(SanicException):
    """A browser asks on behalf of a page that has no business here."""

    status_code = HTTPStatus.FORBIDDEN
    quiet = True


class Errors(ErrorHandler):
    """Every error as an answer: foreman's own as JSON, unknown paths and methods as Ollama puts them."""

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        """The answer to a request that raised this."""
        if isinstance(exception, asyncio.CancelledError):
            return HTTPResponse(status=REQUEST_CANCELED)  # the caller has left: nobody reads it
        if isinstance(exception, ForemanError):
            return self._named(request, exception)
        if isinstance(exception, SanicException):
            return self._of_http(request, exception)
        log.error("request.failed", method=request.method, path=request.path, exc_info=exception)
        return raw(
            error_body("foreman met an error of its own; its log has it", "internal"), status=500, content_type=JSON
        )

    def _named(self, request: Request, error: ForemanError) -> HTTPResponse:
        retry_after_s = None
        if isinstance(error, QueueFull):
            # One place comes free each time a job ends.
            statistics, parallel = desk_of(request).ledger.statistics, desk_of(request).settings.parallel
            retry_after_s = (statistics.run_s or 1.0) / parallel
        return error_response(error, retry_after_s)

    def _of_http(self, request: Request, error: SanicException) -> HTTPResponse:
        status = error.status_code
        if status == HTTPStatus.FORBIDDEN:
            return answer(b"", status, "", _allow(request))
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            limit = desk_of(request).settings.max_body_bytes
            return error_response(TooLarge(f"the request body is larger than {limit:,} bytes (FOREMAN_MAX_BODY)"))
        if status not in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            return raw(error_body(str(error) or "bad request", "http"), status=status, content_type=JSON)
        if request.method == "OPTIONS":
            return HTTPResponse(status=HTTPStatus.NO_CONTENT, headers=_allow(request))
        if request.path.startswith(OURS):
            return _as_foreman(request, error)
        return self._as_ollama(request)

    def _as_ollama(self, request: Request) -> HTTPResponse:
        """Gin's answers (ollama 0.33): a redirect for a stray slash, else a text."""
        if allow := _allow(request):
            return raw(b"405 method not allowed", status=405, content_type=TEXT, headers=allow)
        clean = posixpath.normpath("/" + request.path.lstrip("/"))
        if clean != request.path and request.method in ALLOWED.get(clean, ()):
            return _redirect(request, clean)
        return raw(b"404 page not found", status=404, content_type=TEXT)


def _as_foreman(request: Request, error: SanicException) -> HTTPResponse:
    """The same on a path of foreman's own, which no Ollama client knows."""
    if not isinstance(error, MethodNotAllowed):
        return error_response(NotFound(f"there is nothing at {request.path}"))
    allow = ", ".join(sorted(error.allowed_methods or ()))
    body = error_body(f"{request.method} is not possible at {request.path}, only {allow}", "method_not_allowed")
    return raw(body, status=error.status_code, content_type=JSON, headers={"allow": allow})


def _allow(request: Request) -> dict[str, str]:
    """The header that names the path's methods; empty if there is nothing at the path, or this is one of them."""
    folder, _, digest = request.path.rpartition("/")
    path = BLOB if folder == "/api/blobs" and digest else request.path
    methods = ALLOWED.get(path, ())
    return {"allow": ", ".join(methods)} if methods and request.method not in methods else {}


def _redirect(request: Request, path: str) -> HTTPResponse:
    """As gin and Go's mux do it: 301 only for a GET with one slash too many at its end, else 307."""
    location = f"{path}?{request.query_string}" if request.query_string else path
    slash = request.path == f"{path}/"
    status = HTTPStatus.MOVED_PERMANENTLY if slash and request.method == "GET" else HTTPStatus.TEMPORARY_REDIRECT
    if request.method not in {"GET", "HEAD"}:
        return answer(b"", status, "", {"location": location})
    words = "Moved Permanently" if status == HTTPStatus.MOVED_PERMANENTLY else "Temporary Redirect"
    page = f'<a href="{escape(location)}">{words}</a>.\n\n'
    return raw(page.encode(), status=status, headers={"location": location}, content_type="text/html; charset=utf-8")
