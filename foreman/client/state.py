"""What the daemon tells of itself: its queue, its models, its health, its figures. Holds no rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from foreman.client.types import JobClass
from foreman.client.wire import Wire, each, moment, named, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn(Wire):
    """Who has the target."""

    model: str | None = None
    load_key: str | None = None
    since: datetime | None = field(default=None, metadata=read(moment))
    #: When another model comes, if one does.
    until: datetime | None = field(default=None, metadata=read(moment))
    #: Why, in a sentence.
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob(Wire):
    """A job that loads or works."""

    job_id: str
    model: str
    load_key: str
    job_class: JobClass = field(metadata=named("class"))
    endpoint: str
    #: `loading` or `working`.
    phase: str
    attempt: int
    since: datetime = field(metadata=read(moment))
    elapsed_seconds: float
    tokens: int | None = None
    tokens_per_second: float | None = None
    #: Until its end.
    eta_seconds: float | None = None
    eta_low_seconds: float | None = None
    eta_high_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob(Wire):
    """A job that waits, with its place if it has one yet."""

    job_id: str
    job_class: JobClass = field(metadata=named("class"))
    created_at: datetime = field(metadata=read(moment))
    not_before: datetime | None = field(default=None, metadata=read(moment))
    position: int | None = None
    ahead: int | None = None
    eta_seconds: float | None = None
    eta_low_seconds: float | None = None
    eta_high_seconds: float | None = None
    extrapolated: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLine(Wire):
    """Who waits for one load key: a model with the options that make Ollama load it anew."""

    load_key: str
    model: str
    count: int
    #: Of these, jobs that wait for a retry.
    resting: int
    jobs: tuple[WaitingJob, ...] = field(default=(), metadata=read(each(WaitingJob)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue(Wire):
    """What runs, and what waits in the order it will run."""

    turn: Turn = field(metadata=read(Turn.of, "mode"))
    running: tuple[RunningJob, ...] = field(metadata=read(each(RunningJob)))
    waiting: tuple[WaitingLine, ...] = field(metadata=read(each(WaitingLine)))
    #: All jobs that wait, shown or not.
    count: int
    other_load_keys: int
    log_position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetHealth(Wire):
    """How the Ollama server does."""

    #: None until it was asked for the first time.
    reachable: bool | None = None
    version: str | None = None
    last_success: datetime | None = field(default=None, metadata=read(moment))
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Wire):
    """How foreman does."""

    #: `ok`, or `stopping`.
    status: str
    #: The target cannot be reached, or takes calls and does not answer them.
    degraded: bool
    degraded_since: datetime | None = field(default=None, metadata=read(moment))
    stalled_since: datetime | None = field(default=None, metadata=read(moment, "stalled"))
    target: TargetHealth = field(metadata=read(TargetHealth.of))
    #: How many jobs are in each: `waiting`, `running`.
    queue: Mapping[str, int] = field(compare=False)
    #: How many webhooks are `pending`.
    webhooks: Mapping[str, int] = field(compare=False)
    log_position: int
    uptime_seconds: float
    version: str
    sqlite_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Wire):
    """A model that the Ollama server has."""

    name: str
    digest: str = ""
    size: int = 0
    modified_at: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidentModel(Wire):
    """A model that is loaded."""

    name: str
    digest: str = ""
    size: int = 0
    #: Bytes of it in the GPU's memory.
    size_vram: int = 0
    expires_at: str | None = None
    context_length: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(Wire):
    """Where the log ends, and the chain's hash there: with both, a witness notices a log that was cut or changed."""

    position: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Wire):
    """What happened within one stretch of a window."""

    at: datetime = field(metadata=read(moment))
    submitted: int
    done: int
    failed: int
    cancelled: int
    #: Of the jobs that began; None if none did.
    wait_mean_seconds: float | None = None
    wait_longest_seconds: float | None = None
    prompt_tokens: int
    generated_tokens: int
    tokens_per_second: float | None = None
    run_seconds: float
    swaps: int
    load_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures(Wire):
    """What was done with one model over the whole log; the model `other` stands for all that are not shown."""

    model: str
    digest: str | None = None
    resident: bool
    waiting: int
    submitted: int
    done: int
    failed: int
    cancelled: int
    prompt_tokens: int
    generated_tokens: int
    load_mean_seconds: float | None = None
    run_mean_seconds: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics(Wire):
    """Figures over a window of time, and totals over the whole log."""

    window: str
    bucket_seconds: int
    since: datetime = field(metadata=read(moment, "from"))
    until: datetime = field(metadata=read(moment, "to"))
    points: tuple[Point, ...] = field(metadata=read(each(Point)))
    totals: Mapping[str, float] = field(compare=False)
    models: tuple[ModelFigures, ...] = field(metadata=read(each(ModelFigures)))
    #: How deliveries stand, by their state and by receiver.
    webhooks: Mapping[str, Any] = field(compare=False)
    log_position: int
