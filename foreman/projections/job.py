"""The job view: everything that is known of one job, as a fold of its events. Pure; its table is in `jobs`."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Final

from msgspec import Struct

from foreman.clock import Micros, seconds_between
from foreman.errors import LogCorrupt
from foreman.events.types import (
    ArtifactRef,
    CancelledBy,
    Endpoint,
    Event,
    IdempotencyKey,
    Instant,
    JobCancelled,
    JobClass,
    JobDone,
    JobExpired,
    JobFailed,
    JobLoading,
    JobQueued,
    JobRequeued,
    JobWorking,
    Position,
    Recorded,
    RequeueReason,
    Source,
    Webhook,
    Whole,
)
from foreman.fsm.job import FINISHED, State, advance


class Metrics(Struct, frozen=True, kw_only=True):
    """What the target said of the work it did. Durations of Ollama's are nanoseconds."""

    done_reason: str | None = None
    prompt_tokens: Whole | None = None
    generated_tokens: Whole | None = None
    total_duration: Whole | None = None
    load_duration: Whole | None = None
    prompt_eval_duration: Whole | None = None
    eval_duration: Whole | None = None
    first_token_s: float | None = None
    run_s: float | None = None


class Job(Struct, kw_only=True):
    """One job as of `position`. Not changed in place, but by `fold_in`: `fold` makes the next one."""

    job_id: str
    state: State
    model: str
    load_key: str
    endpoint: Endpoint
    source: Source
    job_class: JobClass
    stream: bool
    request: ArtifactRef
    max_attempts: Whole
    #: Log position of its `job.queued`: its age among all jobs.
    order: Position
    created_at: Instant
    updated_at: Instant
    #: Its last event's place in the log, its place in the job's stream, and its hash as hexadecimal text.
    position: Position
    version: Whole
    log_hash: str
    #: Attempts begun that count: one that the daemon or an absent target cut short is taken back.
    attempt: Whole = 0
    #: How often it was begun at all; each run's tail starts from nothing.
    run: Whole = 0
    interruptions: Whole = 0
    not_before: Instant | None = None
    loading_at: Instant | None = None
    started_at: Instant | None = None
    completed_at: Instant | None = None
    waited_s: float | None = None
    load_s: float | None = None
    error: str | None = None
    error_code: str | None = None
    error_status: Whole | None = None
    cancelled_by: CancelledBy | None = None
    metrics: Metrics | None = None
    artifacts: tuple[ArtifactRef, ...] = ()
    idempotency: IdempotencyKey | None = None
    retry_of: str | None = None
    webhook: Webhook | None = None

    @property
    def finished(self) -> bool:
        """Whether it has its final state."""
        return self.state in FINISHED or self.state is State.EXPIRED


def fold(job: Job | None, recorded: Recorded) -> Job:
    """The job after one more of its events. Raises IllegalTransition, or LogCorrupt for an event out of place."""
    return fold_in(None if job is None else copy(job), recorded)


def fold_in(job: Job | None, recorded: Recorded) -> Job:
    """The same for who keeps no earlier state, as over a whole log: the job given is changed, unless this raises."""
    version, at, event = recorded.version, recorded.at, recorded.event
    state = advance(State.NEW if job is None else job.state, event)
    expected = 1 if job is None else job.version + 1
    if version != expected:
        raise LogCorrupt(f"event {version} of {recorded.stream} stands where event {expected} belongs")
    if job is None:
        assert isinstance(event, JobQueued), "the table lets nothing else be first"
        return _queued(recorded, event, state)
    _CHANGES[type(event)](job, event, at)  # these may ask for the state before
    job.state = state
    job.updated_at = at
    job.position = recorded.position
    job.version = version
    job.log_hash = recorded.hash.hex()
    return job


def _queued(recorded: Recorded, event: JobQueued, state: State) -> Job:
    return Job(
        job_id=recorded.stream,
        state=state,
        model=event.model,
        load_key=event.load_key,
        endpoint=event.endpoint,
        source=event.source,
        job_class=event.job_class,
        stream=event.stream,
        request=event.request,
        max_attempts=event.max_attempts,
        order=recorded.position,
        created_at=recorded.at,
        updated_at=recorded.at,
        position=recorded.position,
        version=recorded.version,
        log_hash=recorded.hash.hex(),
        idempotency=event.idempotency,
        retry_of=event.retry_of,
        webhook=event.webhook,
    )


def _loading(job: Job, event: JobLoading, at: Micros) -> None:
    job.attempt = event.attempt
    job.run += 1
    job.not_before = None
    job.loading_at = at
    job.started_at = None
    job.waited_s = seconds_between(job.created_at, at)


def _working(job: Job, event: JobWorking, at: Micros) -> None:
    job.attempt = event.attempt
    job.run += job.state is not State.LOADING
    job.not_before = None
    job.started_at = at
    job.waited_s = event.waited_s
    job.load_s = event.load_s


def _requeued(job: Job, event: JobRequeued, at: Micros) -> None:
    job.attempt = event.attempt
    job.interruptions += event.reason is RequeueReason.INTERRUPTED
    job.not_before = event.not_before
    job.loading_at = None
    job.started_at = None
    job.load_s = None
    job.error = event.error


def _done(job: Job, event: JobDone, at: Micros) -> None:
    job.attempt = event.attempt
    job.completed_at = at
    job.error = None
    job.artifacts = event.artifacts
    job.metrics = Metrics(
        done_reason=event.done_reason,
        prompt_tokens=event.prompt_tokens,
        generated_tokens=event.generated_tokens,
        total_duration=event.total_duration,
        load_duration=event.load_duration,
        prompt_eval_duration=event.prompt_eval_duration,
        eval_duration=event.eval_duration,
        first_token_s=event.first_token_s,
        run_s=event.run_s,
    )


def _failed(job: Job, event: JobFailed, at: Micros) -> None:
    job.attempt = event.attempt
    job.completed_at = at
    job.not_before = None
    job.error = event.error
    job.error_code = event.code
    job.error_status = event.status


def _cancelled(job: Job, event: JobCancelled, at: Micros) -> None:
    job.completed_at = at
    job.not_before = None
    job.cancelled_by = event.by


def _expired(job: Job, event: JobExpired, at: Micros) -> None:
    job.artifacts = ()


_CHANGES: Final[dict[type[Event], Callable[[Job, Any, Micros], None]]] = {
    JobLoading: _loading,
    JobWorking: _working,
    JobRequeued: _requeued,
    JobDone: _done,
    JobFailed: _failed,
    JobCancelled: _cancelled,
    JobExpired: _expired,
}
