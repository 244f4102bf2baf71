"""A blocking caller's wait: from its job's tail to its connection, byte for byte, the first ones as they arrive."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import orjson
from sanic import HTTPResponse, Request
from sanic.response import BaseHTTPResponse

from foreman.api.desk import Desk
from foreman.api.errors import JSON, REQUEST_CANCELED, error_body
from foreman.api.relay import answer, break_off, end
from foreman.errors import Draining, JobExpired
from foreman.events.types import CancelledBy
from foreman.fsm.job import State
from foreman.projections import contents
from foreman.projections.job import Job
from foreman.tails import Ending, Tail

JOB_ID_HEADER: Final = "x-foreman-job-id"
#: The call's place when it came: 1 = next, 0 = it did not have to wait, or its job ran already.
POSITION_HEADER: Final = "x-foreman-queue-position"
NDJSON: Final = "application/x-ndjson"
#: What keeps a waiting client: every one of them skips spaces before a JSON value (ADR 16).
KEEPALIVE: Final = b" "


class Waiting:
    """One caller and the answer it gets. Headers go out with the first byte, so an early error keeps its status."""

    def __init__(self, request: Request, desk: Desk, job: Job, tail: Tail) -> None:
        self._request = request
        self._desk = desk
        self._job = job
        self._tail = tail
        place = desk.ledger.work.queue.place(job.job_id, desk.outlook.serving)
        self._headers = {JOB_ID_HEADER: job.job_id, POSITION_HEADER: str(place.position if place else 0)}
        self._response: HTTPResponse | None = None
        #: Chunks of the present run that the caller has.
        self._sent = 0

    async def answer(self) -> BaseHTTPResponse | None:
        """Wait and answer; returns a response, or None when it has been sent already."""
        with self._tail.watch() as changed:
            while True:
                changed.clear()
                run = self._tail.run
                if run.status == HTTPStatus.OK and self._streams:
                    await self._pass_on()
                if run.ending is Ending.COMPLETE:
                    return await self._complete()
                if self._tail.closed or self._desk.closing:
                    return await self._without_answer()
                if self._sent >= len(run.chunks) or not self._streams:
                    await self._wait(changed)

    @property
    def _streams(self) -> bool:
        """Whether the answer goes out as it comes; Ollama answers a load with one object, whatever `stream` says."""
        return self._job.stream and not self._tail.run.content_type.startswith("application/json")

    async def _wait(self, changed: asyncio.Event) -> None:
        """Until something changes; a caller that waits for long gets a sign of life that its client ignores."""
        # Once the answer has begun, a space could land inside a line of it.
        after_s = None if self._sent else self._desk.settings.keepalive_after_s or None
        with suppress(TimeoutError):
            async with self._desk.patience(after_s):
                await changed.wait()
            return
        if not self._desk.closing:
            await (await self._begun()).send(KEEPALIVE)

    async def _begun(self) -> HTTPResponse:
        """The response, its headers sent."""
        if self._response is None:
            run = self._tail.run
            self._response = await self._request.respond(
                status=HTTPStatus.OK,
                content_type=run.content_type or (NDJSON if self._job.stream else JSON),
                headers=self._headers,
            )
        return self._response

    async def _pass_on(self) -> None:
        """Send what has come since the last time."""
        chunks = self._tail.run.chunks[self._sent :]
        if chunks:
            response = await self._begun()
            self._sent += len(chunks)
            await response.send(b"".join(chunks))

    async def _complete(self) -> BaseHTTPResponse | None:
        """The target has said all: end the stream, or hand the whole body over."""
        run = self._tail.run
        rest = b"".join(run.chunks[self._sent :])
        if self._response is None:
            return answer(rest, run.status or HTTPStatus.OK, run.content_type, self._headers)
        if rest:
            await self._response.send(rest)
        await end(self._response)
        return None

    async def _without_answer(self) -> BaseHTTPResponse | None:
        """The job is over, or foreman is, and the target's answer is not whole."""
        if self._sent:
            break_off(self._request)
            return None
        job = await self._desk.ledger.job(self._job.job_id)
        body, status = ending_of(job or self._job)
        if self._response is None:
            return answer(body, status, JSON, self._headers)
        # The keepalive has committed status 200, so the error is in-band, as Ollama's are in the middle of a stream.
        await self._response.send(body + b"\n")
        await end(self._response)
        return None


def ending_of(job: Job) -> tuple[bytes, int]:
    """Body and status for a job that ended without an answer."""
    if not job.finished or job.cancelled_by in {CancelledBy.SHUTDOWN, CancelledBy.RESTART}:
        return error_body(str(Draining()), Draining.code), HTTPStatus.SERVICE_UNAVAILABLE
    if job.state is State.CANCELLED:
        return error_body("request canceled", "cancelled"), REQUEST_CANCELED
    if job.error_status is not None:
        return orjson.dumps({"error": job.error}), job.error_status
    return error_body(job.error or "the job failed", job.error_code or "failed"), HTTPStatus.BAD_GATEWAY


async def replay(desk: Desk, job: Job, *, stream: bool) -> BaseHTTPResponse:
    """The answer that a finished job got, for a caller that repeats its request. Raises JobExpired."""
    headers = {JOB_ID_HEADER: job.job_id}
    if job.state is State.EXPIRED:
        raise JobExpired
    found = await contents.find(desk.read, job.job_id, contents.STREAM if stream else contents.COMPLETION)
    if job.state is State.DONE and found is not None:
        # A load is answered with one object even to a caller that asked for a stream.
        return answer(found.data, HTTPStatus.OK, NDJSON if found.data.endswith(b"\n") else JSON, headers)
    body, status = ending_of(job)
    return answer(body, status, JSON, headers)
