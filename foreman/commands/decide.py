"""The rules: what events a command makes, given what is known. Pure; whether a state allows them, the FSM says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from foreman.clock import Micros, seconds_between
from foreman.commands.types import (
    CancelJob,
    Command,
    ExpireJob,
    FailJob,
    FinishJob,
    Note,
    RecordAttempt,
    Redeliver,
    RequeueJob,
    StartLoading,
    StartWorking,
    SubmitJobs,
)
from foreman.errors import IdempotencyMismatch, JobNotFound, QueueFull
from foreman.errors import JobExpired as Expired
from foreman.events.types import (
    DAEMON,
    Event,
    JobCancelled,
    JobDone,
    JobExpired,
    JobFailed,
    JobLoading,
    JobRequeued,
    JobWorking,
    RequeueReason,
)
from foreman.fsm.job import State, allows
from foreman.projections.contents import Artifact
from foreman.projections.deliveries import receiver_of
from foreman.projections.job import Job
from foreman.projections.keys import KnownKey
from foreman.projections.outbox import Change, Dropped, Revived

#: A job that was running at this many crashes may well be what causes them.
MAX_INTERRUPTIONS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a decision may rest on, as of the moment it is made."""

    now: Micros
    #: Places left in the queue.
    room: int
    jobs: Mapping[str, Job]
    keys: Mapping[str, KnownKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be written, and the jobs to answer with."""

    answer: tuple[str, ...] = ()
    events: tuple[tuple[str, Event], ...] = ()
    artifacts: tuple[tuple[str, Artifact], ...] = ()
    emptied: tuple[str, ...] = ()
    outbox: tuple[Change, ...] = ()
    #: Jobs with webhook secrets of their own.
    secrets: tuple[tuple[str, str], ...] = ()
    #: Whether the answer is that of an earlier command with the same idempotency key.
    repeated: bool = False


def decide(command: Command, known: Known) -> Decision:
    """What the command does. Raises JobNotFound, QueueFull or IdempotencyMismatch."""
    if isinstance(command, SubmitJobs):
        return _submit(command, known)
    if isinstance(command, Note):
        return Decision(events=((DAEMON, command.event),))
    job = known.jobs.get(command.job_id)
    if job is None:
        raise JobNotFound(f"there is no job {command.job_id}")
    return _RULES[type(command)](command, job, known)


def _submit(command: SubmitJobs, known: Known) -> Decision:
    earlier = known.keys.get(command.key) if command.key is not None else None
    if earlier is not None:
        if earlier.fingerprint != command.fingerprint:
            raise IdempotencyMismatch("this Idempotency-Key was used with another request")
        return Decision(answer=earlier.job_ids, repeated=True)
    if len(command.submissions) > known.room:
        raise QueueFull
    return Decision(
        answer=tuple(item.job_id for item in command.submissions),
        events=tuple((item.job_id, item.queued) for item in command.submissions),
        artifacts=tuple((item.job_id, item.body) for item in command.submissions),
        secrets=tuple(
            (item.job_id, item.webhook_secret) for item in command.submissions if item.webhook_secret is not None
        ),
    )


def _one(job: Job, event: Event, *artifacts: Artifact) -> Decision:
    return Decision(
        answer=(job.job_id,), events=((job.job_id, event),), artifacts=tuple((job.job_id, item) for item in artifacts)
    )


def _load(command: StartLoading, job: Job, known: Known) -> Decision:
    return _one(job, JobLoading(attempt=job.attempt + 1, evicts=command.evicts))


def _work(command: StartWorking, job: Job, known: Known) -> Decision:
    # `job.loading` has counted the attempt already.
    attempt = job.attempt if job.loading_at is not None else job.attempt + 1
    waited_s = job.waited_s if job.loading_at is not None else seconds_between(job.created_at, known.now)
    event = JobWorking(attempt=attempt, waited_s=waited_s or 0.0, swapped=command.swapped, load_s=command.load_s)
    return _one(job, event)


def _requeue(command: RequeueJob, job: Job, known: Known) -> Decision:
    if command.reason is RequeueReason.CONNECTION and job.attempt >= job.max_attempts:
        error = f"{command.error} (attempt {job.attempt} of {job.max_attempts})"
        return _one(job, JobFailed(attempt=job.attempt, error=error, code="attempts_exhausted"))
    if command.reason is RequeueReason.INTERRUPTED and job.interruptions >= MAX_INTERRUPTIONS:
        error = f"foreman stopped {job.interruptions + 1} times while this job was running"
        return _one(job, JobFailed(attempt=job.attempt, error=error, code="interrupted_too_often"))
    spent = job.attempt if command.reason is RequeueReason.CONNECTION else job.attempt - 1
    return _one(
        job,
        JobRequeued(attempt=spent, reason=command.reason, error=command.error, not_before=command.not_before),
    )


def _finish(command: FinishJob, job: Job, known: Known) -> Decision:
    metrics = command.metrics
    event = JobDone(
        attempt=job.attempt,
        artifacts=tuple(item.ref for item in command.artifacts),
        done_reason=metrics.done_reason,
        prompt_tokens=metrics.prompt_tokens,
        generated_tokens=metrics.generated_tokens,
        total_duration=metrics.total_duration,
        load_duration=metrics.load_duration,
        prompt_eval_duration=metrics.prompt_eval_duration,
        eval_duration=metrics.eval_duration,
        first_token_s=metrics.first_token_s,
        run_s=metrics.run_s,
        load_key=job.load_key,
        job_class=job.job_class,
    )
    return _one(job, event, *command.artifacts)


def _fail(command: FailJob, job: Job, known: Known) -> Decision:
    event = JobFailed(attempt=job.attempt, error=command.error, code=command.code, status=command.status)
    return _one(job, event)


def _cancel(command: CancelJob, job: Job, known: Known) -> Decision:
    if not allows(job.state, JobCancelled):
        return Decision(answer=(job.job_id,))
    return _one(job, JobCancelled(by=command.by))


def _expire(command: ExpireJob, job: Job, known: Known) -> Decision:
    if not allows(job.state, JobExpired):
        return Decision(answer=(job.job_id,))
    removed = (job.request.name, *(ref.name for ref in job.artifacts))
    return Decision(
        answer=(job.job_id,),
        events=((job.job_id, JobExpired(removed=removed)),),
        emptied=(job.job_id,),
        outbox=(Dropped(job_id=job.job_id),) if job.webhook is not None else (),
    )


def _record_attempt(command: RecordAttempt, job: Job, known: Known) -> Decision:
    return Decision(answer=(job.job_id,), outbox=(command.attempted,))


def _redeliver(command: Redeliver, job: Job, known: Known) -> Decision:
    if job.state is State.EXPIRED:
        raise Expired
    if job.webhook is None:
        return Decision(answer=(job.job_id,))
    receiver = receiver_of(job.webhook.url)
    revived = Revived(job_id=job.job_id, receiver=receiver, positions=command.positions, at=known.now)
    return Decision(answer=(job.job_id,), outbox=(revived,))


_RULES: Final[Mapping[type, Callable[[Any, Job, Known], Decision]]] = {
    StartLoading: _load,
    StartWorking: _work,
    RequeueJob: _requeue,
    FinishJob: _finish,
    FailJob: _fail,
    CancelJob: _cancel,
    ExpireJob: _expire,
    RecordAttempt: _record_attempt,
    Redeliver: _redeliver,
}
