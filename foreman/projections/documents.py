"""How a job's parts are written as JSON, the same in the API and in webhooks. Looks nothing up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from foreman.clock import Micros, rfc3339
from foreman.events.types import ArtifactRef
from foreman.fsm.job import State
from foreman.projections import contents
from foreman.projections.job import Job, Metrics

NANOSECONDS: Final = 1e9


def time(at: Micros | None) -> str | None:
    """A moment as every answer writes it."""
    return None if at is None else rfc3339(at)


def error(job: Job) -> dict[str, Any] | None:
    """Why there is no answer, for good; an attempt that broke and is made again is no error of the job's."""
    if job.state is State.CANCELLED:
        return {"message": "the job was cancelled", "code": "cancelled", "by": job.cancelled_by}
    if job.state is State.FAILED:
        return {"message": job.error, "code": job.error_code, "status": job.error_status}
    return None


def result(metrics: Metrics | None) -> dict[str, Any] | None:
    """What the target said of the work; None before it is done."""
    if metrics is None:
        return None
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


def job_url(job_id: str, base_url: str) -> str:
    """Where the job is; relative if nobody knows how foreman is reached."""
    return f"{base_url}/jobs/{job_id}"


def artifact(ref: ArtifactRef, url: str, inline: Mapping[str, bytes]) -> dict[str, Any]:
    """An artifact of the job at `url`, with its data if that is among those small enough to be shown."""
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


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / NANOSECONDS
