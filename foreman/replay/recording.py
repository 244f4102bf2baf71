"""What a log says of the work that came and how long it took: all that another scheduler needs to be tried on it.

Reads events and measures; simulates nothing. What the log cannot say (how long a job would have run that was cancelled
while it waited, what a model costs to load that never was) is taken from what is typical for its model.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from foreman.events.codec import CODEC
from foreman.events.daemon import DaemonStarted, DaemonStopped, ModelSwapped, TargetDegraded, TargetRecovered
from foreman.events.history import StoredEvent
from foreman.events.types import (
    DAEMON,
    Event,
    JobCancelled,
    JobClass,
    JobDone,
    JobExpired,
    JobFailed,
    JobLoading,
    JobQueued,
    JobRequeued,
    JobWorking,
)
from foreman.scheduling.lengths import UNKNOWN_RUN

SECOND: Final = 1_000_000
#: Events between two calls of `told`.
CHUNK: Final = 5_000
#: A start that comes later than this after what allowed it was waiting for something else.
LONGEST_LATENCY: Final = 1 * SECOND
#: More runs than ever end at one start.
LATELY: Final = 1_024


@dataclass(slots=True)
class Attempt:
    """One run of a job's as it was: when its load began, if there was one, when its request went out, when it ended."""

    loading: int | None
    working: int | None
    ended: int | None = None
    #: Until it may be tried again; None = it was the last.
    rest: int | None = None

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

    @property
    def began(self) -> int | None:
        """When the target first began on it."""
        return next((attempt.working for attempt in self.attempts if attempt.working is not None), None)


@dataclass(slots=True)
class Recording:
    """A whole log's work, in the order in which it came."""

    courses: list[Course] = field(default_factory=list)
    swaps: int = 0
    position: int = 0
    #: When nothing could start: no daemon, or no target.
    shut: list[tuple[int, int]] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    #: When the target came to hold another model, or none, without foreman.
    holds: list[tuple[int, str | None]] = field(default_factory=list)
    #: How long after what allows a start it comes: commits, mostly.
    latency: int = 0
    end: int = 0

    @classmethod
    def of(cls, events: Iterable[StoredEvent], told: Callable[[int], None] | None = None) -> Recording:
        """What these events say. Raises UnknownEvent or LogCorrupt."""
        reader = _Reader()
        for stored in events:
            reader.take(stored)
            if told is not None and stored.position % CHUNK == 0:
                told(stored.position)
        return reader.ended()

    def typical_run(self, course: Course) -> int:
        """How long a job like this one runs."""
        if not self._typical:
            self._measure()
        typical = self._typical
        return typical.get((course.load_key, course.job_class)) or typical.get(None) or round(UNKNOWN_RUN.mean_s * 1e6)

    _typical: dict[tuple[str, JobClass] | None, int] = field(default_factory=dict)

    def _measure(self) -> None:
        lengths: defaultdict[tuple[str, JobClass] | None, list[int]] = defaultdict(list)
        for course in self.courses:
            if course.finished is not None and course.attempts:
                last = course.attempts[-1]
                if last.working is not None and last.ended is not None:
                    for key in (None, (course.load_key, course.job_class)):
                        lengths[key].append(last.ended - last.working)
        self._typical = {key: round(fmean(values)) for key, values in lengths.items()}


class _Reader:
    """Follows the log."""

    def __init__(self) -> None:
        self.recording = Recording()
        self._courses: dict[str, Course] = {}
        self._times = array("q")
        self._shut: int | None = None
        #: The newest runs that have ended, by the position of the event that says so.
        self._lately_ended: deque[tuple[int, Attempt]] = deque(maxlen=LATELY)
        self._holds: str | None = None
        #: The last moment at which a start became possible, and after which the target idled.
        self._free = 0
        self._latencies: list[int] = []

    def take(self, stored: StoredEvent) -> None:
        """One more event."""
        at = stored.at
        self._times.append(at)
        event = CODEC.decode(stored.type, stored.data)
        if stored.stream == DAEMON:
            self._take_daemons(event, stored.position, at)
        elif isinstance(event, JobQueued):
            course = Course(at, event.model, event.load_key, event.job_class)
            self._courses[stored.stream] = course
            self.recording.courses.append(course)
        elif not isinstance(event, JobExpired) and (known := self._courses.get(stored.stream)) is not None:
            self._take_jobs(known, event, stored.position, at)
            if known.finished is not None or known.left is not None:
                del self._courses[stored.stream]

    def ended(self) -> Recording:
        """That was the whole log."""
        recording = self.recording
        recording.position = len(self._times)
        recording.end = max(self._times, default=0)
        if self._shut is not None:
            recording.shut.append((self._shut, recording.end))
        for course in self._courses.values():  # those that are unfinished go with the log
            course.left = recording.end
        if self._latencies:
            recording.latency = round(fmean(self._latencies))
        return recording

    def _take_jobs(self, course: Course, event: Event, position: int, at: int) -> None:
        attempts = course.attempts
        if isinstance(event, JobLoading):
            self._started(course, at, swaps=True)
            attempts.append(Attempt(loading=at, working=None))
        elif isinstance(event, JobWorking):
            if attempts and attempts[-1].ended is None:
                attempts[-1].working = at
            else:
                self._started(course, at, swaps=False)
                attempts.append(Attempt(loading=None, working=at))
        else:
            if attempts and attempts[-1].ended is None:
                attempts[-1].ended = self._free = at
                self._lately_ended.append((position, attempts[-1]))
            if isinstance(event, JobRequeued):
                attempts[-1].rest = max(0, event.not_before - at) if event.not_before is not None else 0
            elif isinstance(event, JobCancelled):
                course.left = at
            elif isinstance(event, JobDone | JobFailed):
                course.finished = at

    def _started(self, course: Course, at: int, *, swaps: bool) -> None:
        if self._shut is not None:  # whatever is missing of the daemon's own events, it could start
            self._open(at)
        if swaps == (course.load_key == self._holds):
            # Somebody else loaded or unloaded a model, or the target did; when, nobody knows.
            moment = (self._free + at) // 2 if self._free else course.queued
            self.recording.holds.append((moment, None if swaps else course.load_key))
        self._holds = course.load_key
        late = at - max(self._free, course.queued)
        if 0 <= late <= LONGEST_LATENCY:
            self._latencies.append(late)

    def _take_daemons(self, event: Event, position: int, at: int) -> None:
        if isinstance(event, ModelSwapped):
            self.recording.swaps += 1
        elif isinstance(event, TargetDegraded | DaemonStopped):
            self._shut = at if self._shut is None else self._shut
        elif isinstance(event, TargetRecovered):
            self._open(at)
        elif isinstance(event, DaemonStarted):
            # What the start put right stands just before; the event before that was the last sign of the life before.
            last = position - event.requeued - event.cancelled - 2
            down = self._times[last] if 0 <= last < len(self._times) else at
            self._cut(position, last + 1, down)
            self._shut = down if self._shut is None else self._shut
            self.recording.restarts.append(at)

    def _open(self, at: int) -> None:
        if self._shut is not None and at > self._shut:
            self.recording.shut.append((self._shut, at))
        self._shut = None
        self._free = max(self._free, at)

    def _cut(self, started: int, since: int, down: int) -> None:
        """Runs that were found broken at a start, past position `since`, had ended with the life before."""
        for position, attempt in self._lately_ended:
            if since < position < started and attempt.ended is not None:
                attempt.ended = min(attempt.ended, down)
