"""One line of the log for each step of a job, without a word of what it asks or answers. Decides nothing."""

from __future__ import annotations

from foreman.events.daemon import TargetStalled
from foreman.events.types import (
    JobCancelled,
    JobDone,
    JobExpired,
    JobFailed,
    JobLoading,
    JobQueued,
    JobRequeued,
    JobWorking,
    Recorded,
)
from foreman.logs import get_logger
from foreman.projections.job import Job

log = get_logger(__name__)


def say(recorded: Recorded, job: Job | None) -> None:
    """Write the line for a job's event, or for a call of it that stalled; `job` is as the event left it."""
    event = recorded.event
    if isinstance(event, TargetStalled):
        _say_stalled(event)
    if not event.type.startswith("job.") or isinstance(event, JobExpired):
        return  # the sweeper writes one line for all that it expired
    model = "" if job is None else job.model
    facts = {"job_id": recorded.stream, "model": model, **_facts(event)}
    if isinstance(event, JobQueued):
        log.debug(event.type, **facts)  # a batch has thousands
    elif isinstance(event, JobRequeued | JobFailed):
        log.warning(event.type, **facts)
    else:
        log.info(event.type, **facts)


def _say_stalled(event: TargetStalled) -> None:
    log.warning(
        event.type,
        job_id=event.job_id,
        model=event.model,
        reason=event.stage.value,
        waited_s=round(event.silent_s, 3),
        hint="if this model on this machine takes so long, raise FOREMAN_STALL_AFTER or FOREMAN_STALL_BETWEEN",
    )


def _facts(event: object) -> dict[str, object]:
    match event:
        case JobQueued():
            return {"endpoint": event.endpoint.value, "source": event.source.value}
        case JobLoading():
            return {"attempt": event.attempt, "evicts": event.evicts}
        case JobWorking():
            return {"attempt": event.attempt, "waited_s": round(event.waited_s, 3), "swapped": event.swapped}
        case JobRequeued():
            return {"attempt": event.attempt, "reason": event.reason.value, "error": event.error}
        case JobDone():
            duration_s = None if event.run_s is None else round(event.run_s, 3)
            return {"attempt": event.attempt, "duration_s": duration_s, "tokens": event.generated_tokens}
        case JobFailed():
            return {"attempt": event.attempt, "code": event.code, "error": event.error}
        case JobCancelled():
            return {"reason": event.by.value}
        case _:
            return {}
