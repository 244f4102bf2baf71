"""What foreman's own routes answer with: a job as JSON, in one shape wherever one is shown. Looks nothing up."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from sanic import HTTPResponse
from sanic.response import raw

from foreman.clock import Micros, rfc3339
from foreman.events.types import ArtifactRef, Recorded
from foreman.fsm.job import State
from foreman.projections import contents
from foreman.projections.job import Job, Metrics
from foreman.projections.queue import Place

NANOSECONDS: Final = 1e9


def job_object(
    job: Job, *, base_url: str, place: Place | None = None, inline: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """Everything a caller may know of a job. `inline` holds the artifacts that are small enough to be shown."""
    url = f"{base_url}/jobs/{job.job_id}"
    return {
        "job_id": job.job_id,
        "state": job.state,
        "model": job.model,
        "endpoint": job.endpoint,
        "class": job.job_class,
        "source": job.source,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "created_at": time(job.created_at),
        "updated_at": time(job.updated_at),
        "started_at": time(job.started_at),
        "completed_at": time(job.completed_at),
        "not_before": time(job.not_before),
        "result": None if job.metrics is None else _result(job.metrics),
        "error": _error(job),
        "last_attempt_error": None if job.finished else job.error,
        "artifacts": [_artifact(ref, url, inline or {}) for ref in job.artifacts],
        "queue": None if place is None else {"position": place.position, "ahead": place.ahead},
        "retry_of": job.retry_of,
        "version": job.version,
        "log_position": job.position,
        "log_hash": job.log_hash,
        "urls": {name: f"{url}{path}" for name, path in (("get", ""), ("events", "/events"), ("stream", "/stream"))},
    }


def event_object(recorded: Recorded) -> dict[str, Any]:
    """One event of the log."""
    return {
        "position": recorded.position,
        "stream": recorded.stream,
        "version": recorded.version,
        "type": recorded.event.type,
        "at": rfc3339(recorded.at),
        "data": recorded.event,
        "hash": recorded.hash.hex(),
    }


def json_response(value: Any, *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> HTTPResponse:
    """The answer of a route of foreman's own."""
    return raw(orjson.dumps(value), status=status, headers=headers, content_type=contents.JSON)


def time(at: Micros | None) -> str | None:
    """A moment as every answer writes it."""
    return None if at is None else rfc3339(at)


def _error(job: Job) -> dict[str, Any] | None:
    """Why there is no answer, for good; an attempt that broke and is made again is no error of the job's."""
    if job.state is State.CANCELLED:
        return {"message": "the job was cancelled", "code": "cancelled", "by": job.cancelled_by}
    if job.state is State.FAILED:
        return {"message": job.error, "code": job.error_code, "status": job.error_status}
    return None


def _result(metrics: Metrics) -> dict[str, Any]:
    return {
        "done_reason": metrics.done_reason,
        "prompt_tokens": metrics.prompt_tokens,
        "generated_tokens": metrics.generated_tokens,
        "first_token_seconds": metrics.first_token_s,
        "run_seconds": metrics.run_s,
        "load_seconds": _seconds(metrics.load_duration),
        "prompt_eval_seconds": _seconds(metrics.prompt_eval_duration),
        "eval_seconds": _seconds(metrics.eval_duration),
    }


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / NANOSECONDS


def _artifact(ref: ArtifactRef, url: str, inline: Mapping[str, bytes]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": ref.name,
        "content_type": ref.content_type,
        "size": ref.size,
        "sha256": ref.sha256,
        "url": f"{url}/artifacts/{ref.name}",
    }
    data = inline.get(ref.name)
    if data is not None and ref.content_type == contents.JSON:
        # As the target wrote it; decoding it only to encode it again could change a number.
        shown["data"] = orjson.Fragment(data)
    return shown
