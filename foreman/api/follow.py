"""`GET /jobs/{id}/stream`: a job's answer line by line, as the target sends it or as it was kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import orjson
from sanic import HTTPResponse, Request

from foreman.api.desk import Desk, desk_of
from foreman.api.jobs import find_present
from foreman.api.query import StreamQuery, read_query
from foreman.api.relay import end
from foreman.fsm.job import State
from foreman.projections import contents
from foreman.projections.job import Job
from foreman.tails import Tail

NDJSON: Final = "application/x-ndjson"
#: The run that the first line belongs to; with it and a line count a follower can take up where it was.
RUN_HEADER: Final = "x-foreman-run"


async def stream(request: Request, job_id: str) -> HTTPResponse | None:
    """Follow the answer from line `offset` of run `run` on, to its end.

    A new run starts from its first line, after a line of foreman's own that says so: what came before it is void.
    A job that ends without an answer ends its stream with a line that says how.
    """
    desk = desk_of(request)
    query = read_query(StreamQuery, request)
    job = await find_present(desk, job_id)
    tail = desk.tails.open(job.job_id)
    if not desk.ledger.work.has(job.job_id):  # it is over: nobody would ever close this tail
        desk.tails.close(job.job_id)
        job = await find_present(desk, job_id)
        return await _finished(request, desk, job, query)
    return await Follower(request, desk, job, tail, query).follow()


class Follower:
    """One follower of a job that waits or runs."""

    def __init__(self, request: Request, desk: Desk, job: Job, tail: Tail, query: StreamQuery) -> None:
        self._request = request
        self._desk = desk
        self._job = job
        self._tail = tail
        self._run = query.run
        self._skip = query.offset
        self._next_chunk = 0
        self._partial = b""

    async def follow(self) -> HTTPResponse | None:
        """Send lines as they come, until the job is over."""
        response = await self._request.respond(
            content_type=NDJSON, headers={RUN_HEADER: str(max(self._tail.run.number, self._job.run, 1))}
        )
        with self._tail.watch() as changed:
            while True:
                changed.clear()
                lines = b"".join(self._news())
                if lines:
                    await response.send(lines)
                elif self._tail.closed:
                    break
                else:
                    await self._wait(response, changed)
        await response.send(await _closing(self._desk, self._job) or self._partial)
        await end(response)
        return None

    async def _wait(self, response: HTTPResponse, changed: asyncio.Event) -> None:
        """Until something changes; now and then a space, which readers of JSON lines skip, to keep the connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._desk.settings.keepalive_after_s or None):
                await changed.wait()
            return
        if not self._partial:
            await response.send(b" ")

    def _news(self) -> Iterator[bytes]:
        """The complete lines that have come since the last time."""
        run = self._tail.run
        if run.number == 0:
            return
        if run.number != self._run:
            self._run, self._skip, self._next_chunk, self._partial = run.number, 0, 0, b""
            yield marker({"event": "run", "run": run.number, "attempt": self._attempt()})
        fresh = b"".join(run.chunks[self._next_chunk :])
        self._next_chunk = len(run.chunks)
        *lines, self._partial = (self._partial + fresh).split(b"\n")
        for line in lines:
            if self._skip:
                self._skip -= 1
            else:
                yield line + b"\n"

    def _attempt(self) -> int:
        return self._job.attempt + 1 if self._run > self._job.run else self._job.attempt


async def _finished(request: Request, desk: Desk, job: Job, query: StreamQuery) -> HTTPResponse | None:
    found = await contents.find(desk.read, job.job_id, contents.STREAM)
    if found is None:
        found = await contents.find(desk.read, job.job_id, contents.COMPLETION)
    lines = found.data.split(b"\n") if found is not None else []
    sent = b""
    offset = query.offset
    if job.run not in {query.run, 0}:
        offset = 0
        sent = marker({"event": "run", "run": job.run, "attempt": job.attempt})
    sent += b"".join(line + b"\n" for line in [line for line in lines if line][offset:])
    response = await request.respond(content_type=NDJSON, headers={RUN_HEADER: str(max(job.run, 1))})
    await response.send(sent + await _closing(desk, job))
    await end(response)
    return None


async def _closing(desk: Desk, job: Job) -> bytes:
    """What ends the stream of a job that did not get its answer."""
    job = await desk.ledger.job(job.job_id) or job
    if job.state is State.FAILED:
        return marker({"event": "failed", "error": job.error, "code": job.error_code})
    if job.state is State.CANCELLED:
        return marker({"event": "cancelled", "by": job.cancelled_by})
    return b""


def marker(facts: dict[str, Any]) -> bytes:
    """A line of foreman's own among the target's, told apart by its only key."""
    return orjson.dumps({"foreman": facts}) + b"\n"
