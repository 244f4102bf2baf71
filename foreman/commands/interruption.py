"""What becomes of a job whose run was cut short by foreman's own end, at shutdown or found after a crash. Pure."""

from __future__ import annotations

from foreman.commands.types import CancelJob, JobCommand, RequeueJob
from foreman.events.types import CancelledBy, RequeueReason, Source
from foreman.fsm.job import RUNNING
from foreman.projections.job import Job


def after_interruption(job: Job, by: CancelledBy) -> JobCommand | None:
    """The command that puts the job right; None if it may simply go on waiting.

    A blocking call's caller went with the connection, so nobody waits for its answer any more, unless it carried an
    idempotency key: then the caller's repeat attaches to it.
    """
    if job.source is Source.SYNC and job.idempotency is None:
        return CancelJob(job_id=job.job_id, by=by)
    if job.state in RUNNING:
        error = "foreman was shut down" if by is CancelledBy.SHUTDOWN else "foreman was restarted"
        return RequeueJob(job_id=job.job_id, reason=RequeueReason.INTERRUPTED, error=error)
    return None
