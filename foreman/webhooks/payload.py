"""What a receiver is told: the body of a delivery, made anew from the log for each attempt. Sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from foreman.clock import rfc3339
from foreman.events import log
from foreman.events.types import Position
from foreman.fsm.job import State
from foreman.projections import contents, documents
from foreman.projections.job import Job, fold
from foreman.storage.reading import Read


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What decides how artifacts are shown: how foreman is reached (empty: not known), and what goes inline."""

    base_url: str
    inline_limit_bytes: int


async def body(read: Read, job: Job, position: Position, style: Style) -> tuple[int, bytes]:
    """The version and the body that tell of the job's event at `position`; `job` may have gone on since."""
    before, then = State.NEW, None
    for recorded in await log.of_stream(read, job.job_id, 0, job.version):
        if recorded.position > position:
            break
        before = State.NEW if then is None else then.state
        then = fold(then, recorded)
    assert then is not None, "a delivery is written with its event"
    inline = await contents.inline(read, job.job_id, style.inline_limit_bytes) if then.artifacts else {}
    return then.version, orjson.dumps(payload(before, then, style.base_url, inline))


def payload(before: State, job: Job, base_url: str, inline: dict[str, bytes]) -> dict[str, Any]:
    """The body as a value; `job` is as the event left it, and what it has not is null."""
    url = documents.job_url(job.job_id, base_url)
    return {
        "job_id": job.job_id,
        "state": job.state,
        "previous_state": None if before is State.NEW else before,
        "timestamp": rfc3339(job.updated_at),
        "model": job.model,
        "attempt": job.attempt,
        "result": documents.result(job.metrics),
        "artifacts": [documents.artifact(ref, url, inline) for ref in job.artifacts] or None,
        "error": documents.error(job),
        "last_attempt_error": None if job.finished else job.error,
        "version": job.version,
        "log_position": job.position,
        "log_hash": job.log_hash,
    }
