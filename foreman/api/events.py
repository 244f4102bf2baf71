"""`GET /events`: the log, a page at a time or as it grows. Reads by position and keeps nothing for anybody.

A follower holds one page. It reads the next when the client has taken the one before, so that a slow client costs no
memory, and one that takes nothing is cut off: what it has not seen is in the log when it comes back.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, cast

import orjson
from sanic import HTTPResponse, Request
from sanic.response import BaseHTTPResponse, raw

from foreman.api.archived import archived_until, must_be_kept
from foreman.api.desk import Desk, desk_of
from foreman.api.jobs import find_job
from foreman.api.query import LARGEST_POSITION, EventsQuery, FollowQuery, read_query
from foreman.api.relay import break_off, end
from foreman.api.render import event_object, json_response
from foreman.errors import RequestInvalid
from foreman.events import log
from foreman.events.log import LogFilter
from foreman.events.types import DAEMON, Recorded
from foreman.target.names import canonical

SSE: Final = "text/event-stream"
#: nginx would hold events back without the second.
HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
#: How long a client is to wait before it connects again.
RETRY_MS: Final = 2_000
#: Events that a follower reads at a time.
PAGE: Final = 100
#: A follower reads no oftener than this while the log is busy: fifty of them must not slow the jobs that they watch.
REST_S: Final = 0.1
#: How long a client that is cut off has to take what was sent last.
LEAVE_WITHIN_S: Final = 5.0


async def events(request: Request) -> HTTPResponse | None:
    """`GET /events`: what happened, in the log's order: a page of it, or a stream if the request accepts SSE."""
    accepted = request.accept.match("application/json", SSE, accept_wildcards=False)
    if accepted.mime == SSE:
        return await _follow(request, desk_of(request))
    return await _page(desk_of(request), read_query(EventsQuery, request))


async def _page(desk: Desk, query: EventsQuery) -> HTTPResponse:
    wanted = await _wanted(desk, query)
    head, _ = await log.head(desk.read)
    if query.after is None and wanted.stream in {None, DAEMON}:
        after, _ = await archived_until(desk, wanted.stream)
    else:  # of one job past the border there would be nothing, as if nothing had happened
        after = query.after or 0
        await must_be_kept(desk, wanted.stream, after)
    if after > head:
        raise RequestInvalid(f"'after': the log ends at {head}, so {after} is a position in another log")
    found, following = await log.page(desk.read, wanted, after, head, query.limit)
    return json_response({"events": [event_object(item) for item in found], "next": following, "head": head})


async def _follow(request: Request, desk: Desk) -> HTTPResponse | None:
    query = read_query(FollowQuery, request)
    wanted = await _wanted(desk, query)
    head, _ = await log.head(desk.read)
    after = _last_event_id(request)
    if after is None:
        after = head if query.after is None else query.after
    if request.method == "HEAD":
        return raw(b"", content_type=SSE, headers=HEADERS)
    # Told at once where it begins, a client that loses its connection before the first event misses nothing.
    opening = b"retry: %d\n" % RETRY_MS
    archived, archive = await archived_until(desk, wanted.stream)
    if after < archived:
        after = archived
        opening += _reset("archived", head, archived, archive=archive)
    else:
        opening += _place(after) if after <= head else _reset("unknown_position", head, head)
    response = await request.respond(content_type=SSE, headers=HEADERS)
    await Follower(request, response, desk, wanted).follow(min(after, head), opening)
    return None


class Follower:
    """One client that follows the log."""

    def __init__(self, request: Request, response: BaseHTTPResponse, desk: Desk, wanted: LogFilter) -> None:
        self._request = request
        self._response = response
        self._desk = desk
        self._wanted = wanted
        self._feed = desk.ledger.feed
        #: Where it has read to, where the log ended then, and which position the client knows.
        self._position = self._known = self._told = 0
        self._read_at = self._heard_at = 0.0

    async def follow(self, position: int, opening: bytes) -> None:
        """Send what comes after the position, until the client leaves or takes nothing, or foreman closes."""
        self._position = self._told = position
        try:
            await self._send(opening)
            with self._feed.watch(self._wanted.stream) as changed:
                while not self._desk.closing:
                    changed.clear()
                    if news := await self._news():
                        await self._send(news)
                    if self._position >= self._known:
                        await self._until(changed)
            async with self._desk.patience(None):
                await end(cast(HTTPResponse, self._response))
        except TimeoutError:
            if not self._desk.closing:
                await self._say_why()
            break_off(self._request)

    async def _news(self) -> bytes:
        """The next events; or a sign of life, also for who would have too much to look through again."""
        self._known, self._read_at = self._feed.position, self._now()
        found, self._position = await log.page(self._desk.read, self._wanted, self._position, self._known, PAGE)
        silent = self._now() - self._heard_at >= self._desk.follower_silence_s
        if found:
            return b"".join(map(_event, found))
        if silent or self._position - self._told >= log.SCANNED:
            return b": no event\n" + _place(self._position)
        return b""

    async def _until(self, changed: asyncio.Event) -> None:
        """Wait for an event, or for the time to give a sign of life."""
        with suppress(TimeoutError):
            async with self._desk.patience(self._heard_at + self._desk.follower_silence_s - self._now()):
                await changed.wait()
                await asyncio.sleep(self._read_at + REST_S - self._now())

    async def _send(self, data: bytes) -> None:
        """Send it once the client has taken what came before. Raises TimeoutError if it does not."""
        async with self._desk.patience(self._desk.follower_patience_s):
            await self._response.send(data)
        self._told, self._heard_at = self._position, self._now()

    async def _say_why(self) -> None:
        """Tell a client that is to be cut off, in case it wakes up; it goes on later from the last id that it has."""
        transport = cast(asyncio.WriteTransport, self._request.transport)
        data = _reset("slow", self._feed.position)
        # Not by the response, which waits until the client reads.
        transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        transport.close()
        with suppress(TimeoutError):
            async with self._desk.patience(LEAVE_WITHIN_S):
                await asyncio.Event().wait()  # its leaving cancels this

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _wanted(desk: Desk, query: FollowQuery) -> LogFilter:
    """Raises RequestInvalid, and JobNotFound: nothing would ever come of a job that does not exist."""
    stream = query.job
    if stream is not None and stream != DAEMON:
        stream = (await find_job(desk, stream)).job_id
    model = None if query.model is None else canonical(query.model)
    return LogFilter(stream=stream, types=query.types(), model=model)


def _last_event_id(request: Request) -> int | None:
    """The id that a client which connects again has seen last. Raises RequestInvalid."""
    given = request.headers.get("last-event-id")
    if given is None:
        return None
    position = int(given) if given.isascii() and given.isdecimal() and len(given) < len(str(LARGEST_POSITION)) else -1
    if position < 0:
        raise RequestInvalid("'Last-Event-ID' must be the id of an event, which is its position in the log")
    return position


def _event(recorded: Recorded) -> bytes:
    data = orjson.dumps(event_object(recorded))
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (recorded.position, recorded.event.type.encode(), data)


def _place(position: int) -> bytes:
    """An id without an event: clients remember it, and tell nobody."""
    return b"id: %d\n\n" % position


def _reset(reason: str, head: int, place: int | None = None, **more: str) -> bytes:
    """What a client hears when its sequence is broken; with a place it goes on from there."""
    facts: dict[str, Any] = {"reason": reason, "head": head, **more}
    number = b"" if place is None else b"id: %d\n" % place
    return number + b"event: reset\ndata: %b\n\n" % orjson.dumps(facts)
