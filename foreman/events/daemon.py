"""The daemon's own events, on a stream of their own: what happened to the target and to foreman itself. No rule."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from msgspec import Struct

from foreman.events.types import Event, Whole


class Stage(StrEnum):
    """How far a call to the target had come."""

    LOADING = "loading"
    #: The request was sent and no byte of its answer had come.
    STARTING = "starting"
    ANSWERING = "answering"


class TargetDegraded(Event, frozen=True, kw_only=True):
    """The target stopped answering."""

    type: ClassVar[str] = "target.degraded"

    error: str


class TargetRecovered(Event, frozen=True, kw_only=True):
    """The target answers again, or for the first time."""

    type: ClassVar[str] = "target.recovered"

    version: str
    #: Seconds since it was seen to be away.
    away_s: float | None = None


class TargetStalled(Event, frozen=True, kw_only=True):
    """A call showed no sign of life for too long and was closed; the job's attempt counts as broken."""

    type: ClassVar[str] = "target.stalled"

    stage: Stage
    model: str
    job_id: str
    #: Seconds without a byte.
    silent_s: float


class ModelSwapped(Event, frozen=True, kw_only=True):
    """Another model became resident."""

    type: ClassVar[str] = "model.swapped"

    model: str
    load_key: str
    #: Seconds that the load took.
    load_s: float
    evicted: str | None = None
    job_id: str | None = None


class Scheduling(Struct, frozen=True, kw_only=True):
    """The settings by which jobs are chosen, as they stood when foreman started."""

    #: Seconds that a batch job may wait before it is overdue; 0 = it never is.
    max_wait_s: float
    #: The same for interactive jobs.
    max_wait_interactive_s: float
    #: The part of the time that loading may cost while everybody is overdue.
    swap_share: float
    #: How many jobs may run at the same time.
    parallel: Whole


class DaemonStarted(Event, frozen=True, kw_only=True):
    """foreman started and took up what the log holds."""

    type: ClassVar[str] = "daemon.started"

    foreman_version: str
    sqlite_version: str
    #: Jobs that wait, those put back after a crash included.
    waiting: Whole
    #: Jobs put back after a crash.
    requeued: Whole
    #: Blocking calls whose callers went with the crash.
    cancelled: Whole
    #: None in logs of a foreman that did not say.
    scheduling: Scheduling | None = None


class DaemonStopped(Event, frozen=True, kw_only=True):
    """foreman stopped in good order."""

    type: ClassVar[str] = "daemon.stopped"

    waiting: Whole


DAEMON_EVENTS: tuple[type[Event], ...] = (
    TargetDegraded,
    TargetRecovered,
    TargetStalled,
    ModelSwapped,
    DaemonStarted,
    DaemonStopped,
)
