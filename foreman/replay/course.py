"""What became of one job, run by run, as a recording keeps it. Times are microseconds. Reads no log."""

from __future__ import annotations

from dataclasses import dataclass, field

from foreman.events.types import JobClass
from foreman.fsm.job import State


@dataclass(slots=True)
class Attempt:
    """One run of a job's as it was: when its load began, if there was one, when its request went out, when it ended."""

    loading: int | None
    working: int | None
    ended: int | None = None
    #: Until it may be tried again; None = it was the last.
    rest: int | None = None
    #: How long after what allowed it it began: commits, mostly; None = nobody knows.
    late: int | None = None
    #: Seconds that its load took as the daemon measured it, by which the scheduler goes; without commits.
    load_s: float | None = None
    #: The daemon's end cut it short, and not its own.
    interrupted: bool = False
    #: The model was gone after it.
    unloads: bool = False

    @property
    def load(self) -> int | None:
        """How long its load took, if it came to its end."""
        return None if self.loading is None or self.working is None else self.working - self.loading


@dataclass(slots=True)
class Course:
    """What became of one job."""

    queued: int
    model: str
    load_key: str
    job_class: JobClass
    attempts: list[Attempt] = field(default_factory=list)
    #: When it was cancelled.
    left: int | None = None
    #: When it was done or had failed.
    finished: int | None = None
    #: Where the log is with it.
    state: State = State.QUEUED

    @property
    def whole(self) -> list[Attempt]:
        """The attempts that came to their own end, good or bad."""
        return [attempt for attempt in self.attempts if attempt.ended is not None and not attempt.interrupted]

    @property
    def began(self) -> int | None:
        """When the target first began on it."""
        return next((attempt.working for attempt in self.attempts if attempt.working is not None), None)
