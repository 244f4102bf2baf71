"""`GET /jobs/{id}/stream`: a job's answer line by line, as the target sends it or as it was kept."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import orjson
from sanic import HTTPResponse, Request
from sanic.response import raw

from foreman.api.desk import Desk, desk_of
from foreman.api.jobs import find_present
from foreman.api.query import StreamQuery, read_query
from foreman.api.relay import break_off, end
from foreman.errors import JobExpired
from foreman.fsm.job import State
from foreman.projections import contents
from foreman.projections.job import Job
from foreman.tails import Run

#: The run that the first line belongs to; with it and a count of lines a follower can take up where it was.
RUN_HEADER: Final = "x-foreman-run"


async def stream(request: Request, job_id: str) -> HTTPResponse | None:
    """Follow the answer from line `offset` of run `run` on, to its end.

    A new run starts from its first line, after a line of foreman's own that says so: what came before it is void.
    A job that ends without an answer ends its stream with a line that says how.
    """
    desk = desk_of(request)
    query = read_query(StreamQuery, request)
    job = await find_present(desk, job_id)
    if desk.ledger.work.has(job.job_id):
        return await Follower(request, desk, job, query).follow()
    # Looked up again: it may have ended in between.
    return await _finished(desk, await find_present(desk, job_id), query)


class Follower:
    """One follower of a job that waits or runs."""

    def __init__(self, request: Request, desk: Desk, job: Job, query: StreamQuery) -> None:
        self._request = request
        self._desk = desk
        self._job = job
        #: Whoever ends the job closes it.
        self._tail = desk.tails.open(job.job_id)
        #: The run that the follower knows of, and how many of its lines are still to be left out.
        self._number, self._skip = query.run, query.offset
        #: The run that is read, and how far.
        self._run: Run | None = None
        self._next_chunk = 0
        self._partial = b""

    async def follow(self) -> HTTPResponse | None:
        """Send lines as they come, until the job is over."""
        headers = {RUN_HEADER: str(max(self._tail.run.number, self._job.run, 1))}
        response = await self._request.respond(content_type=contents.NDJSON, headers=headers)
        await response.send(b"")  # the headers: whoever follows a job that waits is to know that it does
        with self._tail.watch() as changed:
            while True:
                changed.clear()
                if news := await self._news():
                    await response.send(news)
                elif self._tail.closed or self._desk.closing:
                    break
                elif not await self._is_changed(changed):
                    await response.send(b" ")  # keeps the connection; readers of JSON lines skip it
        job = await self._desk.ledger.job(self._job.job_id) or self._job
        if not job.finished:
            break_off(self._request)  # a clean end would pass for the answer's own
            return None
        if last := _ending(job) or self._wanted([self._partial]):
            await response.send(last)
        await end(response)
        return None

    async def _is_changed(self, changed: asyncio.Event) -> bool:
        """Wait for the tail; False if it is time for a sign of life or to leave."""
        with suppress(TimeoutError):
            async with self._desk.patience(self._desk.settings.keepalive_after_s or None):
                await changed.wait()
            return True
        return False

    async def _news(self) -> bytes:
        """What has come since the last time: complete lines, after the marker of a run that is new."""
        run, announced = self._tail.run, b""
        if run.number and run is not self._run:
            announced = await self._enter(run)
        if run.status != HTTPStatus.OK:  # nothing yet, or a refusal, which the job's ending tells
            return announced
        fresh = b"".join(run.chunks[self._next_chunk :])
        self._next_chunk = len(run.chunks)
        *lines, self._partial = (self._partial + fresh).split(b"\n")
        return announced + self._wanted(lines)

    async def _enter(self, run: Run) -> bytes:
        """Turn to another run, once the log has it: a crash before that would give its number to another answer."""
        job = await self._desk.job_when(self._job.job_id, lambda job: job.run >= run.number or job.finished)
        self._run, self._next_chunk, self._partial = run, 0, b""
        if run.number == self._number:
            return b""
        self._number, self._skip = run.number, 0
        return _marker({"event": "run", "run": run.number, "attempt": job.attempt})

    def _wanted(self, lines: list[bytes]) -> bytes:
        """Those of the lines that the follower does not have."""
        lines = [line for line in lines if line]
        skipped = min(self._skip, len(lines))
        self._skip -= skipped
        return _joined(lines[skipped:])


async def _finished(desk: Desk, job: Job, query: StreamQuery) -> HTTPResponse:
    """The rest of an answer that was kept, or how the job ended without one."""
    found = await contents.find(desk.read, job.job_id, contents.STREAM)
    if found is None:  # a blocking call without a stream
        found = await contents.find(desk.read, job.job_id, contents.COMPLETION)
    if found is None and job.state is State.DONE:
        raise JobExpired
    lines = [line for line in found.data.split(b"\n") if line] if found is not None else []
    if job.run in {query.run, 0}:
        body = _joined(lines[query.offset :])
    else:
        body = _marker({"event": "run", "run": job.run, "attempt": job.attempt}) + _joined(lines)
    return raw(body + _ending(job), content_type=contents.NDJSON, headers={RUN_HEADER: str(max(job.run, 1))})


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _ending(job: Job) -> bytes:
    """What ends the stream of a job that did not get its answer."""
    if job.state is State.FAILED:
        return _marker({"event": "failed", "error": job.error, "code": job.error_code})
    if job.state is State.CANCELLED:
        return _marker({"event": "cancelled", "by": job.cancelled_by})
    return b""


def _marker(facts: dict[str, Any]) -> bytes:
    """A line of foreman's own among the target's, told apart by its only key."""
    return orjson.dumps({"foreman": facts}) + b"\n"
