"""Ollama's native routes other than chat and generate: answered from the inventory, or passed on to the target."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from sanic import HTTPResponse, Request
from sanic.response import BaseHTTPResponse, raw

from foreman.api.desk import Desk, desk_of
from foreman.api.errors import JSON
from foreman.api.relay import relay
from foreman.errors import NotPermitted, NotReady, TargetUnreachable

TEXT: Final = "text/plain; charset=utf-8"
ROOT: Final = b"Ollama is running"


async def root(request: Request) -> HTTPResponse:
    """`/`: what Ollama's clients look for before anything else; foreman stands even while its target is away."""
    return raw(ROOT, content_type=TEXT)


async def version(request: Request) -> HTTPResponse:
    """`/api/version`: the target's, as last seen."""
    desk = await _known(request)
    return raw(orjson.dumps({"version": desk.inventory.health.version}), content_type=JSON)


async def tags(request: Request) -> HTTPResponse:
    """`/api/tags`: the models as last listed, byte for byte."""
    return raw((await _known(request)).inventory.listing.tags, content_type=JSON)


async def ps(request: Request) -> HTTPResponse:
    """`/api/ps`: the loaded models as last listed, byte for byte."""
    return raw((await _known(request)).inventory.listing.ps, content_type=JSON)


async def show(request: Request) -> BaseHTTPResponse | None:
    """`/api/show`: the target's own answer."""
    return await pass_on(request)


async def embed(request: Request) -> BaseHTTPResponse | None:
    """`/api/embed` and `/api/embeddings`: beside the queue, some at a time, never behind a generation."""
    desk = desk_of(request)
    async with desk.embedding:
        return await pass_on(request)


async def manage(request: Request) -> BaseHTTPResponse | None:
    """Changes to the target's models, if the operator allows them."""
    desk = _manager(request)
    answer = await pass_on(request)
    desk.inventory.poll_soon()
    return answer


async def blob(request: Request, digest: str) -> BaseHTTPResponse | None:
    """`/api/blobs/{digest}`: gigabytes, passed on as they come."""
    desk = _manager(request)
    if request.method == "HEAD":
        return await pass_on(request)
    return await relay(request, desk, body=_upload(request.stream))


async def _upload(stream: Any) -> AsyncIterator[bytes]:
    while (chunk := await stream.read()) is not None:
        yield chunk


async def pass_on(request: Request) -> BaseHTTPResponse | None:
    """Ask the target itself. Raises NotReady in place of TargetUnreachable, which says the same to any client."""
    desk = desk_of(request)
    try:
        return await relay(request, desk)
    except TargetUnreachable as error:
        await desk.inventory.report_unreachable(str(error))
        raise NotReady(f"target unreachable: {error}") from error


async def _known(request: Request) -> Desk:
    """The desk, once the target has answered for the first time. Raises NotReady."""
    desk = desk_of(request)
    if not desk.inventory.known:
        await desk.inventory.refresh()
    if not desk.inventory.known:
        raise NotReady(f"target unreachable: {desk.inventory.health.error}")
    return desk


def _manager(request: Request) -> Desk:
    desk = desk_of(request)
    if not desk.settings.management:
        raise NotPermitted(
            "changing models through foreman is switched off: set FOREMAN_MANAGEMENT=on, or talk to Ollama itself"
        )
    return desk
