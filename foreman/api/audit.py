"""`GET /audit/head`: the log's hash, for whoever is to be its witness. Reads what is durable and checks nothing."""

from __future__ import annotations

from sanic import HTTPResponse, Request

from foreman.api.archived import must_be_kept
from foreman.api.desk import desk_of
from foreman.api.query import AuditQuery, read_query
from foreman.api.render import json_response
from foreman.errors import NotFound
from foreman.events import log


async def head(request: Request) -> HTTPResponse:
    """The last event's position and hash; with `position` those of that event, to compare with what was kept."""
    desk, query = desk_of(request), read_query(AuditQuery, request)
    end, hash_ = await log.head(desk.read)
    position = end if query.position is None else query.position
    if position > end:
        raise NotFound(f"the log ends at {end}: there is no event {position}")
    if position < end:
        if position:  # what stands before the first event is in no archive
            await must_be_kept(desk, None, position - 1)
        hash_ = await log.hash_at(desk.read, position)
    return json_response({"position": position, "hash": hash_.hex()})
