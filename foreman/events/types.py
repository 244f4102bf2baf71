"""Every event foreman records, one frozen class each. Holds no rule and reads no clock.

A type string is stable for ever. A field may be added with a default; any other change takes the next `schema`
number and an upcaster in `codec`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, NewType

from msgspec import Meta, Struct

from foreman.clock import Micros

JobId = NewType("JobId", str)

#: What SQLite, Go and a float can take; of a number past it there is no event and no view.
_BOUNDS: Final = Meta(ge=-(2**63), le=2**63 - 1)
Whole = Annotated[int, _BOUNDS]
Instant = Annotated[Micros, _BOUNDS]
Position = NewType("Position", Whole)

#: The stream of the daemon's own events; every other stream is a job's id.
DAEMON = "daemon"


class JobClass(StrEnum):
    """Who waits for the answer, and so how long it may wait (docs/explanation/scheduling.md)."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class Source(StrEnum):
    """How the job came in: a blocking native call, or `POST /jobs`."""

    SYNC = "sync"
    ASYNC = "async"


class Endpoint(StrEnum):
    """Which of the target's generation routes the job is for; the value is the path's last part."""

    CHAT = "chat"
    GENERATE = "generate"

    @property
    def path(self) -> str:
        """The route on the target."""
        return f"/api/{self.value}"


class RequeueReason(StrEnum):
    """Why an attempt ended without an answer. Only `connection` costs an attempt."""

    CONNECTION = "connection"
    UNREACHABLE = "unreachable"
    INTERRUPTED = "interrupted"


class CancelledBy(StrEnum):
    """Who ended the job before it had an answer."""

    CALLER_LEFT = "caller_left"
    API = "api"
    SHUTDOWN = "shutdown"
    RESTART = "restart"


class ArtifactRef(Struct, frozen=True, kw_only=True):
    """What the log keeps of some bytes that live in the artifacts table and expire there."""

    name: str
    content_type: str
    size: Whole
    sha256: str


class IdempotencyKey(Struct, frozen=True, kw_only=True):
    """The key a caller sent, what it was sent with, and which of the submitted jobs this one is."""

    key: str
    fingerprint: str
    ordinal: Whole = 0


class Webhook(Struct, frozen=True, kw_only=True):
    """Whom to tell of a job's transitions. Its secret is no part of it: the log is shown, and kept for ever."""

    url: str
    #: The states of which the receiver wants to hear; None means all. A final state is always told.
    events: tuple[str, ...] | None = None


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened."""

    type: ClassVar[str]
    schema: ClassVar[int] = 1


class JobQueued(Event, frozen=True, kw_only=True):
    """A job was accepted."""

    type: ClassVar[str] = "job.queued"

    #: The model's name as the caller wrote it.
    model: str
    #: What makes the target reload: the model's digest and the options that matter.
    load_key: str
    endpoint: Endpoint
    source: Source
    job_class: JobClass
    #: Whether the caller of a blocking call asked for a stream.
    stream: bool
    request: ArtifactRef
    max_attempts: Whole
    idempotency: IdempotencyKey | None = None
    #: The job that this one repeats.
    retry_of: str | None = None
    webhook: Webhook | None = None


class JobLoading(Event, frozen=True, kw_only=True):
    """The worker began to load the job's model."""

    type: ClassVar[str] = "job.loading"

    attempt: Whole
    #: The model that was resident until now, as far as foreman knows.
    evicts: str | None = None


class JobWorking(Event, frozen=True, kw_only=True):
    """The job's request went to the target."""

    type: ClassVar[str] = "job.working"

    attempt: Whole
    #: Seconds since the job was queued.
    waited_s: float
    #: Whether its model had to be loaded for it.
    swapped: bool
    #: Seconds that the load took.
    load_s: float | None = None


class JobRequeued(Event, frozen=True, kw_only=True):
    """An attempt ended without an answer and the job waits again."""

    type: ClassVar[str] = "job.requeued"

    #: Attempts spent so far.
    attempt: Whole
    reason: RequeueReason
    error: str
    #: Not to be started before this moment.
    not_before: Instant | None = None


class JobDone(Event, frozen=True, kw_only=True):
    """The target answered in full."""

    type: ClassVar[str] = "job.done"

    attempt: Whole
    artifacts: tuple[ArtifactRef, ...]
    done_reason: str | None = None
    prompt_tokens: Whole | None = None
    generated_tokens: Whole | None = None
    #: Ollama's own durations, nanoseconds.
    total_duration: Whole | None = None
    load_duration: Whole | None = None
    prompt_eval_duration: Whole | None = None
    eval_duration: Whole | None = None
    #: Seconds from the request to the first byte of the answer.
    first_token_s: float | None = None
    #: Seconds from the request to the end of the answer.
    run_s: float | None = None
    #: Those of the job, so that what was measured can be kept per model without looking back.
    load_key: str | None = None
    job_class: JobClass | None = None


class JobFailed(Event, frozen=True, kw_only=True):
    """The job ended without an answer, for good."""

    type: ClassVar[str] = "job.failed"

    attempt: Whole
    error: str
    code: str
    #: The target's HTTP status, if it was the target that refused.
    status: Whole | None = None


class JobCancelled(Event, frozen=True, kw_only=True):
    """Somebody ended the job before it had an answer."""

    type: ClassVar[str] = "job.cancelled"

    by: CancelledBy


class JobExpired(Event, frozen=True, kw_only=True):
    """The contents of a finished job were removed; its history stays."""

    type: ClassVar[str] = "job.expired"

    #: The artifacts that were removed.
    removed: tuple[str, ...]


JOB_EVENTS: tuple[type[Event], ...] = (
    JobQueued, JobLoading, JobWorking, JobRequeued, JobDone, JobFailed, JobCancelled, JobExpired,
)  # fmt: skip


class Recorded(Struct, frozen=True):
    """An event with its place in the log."""

    #: Its place among all events, from 1 on without gaps.
    position: Position
    #: The job's id, or `daemon`.
    stream: str
    #: Its place in its stream, from 1 on without gaps.
    version: int
    #: When, in microseconds since 1970, UTC.
    at: Micros
    #: SHA-256 over the previous event's hash and this event's bytes.
    hash: bytes
    event: Event
