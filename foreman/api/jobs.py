"""`/jobs`: submit, list, look at, wait for, cancel and retry jobs."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from sanic import HTTPResponse, Request
from sanic.response import raw
from ulid import ULID

from foreman.api.archived import must_be_kept
from foreman.api.desk import Desk, desk_of
from foreman.api.intake import Origin, idempotency_key, queue_jobs
from foreman.api.query import ListQuery, WaitQuery, cursor, read_query, wanted_wait
from foreman.api.queue import place_of
from foreman.api.render import event_object, job_object, json_response
from foreman.api.submissions import read_submissions
from foreman.commands.types import CancelJob
from foreman.errors import ArtifactNotFound, IllegalTransition, JobExpired, JobNotFound, RequestInvalid
from foreman.events import log
from foreman.events.types import CancelledBy, Source
from foreman.fsm.job import State
from foreman.projections import contents, deliveries, jobs
from foreman.projections.job import Job
from foreman.projections.jobs import JobFilter
from foreman.target.requests import read_generation

MOST_EVENTS: Final = 1_000


async def submit(request: Request) -> HTTPResponse:
    """`POST /jobs`: queue one job, or all of a batch, or none. 202 once they are durable."""
    desk = desk_of(request)
    desk.must_be_open()
    specs, batch = read_submissions(request.body, request.headers.get("content-type", ""))
    wanted = [
        (
            generation,
            Origin(
                endpoint=spec.target,
                source=Source.ASYNC,
                job_class=spec.class_,
                webhook=spec.webhook,
                webhook_secret=spec.webhook_secret,
            ),
        )
        for spec, generation in specs
    ]
    outcome = await queue_jobs(desk, wanted, idempotency_key(request, "jobs"))
    if not batch:
        return _accepted(request, desk, outcome.jobs[0])
    return json_response({"jobs": [_shown(request, desk, job) for job in outcome.jobs]}, status=HTTPStatus.ACCEPTED)


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
        before=query.before(),
        limit=query.limit + 1,
    )
    found = await jobs.page(desk.read, wanted)
    page = found[: query.limit]
    following = cursor(page[-1].order) if len(found) > query.limit else None
    return json_response({"jobs": [_shown(request, desk, job) for job in page], "next": following})


async def get(request: Request, job_id: str) -> HTTPResponse:
    """`GET /jobs/{id}`, at once or as soon as the job is over."""
    desk = desk_of(request)
    wait_s, applied = wanted_wait(read_query(WaitQuery, request), request)
    job = await find_job(desk, job_id)
    if wait_s and not job.finished:
        with suppress(TimeoutError):
            async with desk.patience(wait_s):
                await desk.job_when(job.job_id, lambda job: job.finished)
        job = await find_job(desk, job_id)
    if job.state is State.EXPIRED:
        raise JobExpired
    inline = await contents.inline(desk.read, job.job_id, desk.settings.inline_limit_bytes) if job.artifacts else {}
    headers = {"preference-applied": f"wait={wait_s:g}"} if applied else {}
    return json_response(_shown(request, desk, job, inline), headers=headers)


async def events(request: Request, job_id: str) -> HTTPResponse:
    """`GET /jobs/{id}/events`: the job's history; it outlives the job's contents."""
    desk = desk_of(request)
    job = await find_job(desk, job_id)
    await must_be_kept(desk, job.job_id, 0)
    recorded = await log.of_stream(desk.read, job.job_id, 0, MOST_EVENTS)
    return json_response({"events": [event_object(item) for item in recorded]})


async def artifacts(request: Request, job_id: str) -> HTTPResponse:
    """`GET /jobs/{id}/artifacts`: what there is."""
    desk = desk_of(request)
    job = await find_present(desk, job_id)
    return json_response({"artifacts": _shown(request, desk, job)["artifacts"]})


async def artifact(request: Request, job_id: str, name: str) -> HTTPResponse:
    """`GET /jobs/{id}/artifacts/{name}`: the bytes with their content type; 304 for whoever has them already."""
    desk = desk_of(request)
    job = await find_present(desk, job_id)
    # The request is no artifact that the job has made, so it is on no list.
    ref = next((ref for ref in (job.request, *job.artifacts) if ref.name == name), None)
    if ref is None:
        names = ", ".join(ref.name for ref in job.artifacts) or "none"
        raise ArtifactNotFound(f"the job has no artifact of this name (it has: {names})")
    headers = {"etag": f'"{ref.sha256}"'}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {headers["etag"], "*"}:
        return HTTPResponse(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    found = await contents.find(desk.read, job.job_id, name)
    if found is None:
        raise JobExpired
    return raw(found.data, content_type=ref.content_type, headers=headers)


async def cancel(request: Request, job_id: str) -> HTTPResponse:
    """`DELETE /jobs/{id}`: give the job up; one that is over stays as it is."""
    desk = desk_of(request)
    job = await find_job(desk, job_id)
    outcome = await desk.ledger.execute(CancelJob(job_id=job.job_id, by=CancelledBy.API))
    return json_response(_shown(request, desk, outcome.jobs[0]))


async def retry(request: Request, job_id: str) -> HTTPResponse:
    """`POST /jobs/{id}/retry`: a new job with the request of one that is over."""
    desk = desk_of(request)
    desk.must_be_open()
    job = await find_present(desk, job_id)
    if not job.finished:
        raise IllegalTransition(f"the job is still {job.state}; cancel it first to retry it")
    # The secret first: both go in one transaction, so a body that is still there proves that the secret was.
    secret = await deliveries.secret_of(desk.read, job.job_id) if job.webhook else None
    body = await contents.find(desk.read, job.job_id, contents.REQUEST)
    if body is None:
        raise JobExpired
    origin = Origin(
        endpoint=job.endpoint,
        source=Source.ASYNC,
        job_class=job.job_class,
        retry_of=job.job_id,
        webhook=job.webhook,
        webhook_secret=secret,
    )
    key = idempotency_key(request, f"retry:{job.job_id}")
    outcome = await queue_jobs(desk, [(read_generation(body.data), origin)], key)
    return _accepted(request, desk, outcome.jobs[0])


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


def _accepted(request: Request, desk: Desk, job: Job) -> HTTPResponse:
    shown = _shown(request, desk, job)
    return json_response(shown, status=HTTPStatus.ACCEPTED, headers={"location": shown["urls"]["get"]})


def _shown(request: Request, desk: Desk, job: Job, inline: dict[str, bytes] | None = None) -> dict[str, Any]:
    place = place_of(desk, job.job_id) if job.state is State.QUEUED else None
    return job_object(job, base_url=_base_url(request, desk), queue=place, inline=inline)


def _base_url(request: Request, desk: Desk) -> str:
    """How this caller reaches foreman, which itself speaks plain HTTP only; without a Host, links are relative."""
    host = request.headers.get("host")
    return desk.settings.public_url or (f"http://{host}" if host else "")
