"""Passing a request straight to the target and its answer straight back: bytes, status and content type as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Final, cast

from sanic import HTTPResponse, Request
from sanic.response import raw

from foreman.api.desk import Desk, desk_of
from foreman.errors import NotReady, TargetBroke, TargetUnreachable
from foreman.events.types import Endpoint
from foreman.target.client import Reply, forwarded

#: An answer of known size up to this is passed on in one piece, with its Content-Length.
WHOLE_BYTES: Final = 1024 * 1024
#: What comes here of these, an unload say, is not sent on a kept connection: one that is dead would swallow it.
GENERATING: Final = frozenset(endpoint.path for endpoint in Endpoint)


class Untyped(HTTPResponse):
    """An answer without a Content-Type, for which Sanic would send the word None."""

    @property
    def processed_headers(self) -> Iterator[tuple[bytes, bytes]]:
        """The headers as they are sent."""
        return (header for header in super().processed_headers if header[0] != b"content-type")


def answer(body: bytes, status: int, content_type: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """A response; an empty content type means none."""
    given = dict(headers or {})
    if not content_type:
        return Untyped(body, status=status, headers=given)
    return raw(body, status=status, headers=given, content_type=content_type)


async def pass_on(request: Request, upload: AsyncIterator[bytes] | None = None) -> HTTPResponse | None:
    """Ask the target the same and answer the same. Raises NotReady, or TargetBroke if no answer came.

    NotReady stands for TargetUnreachable: it says to any client what is the matter.
    """
    desk = desk_of(request)
    try:
        async with _exchange(request, desk, upload) as reply:
            size = reply.headers.get("content-length", "")
            if request.method == "HEAD" or not _has_body(reply) or (size.isdigit() and int(size) <= WHOLE_BYTES):
                return answer(await reply.read(), reply.status, reply.content_type)
            return await _stream(request, reply)
    except TargetUnreachable as error:
        await desk.inventory.report_unreachable(str(error))
        raise NotReady(f"target unreachable: {error}") from error


def _exchange(request: Request, desk: Desk, upload: AsyncIterator[bytes] | None) -> AbstractAsyncContextManager[Reply]:
    headers = forwarded(request.headers)
    if request.path in GENERATING:
        return desk.target.generate(request.path, request.body, headers)
    return desk.target.stream(request.method, request.path, upload or request.body or None, headers)


def _has_body(reply: Reply) -> bool:
    return reply.status not in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


async def _stream(request: Request, reply: Reply) -> HTTPResponse | None:
    response = await request.respond(answer(b"", reply.status, reply.content_type))
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
