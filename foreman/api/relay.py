"""Passing a request straight to the target and its answer straight back: bytes, status and content type as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final, cast

from sanic import HTTPResponse, Request
from sanic.response import raw

from foreman.api.desk import Desk
from foreman.errors import TargetBroke
from foreman.target.client import Reply, forwarded

#: An answer of known size up to this is passed on in one piece, with its Content-Length.
WHOLE_BYTES: Final = 1024 * 1024


async def relay(request: Request, desk: Desk, body: bytes | AsyncIterator[bytes] | None = None) -> HTTPResponse | None:
    """Ask the target the same and answer the same. Raises TargetError before the first byte was passed on."""
    given = request.body or None if body is None else body
    headers = forwarded(request.headers)
    async with desk.target.stream(request.method, request.path, given, headers) as reply:
        size = reply.headers.get("content-length", "")
        if request.method == "HEAD" or not _has_body(reply) or (size.isdigit() and int(size) <= WHOLE_BYTES):
            return raw(await reply.read(), status=reply.status, content_type=reply.content_type or "text/plain")
        return await _stream(request, reply)


def _has_body(reply: Reply) -> bool:
    return reply.status not in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


async def _stream(request: Request, reply: Reply) -> HTTPResponse | None:
    response = await request.respond(status=reply.status, content_type=reply.content_type)
    try:
        async for chunk in reply.chunks():
            await response.send(chunk)
    except TargetBroke:
        break_off(request)
        return None
    await end(response)
    return None


async def end(response: HTTPResponse) -> None:
    """Finish a response that was sent in pieces."""
    await response.eof()  # type: ignore[no-untyped-call]


def break_off(request: Request) -> None:
    """Close the caller's connection in the middle: ending it cleanly would pass half an answer off as a whole one."""
    if request.transport is not None:
        cast(asyncio.WriteTransport, request.transport).abort()
