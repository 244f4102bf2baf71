"""`/jobs`: submit, list, look at, wait for, cancel and retry jobs."""

from __future__ import annotations

import asyncio
import base64
import binascii
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import orjson
from sanic import HTTPResponse, Request
from sanic.response import raw
from ulid import ULID

from foreman.api.desk import Desk, desk_of
from foreman.api.intake import Origin, idempotency_key, submission
from foreman.api.query import ListQuery, WaitQuery, read_query, wanted_wait
from foreman.api.render import event_object, job_object
from foreman.api.submissions import read_submissions
from foreman.commands.types import CancelJob, Submission, SubmitJobs
from foreman.errors import ArtifactNotFound, IllegalTransition, JobExpired, JobNotFound, ModelNotFound, RequestInvalid
from foreman.events import log
from foreman.events.types import CancelledBy, IdempotencyKey, Source
from foreman.fsm.job import State
from foreman.projections import contents, jobs
from foreman.projections.job import Job
from foreman.projections.jobs import JobFilter
from foreman.target.inventory import Model
from foreman.target.requests import read_generation

JSON: Final = "application/json"
MOST_EVENTS: Final = 1_000


async def submit(request: Request) -> HTTPResponse:
    """`POST /jobs`: queue one job, or all of a batch, or none. 202 once they are durable."""
    desk = desk_of(request)
    desk.must_be_open()
    specs, batch = read_submissions(request.body, request.headers.get("content-type", ""))
    models = await _models(desk, [spec.model for spec, _ in specs], batch=batch)
    key = idempotency_key(request, "jobs")
    new: list[Submission] = []
    for ordinal, (spec, generation) in enumerate(specs):
        own = None if key is None else IdempotencyKey(key=key.key, fingerprint=key.fingerprint, ordinal=ordinal)
        origin = Origin(endpoint=spec.target, source=Source.ASYNC, job_class=spec.class_, idempotency=own)
        new.append(submission(desk, generation, models[spec.model], origin))
    outcome = await desk.ledger.execute(
        SubmitJobs(submissions=tuple(new), key=key.key if key else None, fingerprint=key.fingerprint if key else "")
    )
    shown = [_shown(request, desk, job) for job in outcome.jobs]
    headers = {"location": f"/jobs/{shown[0]['job_id']}"} if not batch else {}
    return _json({"jobs": shown} if batch else shown[0], status=HTTPStatus.ACCEPTED, headers=headers)


async def _models(desk: Desk, names: list[str], *, batch: bool) -> dict[str, Model]:
    found: dict[str, Model] = {}
    for index, name in enumerate(names, start=1):
        if name not in found:
            model = await desk.find_model(name)
            if model is None:
                raise ModelNotFound(f"{f'job {index}: ' if batch else ''}model '{name}' not found")
            found[name] = model
    return found


async def list_jobs(request: Request) -> HTTPResponse:
    """`GET /jobs`: newest first, a page at a time."""
    desk = desk_of(request)
    query = read_query(ListQuery, request)
    wanted = JobFilter(
        states=query.states(),
        model=query.model,
        job_class=query.job_class,
        source=query.source,
        endpoint=query.endpoint,
        before=_before(query.cursor),
        limit=query.limit + 1,
    )
    found = await jobs.page(desk.read, wanted)
    more = len(found) > query.limit
    page = found[: query.limit]
    cursor = _cursor(page[-1].order) if more else None
    return _json({"jobs": [_shown(request, desk, job) for job in page], "next": cursor})


async def get(request: Request, job_id: str) -> HTTPResponse:
    """`GET /jobs/{id}`, at once or as soon as the job is over."""
    desk = desk_of(request)
    query = read_query(WaitQuery, request)
    wait_s, applied = wanted_wait(query, request)
    job = await find_job(desk, job_id)
    if wait_s and not job.finished:
        job = await _wait_for(desk, job, wait_s)
    if job.state is State.EXPIRED:
        raise JobExpired
    inline = await contents.inline(desk.read, job.job_id, desk.settings.inline_limit_bytes) if job.artifacts else {}
    headers = {"preference-applied": f"wait={wait_s:g}"} if applied else {}
    return _json(_shown(request, desk, job, inline), headers=headers)


