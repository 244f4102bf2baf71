"""Commands: what somebody wants to happen. Imperative names, plain data, no rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from foreman.clock import Micros
from foreman.events.types import CancelledBy, Event, JobQueued, Position, RequeueReason
from foreman.projections.contents import Artifact
from foreman.projections.job import Metrics
from foreman.projections.outbox import Attempted


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One job to be queued, with its request body."""

    job_id: str
    queued: JobQueued
    body: Artifact
    #: What its webhooks are signed with instead of the daemon's secret. Stored, but never shown or logged.
    webhook_secret: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitJobs:
    """Queue these jobs: all or none. With a known idempotency key it answers with the jobs that key made."""

    submissions: tuple[Submission, ...]
    key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLoading:
    """The worker is about to load the job's model."""

    job_id: str
    evicts: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorking:
    """The worker sends the job's request."""

    job_id: str
    swapped: bool = False
    load_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeueJob:
    """The run ended without an answer; it fails for good when its attempts are spent."""

    job_id: str
    reason: RequeueReason
    error: str
    not_before: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishJob:
    """The target answered in full."""

    job_id: str
    metrics: Metrics
    artifacts: tuple[Artifact, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class FailJob:
    """The job ends without an answer, for good."""

    job_id: str
    error: str
    code: str
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelJob:
    """Somebody does not want the job any more; nothing happens if it is over already."""

    job_id: str
    by: CancelledBy


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireJob:
    """Remove the contents of a finished job; nothing happens if it is not finished or expired already."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAttempt:
    """Somebody has tried to deliver a webhook, or has decided not to."""

    job_id: str
    attempted: Attempted


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeliver:
    """Deliver these at once, as if never tried, whether they have ended or wait for their next attempt."""

    job_id: str
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Record an event of the daemon's own."""

    event: Event


JobCommand = StartLoading | StartWorking | RequeueJob | FinishJob | FailJob | CancelJob | ExpireJob
Command = SubmitJobs | JobCommand | RecordAttempt | Redeliver | Note
