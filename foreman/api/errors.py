"""Errors as HTTP: the only table of statuses, and the one shape of an error body."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final

import orjson
from sanic import HTTPResponse
from sanic.response import raw

from foreman import errors
from foreman.errors import ForemanError

JSON: Final = "application/json; charset=utf-8"
#: Ollama's status for a request that was given up (nginx's invention; not in the standard).
REQUEST_CANCELED: Final = 499
#: Ollama's own words when its queue is full, two spaces included (ollama 0.33, server/sched.go).
BUSY: Final = "server busy, please try again.  maximum pending requests exceeded"

STATUSES: Final[dict[type[ForemanError], int]] = {
    errors.RequestInvalid: HTTPStatus.BAD_REQUEST,
    errors.IdempotencyMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotPermitted: HTTPStatus.FORBIDDEN,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.EventsArchived: HTTPStatus.GONE,
    errors.JobExpired: HTTPStatus.GONE,
    errors.IllegalTransition: HTTPStatus.CONFLICT,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TargetError: HTTPStatus.BAD_GATEWAY,
    errors.TargetUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.LogError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ForemanError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: type[ForemanError]) -> int:
    """The status for an error class: its own row or that of the nearest class above it."""
    return next(STATUSES[cls] for cls in error.__mro__ if cls in STATUSES)


def error_body(message: str, code: str, hint: str = "") -> bytes:
    """`{"error": …, "code": …}`; Ollama's clients read `error`."""
    body = {"error": message, "code": code}
    if hint:
        body["hint"] = hint
    return orjson.dumps(body)


def error_response(error: ForemanError, retry_after_s: float | None = None) -> HTTPResponse:
    """The answer to a request that raised this."""
    message = BUSY if isinstance(error, errors.QueueFull) else str(error)
    response = raw(error_body(message, error.code, error.hint), status=status_of(type(error)), content_type=JSON)
    if isinstance(error, errors.Unauthorized):
        response.headers["www-authenticate"] = "Bearer"
    if isinstance(error, errors.Unavailable | errors.TargetUnreachable):
        response.headers["retry-after"] = str(max(1, math.ceil(retry_after_s or 1)))
    return response