async def _wait_for(desk: Desk, job: Job, wait_s: float) -> Job:
    with desk.ledger.feed.watch(job.job_id) as changed, suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            while True:
                changed.clear()
                job = await desk.ledger.job(job.job_id) or job
                if job.finished:
                    break
                await changed.wait()
    return job


async def events(request: Request, job_id: str) -> HTTPResponse:
    """`GET /jobs/{id}/events`: the job's history; it outlives the job's contents."""
    desk = desk_of(request)
    job = await find_job(desk, job_id)
    recorded = await log.of_stream(desk.read, job.job_id, 0, MOST_EVENTS)
    return _json({"events": [event_object(item) for item in recorded]})


async def artifacts(request: Request, job_id: str) -> HTTPResponse:
    """`GET /jobs/{id}/artifacts`: what there is."""
    desk = desk_of(request)
    job = await find_present(desk, job_id)
    return _json({"artifacts": _shown(request, desk, job)["artifacts"]})


async def artifact(request: Request, job_id: str, name: str) -> HTTPResponse:
    """`GET /jobs/{id}/artifacts/{name}`: the bytes with their content type."""
    desk = desk_of(request)
    job = await find_present(desk, job_id)
    if name not in {ref.name for ref in job.artifacts}:
        names = ", ".join(ref.name for ref in job.artifacts) or "none"
        raise ArtifactNotFound(f"the job has no artifact of this name (it has: {names})")
    found = await contents.find(desk.read, job.job_id, name)
    if found is None:
        raise JobExpired
    return raw(found.data, content_type=found.ref.content_type, headers={"etag": f'"{found.ref.sha256}"'})


async def cancel(request: Request, job_id: str) -> HTTPResponse:
    """`DELETE /jobs/{id}`: give the job up; one that is over stays as it is."""
    desk = desk_of(request)
    job = await find_job(desk, job_id)
    outcome = await desk.ledger.execute(CancelJob(job_id=job.job_id, by=CancelledBy.API))
    return _json(_shown(request, desk, outcome.jobs[0]))


async def retry(request: Request, job_id: str) -> HTTPResponse:
    """`POST /jobs/{id}/retry`: a new job with the request of one that is over."""
    desk = desk_of(request)
    desk.must_be_open()
    job = await find_present(desk, job_id)
    if not job.finished:
        raise IllegalTransition(f"the job is still {job.state}; cancel it first to retry it")
    body = await contents.find(desk.read, job.job_id, contents.REQUEST)
    if body is None:
        raise JobExpired
    generation = read_generation(body.data)
    model = (await _models(desk, [job.model], batch=False))[job.model]
    origin = Origin(endpoint=job.endpoint, source=Source.ASYNC, job_class=job.job_class, retry_of=job.job_id)
    new = submission(desk, generation, model, origin)
    outcome = await desk.ledger.execute(SubmitJobs(submissions=(new,)))
    headers = {"location": f"/jobs/{new.job_id}"}
    return _json(_shown(request, desk, outcome.jobs[0]), status=HTTPStatus.ACCEPTED, headers=headers)


async def find_job(desk: Desk, job_id: str) -> Job:
    """The job. Raises RequestInvalid for what is no id, JobNotFound."""
    try:
        known = str(ULID.from_str(job_id.upper()))
    except ValueError:
        raise RequestInvalid("this is no job id: it must be a ULID, 26 letters and digits") from None
    job = await desk.ledger.job(known)
    if job is None:
        raise JobNotFound(f"there is no job {known}")
    return job


async def find_present(desk: Desk, job_id: str) -> Job:
    """The job with its contents. Raises also JobExpired."""
    job = await find_job(desk, job_id)
    if job.state is State.EXPIRED:
        raise JobExpired
    return job


def _shown(request: Request, desk: Desk, job: Job, inline: dict[str, bytes] | None = None) -> dict[str, Any]:
    place = desk.ledger.work.queue.place(job.job_id, desk.serving()) if job.state is State.QUEUED else None
    return job_object(job, base_url=desk.settings.public_url or "", place=place, inline=inline)


def _cursor(ordinal: int) -> str:
    return base64.urlsafe_b64encode(str(ordinal).encode()).decode().rstrip("=")


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        return int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raise RequestInvalid("'cursor' must be the 'next' of an earlier page") from None


def _json(value: Any, *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> HTTPResponse:
    return raw(orjson.dumps(value), status=status, headers=headers, content_type=JSON)
