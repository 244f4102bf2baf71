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

from foreman.errors import ForemanError, LogCorrupt, UnknownEvent
from foreman.events.codec import CODEC
from foreman.events.daemon import (
    DaemonStarted,
    DaemonStopped,
    ModelSwapped,
    Scheduling,
    TargetDegraded,
    TargetRecovered,
)
from foreman.events.history import StoredEvent
from foreman.events.types import (
    DAEMON,
    CancelledBy,
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
    RequeueReason,
)
from foreman.fsm.job import FINISHED, State, advance
from foreman.replay.course import Attempt, Course
from foreman.scheduling.lengths import UNKNOWN_RUN

SECOND: Final = 1_000_000
#: Events between two calls of `told`.
CHUNK: Final = 5_000
#: A start that comes later than this after what allowed it was waiting for something else.
LONGEST_LATENCY: Final = 1 * SECOND
#: More runs than ever end at one start.
LATELY: Final = 1_024


@dataclass(slots=True)
class Recording:
    """A whole log's work, in the order in which it came."""

    courses: list[Course] = field(default_factory=list)
    swaps: int = 0
    position: int = 0
    #: When nothing could start: no daemon, or no target.
    shut: list[tuple[int, int]] = field(default_factory=list)
    #: Each life of the daemon's: when the one before had ended, and the rules of this one if the log knows them.
    lives: list[tuple[int, Scheduling | None]] = field(default_factory=list)
    #: When the target came to hold another model, or none, without foreman.
    holds: list[tuple[int, str | None]] = field(default_factory=list)
    #: How late attempts begin on average.
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

    @property
    def tells_rules(self) -> bool:
        """Whether the log says by which rules all of it ran."""
        return bool(self.lives) and all(scheduling is not None for _, scheduling in self.lives)

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
        #: When the slots that are free became so, as far as runs have ended in them, and when the last of all runs did.
        self._slots: deque[int] = deque()
        self._free = 0
        #: Before this moment nothing could start: a load went on, or there was no target.
        self._open_since = 0
        #: How many jobs run, and the last moment at which the scheduler learnt anything but that a run had begun.
        self._running = 0
        self._woken = 0
        #: When runs of this life were first cut short by its end, and when it ended, as far as is known by now.
        self._interrupted: int | None = None
        self._life_ended: int | None = None

    def take(self, stored: StoredEvent) -> None:
        """One more event. Raises LogCorrupt or UnknownEvent, naming the position."""
        self._times.append(stored.at)
        try:
            event = CODEC.decode(stored.type, stored.data)
            if stored.stream == DAEMON:
                self._take_daemons(event, stored.position, stored.at)
            elif not isinstance(event, JobExpired):
                self._take_jobs(stored.stream, event, stored.position, stored.at)
        except UnknownEvent as error:
            raise UnknownEvent(f"event {stored.position}: {error}") from error
        except ForemanError as error:
            raise LogCorrupt(f"event {stored.position}: {error}") from error
        if not isinstance(event, JobLoading | JobWorking):
            self._woken = stored.at

    def ended(self) -> Recording:
        """That was the whole log."""
        recording = self.recording
        recording.position = len(self._times)
        recording.end = max(self._times, default=0)
        if self._shut is not None:
            recording.shut.append((self._shut, recording.end))
        for course in self._courses.values():
            if course.attempts and course.attempts[-1].ended is None:
                course.attempts[-1].ended = recording.end
        attempts = (attempt for course in recording.courses for attempt in course.attempts)
        latencies = [attempt.late for attempt in attempts if attempt.late is not None]
        recording.latency = round(fmean(latencies)) if latencies else 0
        return recording

    def _take_jobs(self, job_id: str, event: Event, position: int, at: int) -> None:
        course = self._courses.get(job_id)
        state = advance(State.NEW if course is None else course.state, event)
        if isinstance(event, JobQueued):
            course = self._courses[job_id] = Course(at, event.model, event.load_key, event.job_class)
            self.recording.courses.append(course)
        assert course is not None, "the table lets nothing else be first"
        course.state = state
        if not isinstance(event, JobQueued):
            self._go_on(course, event, position, at)
        if state in FINISHED:
            del self._courses[job_id]

    def _go_on(self, course: Course, event: Event, position: int, at: int) -> None:
        attempts = course.attempts
        if isinstance(event, JobLoading):
            held = None if event.evicts is None or self._holds == course.load_key else self._holds
            attempts.append(Attempt(loading=at, working=None, late=self._started(course, at, held)))
        elif isinstance(event, JobWorking):
            if attempts and attempts[-1].ended is None:
                attempts[-1].working, attempts[-1].load_s = at, event.load_s
                self._open_since = at
            else:
                attempts.append(Attempt(loading=None, working=at, late=self._started(course, at, course.load_key)))
        else:
            if attempts and attempts[-1].ended is None:
                self._ended(attempts[-1], position, at)
            if isinstance(event, JobRequeued):
                attempts[-1].rest = max(0, event.not_before - at) if event.not_before is not None else 0
                attempts[-1].interrupted = event.reason is RequeueReason.INTERRUPTED
                if attempts[-1].interrupted and self._interrupted is None:
                    self._interrupted = at
            elif isinstance(event, JobCancelled):
                course.left = at
                if event.by is CancelledBy.SHUTDOWN and self._shut is None:
                    self._shut = at  # whoever stops begins with the callers that wait
            elif isinstance(event, JobDone | JobFailed):
                course.finished = at

    def _ended(self, attempt: Attempt, position: int, at: int) -> None:
        attempt.ended = self._free = at
        self._slots.append(at)
        self._running -= 1
        self._lately_ended.append((position, attempt))
        if attempt.working is None:
            self._holds = None  # whoever breaks a load off has no model, unless others wait for it

    def _started(self, course: Course, at: int, held: str | None) -> int | None:
        """How late it is; `held` was loaded then."""
        if self._shut is not None and at - self._shut > LONGEST_LATENCY:
            self._open(at)  # whatever is missing of the daemon's own events, it could start; sooner, it was under way
        last = course.attempts[-1] if course.attempts else None
        rested = 0 if last is None or last.ended is None else last.ended + (last.rest or 0)
        freed = self._slots.popleft() if self._slots else 0
        # A slot stays empty until something happens that lets it be filled, be it that the last of all runs ends.
        freed = max(freed, self._woken) if self._running else self._free
        self._running += 1
        wait = at - max(freed, self._open_since, course.queued, rested)
        late = wait if 0 <= wait <= LONGEST_LATENCY else None
        if held != self._holds:
            self._moved(held, max(self._free, self._open_since) or course.queued, at, late)
        self._holds = course.load_key
        return late

    def _moved(self, held: str | None, since: int, at: int, late: int | None) -> None:
        """The target came to hold another model, or none, between two moments; when, nobody knows."""
        before = self._lately_ended[-1][1] if self._lately_ended else None
        if held is None and late is not None and before is not None and before.ended == since:
            before.unloads = True  # as a request may ask for
        else:
            self.recording.holds.append((since if late is not None else (since + at) // 2, held))

    def _take_daemons(self, event: Event, position: int, at: int) -> None:
        if isinstance(event, ModelSwapped):
            self.recording.swaps += 1
            self._open_since, self._holds = at, event.load_key
        elif isinstance(event, TargetDegraded):
            self._shut = at if self._shut is None else self._shut
        elif isinstance(event, TargetRecovered):
            self._open(at)
        elif isinstance(event, DaemonStopped):
            self._life_ended = at if self._interrupted is None else self._interrupted
            self._shut = self._life_ended if self._shut is None else self._shut
        elif isinstance(event, DaemonStarted):
            # What the start put right stands just before; the event before that was the last sign of the life before.
            last = position - event.requeued - event.cancelled - 2
            down = self._times[last] if 0 <= last < len(self._times) else at
            self._cut(position, last + 1, down)
            ended = down if self._life_ended is None else self._life_ended
            self._shut = ended if self._shut is None else self._shut
            self.recording.lives.append((ended, event.scheduling))
            self._interrupted = self._life_ended = None

    def _open(self, at: int) -> None:
        if self._shut is not None and at > self._shut:
            self.recording.shut.append((self._shut, at))
        self._shut = None
        self._open_since = at

    def _cut(self, started: int, since: int, down: int) -> None:
        """Runs that were found broken at a start, past position `since`, had ended with the life before."""
        for position, attempt in self._lately_ended:
            if since < position < started and attempt.ended is not None:
                attempt.ended = min(attempt.ended, down)
