"""What foreman's own routes answer with: a job as JSON, in one shape wherever one is shown. Looks nothing up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from msgspec import structs
from sanic import HTTPResponse
from sanic.response import raw

from foreman.clock import rfc3339
from foreman.events.codec import CODEC
from foreman.events.types import Recorded
from foreman.projections import contents, documents
from foreman.projections.deliveries import Delivery, message_id
from foreman.projections.job import Job
from foreman.projections.outbox import Attempt, Status

#: What there is of a job beside itself.
URLS: Final = (("get", ""), ("events", "/events"), ("stream", "/stream"), ("deliveries", "/deliveries"))


def job_object(
    job: Job, *, base_url: str, queue: dict[str, Any] | None = None, inline: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """Everything a caller may know of a job: `queue` is its place while it waits, `inline` the small artifacts."""
    url = documents.job_url(job.job_id, base_url)
    return {
        "job_id": job.job_id,
        "state": job.state,
        "model": job.model,
        "endpoint": job.endpoint,
        "class": job.job_class,
        "source": job.source,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "created_at": documents.time(job.created_at),
        "updated_at": documents.time(job.updated_at),
        "started_at": documents.time(job.started_at),
        "completed_at": documents.time(job.completed_at),
        "not_before": documents.time(job.not_before),
        "result": documents.result(job.metrics),
        "error": documents.error(job),
        "last_attempt_error": None if job.finished else job.error,
        "artifacts": [documents.artifact(ref, url, inline or {}) for ref in job.artifacts],
        "queue": queue,
        "retry_of": job.retry_of,
        "webhook": None if job.webhook is None else structs.asdict(job.webhook),
        "version": job.version,
        "log_position": job.position,
        "log_hash": job.log_hash,
        "urls": {name: f"{url}{path}" for name, path in URLS},
    }


def event_object(recorded: Recorded) -> dict[str, Any]:
    """One event of the log."""
    return {
        "position": recorded.position,
        "stream": recorded.stream,
        "version": recorded.version,
        "type": recorded.event.type,
        "at": rfc3339(recorded.at),
        "data": orjson.Fragment(CODEC.members(recorded.event)),
        "hash": recorded.hash.hex(),
    }


def delivery_object(
    delivery: Delivery, attempts: Sequence[Attempt] = (), waits_for: str | None = None
) -> dict[str, Any]:
    """One delivery and how its attempts went. `waits_for` is the one that has to end before it may be sent."""
    pending = delivery.status is Status.PENDING
    return {
        "id": message_id(delivery.job_id, delivery.version),
        "job_id": delivery.job_id,
        "version": delivery.version,
        "tells": delivery.state,
        "log_position": delivery.position,
        "receiver": delivery.receiver,
        "state": delivery.status,
        "next_attempt_at": documents.time(delivery.due) if pending and waits_for is None else None,
        "waits_for": waits_for,
        "ended_at": None if pending else documents.time(delivery.ended),
        "attempt_count": delivery.attempts,
        "attempts": [_attempt(attempt) for attempt in attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": rfc3339(attempt.at),
        "address": attempt.address,
        "status": attempt.status,
        "milliseconds": attempt.duration / 1_000,
        "reply": attempt.reply,
        "error": attempt.error,
    }


def json_response(value: Any, *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> HTTPResponse:
    """The answer of a route of foreman's own."""
    return raw(orjson.dumps(value), status=status, headers=headers, content_type=contents.JSON)
