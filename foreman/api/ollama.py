"""Ollama's native routes other than chat and generate: answered from the inventory, or passed on to the target."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from sanic import HTTPResponse, Request
from sanic.response import raw

from foreman.api.desk import Desk, desk_of
from foreman.api.errors import JSON
from foreman.api.relay import pass_on
from foreman.errors import NotPermitted, NotReady, RequestInvalid
from foreman.target.inventory import Listing
from foreman.target.requests import read_generation

TEXT: Final = "text/plain; charset=utf-8"
ROOT: Final = b"Ollama is running"
#: How long a list may be waited for that shows what foreman knows to have changed; then the last one has to do.
CATCH_UP_S: Final = 0.5


async def root(request: Request) -> HTTPResponse:
    """`/`: what Ollama's clients look for before anything else; foreman stands even while its target is away."""
    return raw(ROOT, content_type=TEXT)


async def version(request: Request) -> HTTPResponse:
    """`/api/version`: the target's, as last seen."""
    desk = await _known(request)
    return raw(orjson.dumps({"version": desk.inventory.health.version}), content_type=JSON)


async def tags(request: Request) -> HTTPResponse:
    """`/api/tags`: the models as last listed, byte for byte."""
    return raw((await _listing(request)).tags, content_type=JSON)


async def ps(request: Request) -> HTTPResponse:
    """`/api/ps`: the loaded models as last listed, byte for byte."""
    return raw((await _listing(request)).ps, content_type=JSON)


async def embed(request: Request) -> HTTPResponse | None:
    """`/api/embed` and `/api/embeddings`: beside the queue, some at a time, never behind a generation."""
    desk = desk_of(request)
    async with desk.embedding:
        response = await pass_on(request)
    if _may_have_loaded(desk, request.body):
        desk.inventory.poll_soon()
    return response


async def manage(request: Request) -> HTTPResponse | None:
    """Changes to the target's models, if the operator allows them."""
    desk = _manager(request)
    response = await pass_on(request)
    desk.inventory.poll_soon()
    return response


async def manage_blob(request: Request, digest: str) -> HTTPResponse | None:
    """`HEAD /api/blobs/{digest}`: whether the target has it."""
    _manager(request)
    return await pass_on(request)


async def upload_blob(request: Request, digest: str) -> HTTPResponse | None:
    """`POST /api/blobs/{digest}`: gigabytes, passed on as they come, whatever the limit for bodies that are held."""
    _manager(request)
    stream: Any = request.stream
    stream.request_max_size = math.inf
    return await pass_on(request, _upload(stream))


async def _upload(stream: Any) -> AsyncIterator[bytes]:
    while (chunk := await stream.read()) is not None:
        yield chunk


async def _listing(request: Request) -> Listing:
    """The last listing, with what foreman itself has changed since. Raises NotReady."""
    inventory = (await _known(request)).inventory
    await inventory.catch_up(CATCH_UP_S)
    return inventory.listing


async def _known(request: Request) -> Desk:
    """The desk, once the target has answered for the first time. Raises NotReady."""
    desk = desk_of(request)
    if not desk.inventory.known:
        await desk.inventory.refresh()
    if not desk.inventory.known:
        raise NotReady(f"target unreachable: {desk.inventory.health.error}")
    return desk


def _may_have_loaded(desk: Desk, body: bytes) -> bool:
    """Whether an embedding call was for a model that is not known to be in memory."""
    try:
        name = read_generation(body).model
    except RequestInvalid:
        return False
    model = desk.inventory.find(name) if name else None
    return model is not None and model.digest not in desk.inventory.listing.loaded


def _manager(request: Request) -> Desk:
    desk = desk_of(request)
    if not desk.settings.management:
        raise NotPermitted(
            "changing models through foreman is switched off: set FOREMAN_MANAGEMENT=on, or talk to Ollama itself"
        )
    return desk
