"""`/api/chat` and `/api/generate`: a blocking call becomes a job, waits its turn, and gets the target's bytes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus

import orjson
from sanic import Request
from sanic.response import BaseHTTPResponse, raw

from foreman.api.desk import Desk, desk_of
from foreman.api.errors import JSON
from foreman.api.intake import Origin, idempotency_key, submission
from foreman.api.relay import pass_on
from foreman.api.waiting import Waiting, replay
from foreman.commands.types import Submission, SubmitJobs
from foreman.errors import ForemanError, NotReady, RequestInvalid, TargetError
from foreman.events.types import Endpoint, IdempotencyKey, JobClass, Source
from foreman.projections.job import Job
from foreman.target.client import forwarded
from foreman.target.requests import read_generation


async def chat(request: Request) -> BaseHTTPResponse | None:
    """`POST /api/chat`."""
    return await _blocking(request, Endpoint.CHAT)


async def generate(request: Request) -> BaseHTTPResponse | None:
    """`POST /api/generate`."""
    return await _blocking(request, Endpoint.GENERATE)


async def _blocking(request: Request, endpoint: Endpoint) -> BaseHTTPResponse | None:
    desk = desk_of(request)
    try:
        generation = read_generation(request.body)
    except RequestInvalid as error:
        return await _refuse(request, desk, str(error), HTTPStatus.BAD_REQUEST)
    key = idempotency_key(request, endpoint.value)
    # First of all: a repeat is answered as before, even if its model has gone since.
    if key is not None and (earlier := await desk.ledger.execute(_submit((), key))).repeated:
        return await _repeat(request, desk, earlier.jobs[0], stream=generation.stream)
    model = None if generation.model is None else await desk.find_model(generation.model)
    if model is None:
        return await _refuse(request, desk, *_missing(generation.model, endpoint))
    if generation.unloads:
        answer = await pass_on(request)
        desk.inventory.poll_soon()
        return answer
    desk.must_be_open()
    origin = Origin(endpoint=endpoint, source=Source.SYNC, job_class=JobClass.INTERACTIVE, idempotency=key)
    return await _queue(request, desk, submission(desk, generation, model, origin))


async def _refuse(request: Request, desk: Desk, message: str, status: int) -> BaseHTTPResponse | None:
    """What cannot become a job is the target's to refuse, in its own words; ours are for when it is away.

    Nothing runs there for it: it names no model that the target has, or cannot be read at all.
    """
    if desk.inventory.up:
        with suppress(NotReady, TargetError):
            return await pass_on(request)
    return raw(orjson.dumps({"error": message}), status=status, content_type=JSON)


def _missing(model: str | None, endpoint: Endpoint) -> tuple[str, int]:
    """Ollama's words for a model that is not named, or not there (ollama 0.33)."""
    if model is None and endpoint is Endpoint.CHAT:
        return "model is required", HTTPStatus.BAD_REQUEST
    return f"model '{model or ''}' not found", HTTPStatus.NOT_FOUND


async def _queue(request: Request, desk: Desk, new: Submission) -> BaseHTTPResponse | None:
    """Submit the job and wait for its answer; a caller that leaves takes the job along, unless it has a key."""
    key = new.queued.idempotency
    # Before the submit: the worker may start the job before this handler runs again.
    tail = desk.tails.open(new.job_id)
    tail.headers, tail.request = forwarded(request.headers), new.body.data
    try:
        outcome = await desk.ledger.execute(_submit((new,), key))
        job = outcome.jobs[0]
        if outcome.repeated:
            desk.tails.close(new.job_id)
            return await _repeat(request, desk, job, stream=new.queued.stream)
        return await Waiting(request, desk, job, tail).answer()
    except ForemanError:
        desk.tails.close(new.job_id)
        raise
    except asyncio.CancelledError:
        if key is None:
            desk.cancel_for_caller(new.job_id)
        else:
            desk.forget_unless_accepted(new.job_id)
        raise


async def _repeat(request: Request, desk: Desk, job: Job, *, stream: bool) -> BaseHTTPResponse | None:
    """The answer of an earlier call with the same key: what it was, or what it will be."""
    if not desk.ledger.work.has(job.job_id):
        # Over, if perhaps only since the moment that this view of it shows: nobody would ever close its tail again.
        return await replay(desk, await desk.ledger.job(job.job_id) or job, stream=stream)
    return await Waiting(request, desk, job, desk.tails.open(job.job_id)).answer()


def _submit(new: tuple[Submission, ...], key: IdempotencyKey | None) -> SubmitJobs:
    return SubmitJobs(submissions=new, key=key.key if key else None, fingerprint=key.fingerprint if key else "")
