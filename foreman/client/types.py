"""What the daemon tells of, as frozen dataclasses. Holds no rule; `raw` of each is the JSON object it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from foreman.client.errors import JobCancelled, JobFailed
from foreman.client.wire import Wire, each, moment, named, read

JobState = Literal["queued", "loading", "working", "done", "failed", "cancelled", "expired"]
JobClass = Literal["batch", "interactive"]
DeliveryState = Literal["pending", "delivered", "dead", "gone"]
StatisticsWindow = Literal["1h", "6h", "24h", "7d", "30d"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Whom a job tells of its states: all of them, or those in `events`."""

    url: str
    events: tuple[str, ...] | None = None
    #: What its deliveries are signed with; the daemon's own secret if there is none.
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(Wire):
    """Something that a job holds: its completion, its stream."""

    name: str
    content_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Wire):
    """A waiting job's place in the queue."""

    #: 1 is next.
    position: int
    ahead: int
    #: Until Ollama begins with it, and a range that should hold four times out of five; None while Ollama is away.
    eta_seconds: float | None = None
    eta_low_seconds: float | None = None
    eta_high_seconds: float | None = None
    #: Too far back to have been played through one by one.
    extrapolated: bool = False
    #: Why it waits, in a sentence.
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Wire):
    """What Ollama said of its work."""

    done_reason: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    first_token_seconds: float | None = None
    run_seconds: float | None = None
    load_seconds: float | None = None
    prompt_eval_seconds: float | None = None
    eval_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError(Wire):
    """Why a job has no answer."""

    code: str | None = None
    message: str | None = None
    #: Ollama's own HTTP status.
    status: int | None = None
    #: Who cancelled it.
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Wire):
    """A job, as it was when the daemon was asked."""

    job_id: str
    state: JobState
    model: str
    endpoint: str
    job_class: JobClass = field(metadata=named("class"))
    #: `sync` for a blocking call, `async` for what was submitted.
    source: str
    attempt: int
    max_attempts: int
    created_at: datetime = field(metadata=read(moment))
    updated_at: datetime = field(metadata=read(moment))
    started_at: datetime | None = field(default=None, metadata=read(moment))
    completed_at: datetime | None = field(default=None, metadata=read(moment))
    #: The end of a pause after an attempt that broke.
    not_before: datetime | None = field(default=None, metadata=read(moment))
    result: Result | None = field(default=None, metadata=read(Result.of))
    error: JobError | None = field(default=None, metadata=read(JobError.of))
    last_attempt_error: str | None = None
    artifacts: tuple[Artifact, ...] = field(default=(), metadata=read(each(Artifact)))
    #: While it waits.
    place: Place | None = field(default=None, metadata=read(Place.of, "queue"))
    retry_of: str | None = None
    version: int
    log_position: int
    log_hash: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it is over."""
        return self.state in {"done", "failed", "cancelled", "expired"}

    def raise_for_state(self) -> Self:
        """The job itself, unless it ended without an answer: then JobFailed or JobCancelled is raised."""
        error = self.error or JobError()
        if self.state == "failed":
            raise JobFailed(error.message or "the job failed", job_id=self.job_id, code=error.code)
        if self.state == "cancelled":
            raise JobCancelled(error.message or "the job was cancelled", job_id=self.job_id)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A job's answer in one piece."""

    text: str
    thinking: str
    tool_calls: tuple[Mapping[str, Any], ...]
    #: All of it, as Ollama would have answered with `"stream": false`.
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """The same, typed; of a chat or a generation."""
        text, thinking = spoken(raw)
        message = raw.get("message")
        calls = message.get("tool_calls") if isinstance(message, Mapping) else None
        return cls(text=text, thinking=thinking, tool_calls=tuple(calls or ()), raw=raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLine:
    """One line of an answer, as Ollama sent it."""

    #: The run it belongs to, and its number in it, from 1 on.
    run: int
    number: int
    #: What it adds to the answer, and to the model's thinking.
    text: str
    thinking: str
    #: The line as it is, and what it says if it is a JSON object.
    line: bytes = field(repr=False)
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """Said in a stream: the job was started anew, and every line before this is void."""

    run: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Wire):
    """Something that happened, as the log has it."""

    position: int
    #: The id of the job it is about, or `daemon`.
    stream: str
    version: int
    type: str
    at: datetime = field(metadata=read(moment))
    data: Mapping[str, Any] = field(compare=False)
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryAttempt(Wire):
    """One time that a webhook was sent."""

    at: datetime = field(metadata=read(moment))
    address: str | None = None
    #: The receiver's HTTP status; None if there was no answer.
    status: int | None = None
    milliseconds: float | None = None
    reply: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Wire):
    """A webhook: what it tells, to whom, and what became of it."""

    #: What the receiver gets as `webhook-id`.
    id: str
    job_id: str
    version: int
    #: The job's state that it tells of.
    tells: str | None = None
    log_position: int
    receiver: str
    state: DeliveryState
    next_attempt_at: datetime | None = field(default=None, metadata=read(moment))
    #: The delivery that has to end before this one may be sent.
    waits_for: str | None = None
    ended_at: datetime | None = field(default=None, metadata=read(moment))
    attempt_count: int
    attempts: tuple[DeliveryAttempt, ...] = field(default=(), metadata=read(each(DeliveryAttempt)))


def spoken(said: Mapping[str, Any]) -> tuple[str, str]:
    """The text and the thinking in a line or a completion, of a chat or a generation."""
    message = said.get("message")
    if isinstance(message, Mapping):
        return _text(message.get("content")), _text(message.get("thinking"))
    return _text(said.get("response")), _text(said.get("thinking"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
