"""What ran and what waited at one moment of a log: a fold of its events up to there. Does not check the chain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

from foreman.clock import Micros
from foreman.errors import ForemanError, LogCorrupt, RequestInvalid, UnknownEvent
from foreman.events import log
from foreman.events.codec import CODEC
from foreman.events.daemon import DaemonStarted, DaemonStopped, TargetDegraded, TargetRecovered
from foreman.events.history import StoredEvent
from foreman.events.types import (
    DAEMON,
    CancelledBy,
    JobCancelled,
    JobClass,
    JobFailed,
    JobRequeued,
    Position,
    RequeueReason,
)
from foreman.fsm.job import State
from foreman.projections.job import Job, fold_in
from foreman.projections.work import Work

START: Final = Position(0)
#: Events after which nothing of a job is left to look at.
LAST: Final = {"job.done": State.DONE, "job.failed": State.FAILED, "job.cancelled": State.CANCELLED}
#: Events between two calls of `told`.
CHUNK: Final = 5_000
_TIME: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")


@dataclass(slots=True)
class Moment:
    """Everything unfinished as of `position`, and how many jobs were over by then."""

    position: Position = START
    #: The time of that event.
    at: Micros | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    finished: Counter[State] = field(default_factory=Counter)
    #: Since when nothing could start: no daemon, or no target.
    stopped_since: Micros | None = None
    #: When foreman was started again after it had died; nobody knows when, but it was after `at`.
    died_before: Micros | None = None
    target_away_since: Micros | None = None

    def work(self) -> Work:
        """What waited, in its order, and what ran."""
        return Work.of(sorted(self.jobs.values(), key=lambda job: job.order))

    def waiting(self) -> dict[str, list[Job]]:
        """Who waited, by load key: that of the oldest first; within it in order, those in backoff last."""
        queue = self.work().queue
        if self.at is not None:
            queue.settle(self.at)
        found: dict[str, list[Job]] = {entry.load_key: [] for entry in sorted(queue, key=lambda entry: entry.order)}
        for load_key, jobs in found.items():
            for job_class in JobClass:
                jobs += [self.jobs[entry.job_id] for entry in queue.ready(load_key, job_class)]
        for entry in queue.resting():
            found[entry.load_key].append(self.jobs[entry.job_id])
        return found

    def take(self, stored: StoredEvent) -> None:
        """One more event. Raises LogCorrupt or UnknownEvent, naming the position."""
        self.position, self.at = Position(stored.position), Micros(stored.at)
        try:
            if stored.stream == DAEMON:
                self._take_daemons(stored)
            elif stored.type in LAST:
                del self.jobs[stored.stream]
                self.finished[LAST[stored.type]] += 1
            elif stored.type != "job.expired":
                self.jobs[stored.stream] = fold_in(self.jobs.get(stored.stream), log.from_row(stored))
        except KeyError:
            raise LogCorrupt(f"event {stored.position}: {stored.stream} is no unfinished job") from None
        except UnknownEvent as error:
            raise UnknownEvent(f"event {stored.position}: {error}") from error
        except ForemanError as error:
            raise LogCorrupt(f"event {stored.position}: {error}") from error

    def _take_daemons(self, stored: StoredEvent) -> None:
        at = Micros(stored.at)
        if stored.type == DaemonStarted.type:
            self.stopped_since = None
        elif stored.type == DaemonStopped.type:
            self.stopped_since = at
        elif stored.type == TargetDegraded.type:
            # A start that finds the target away says so once more.
            self.target_away_since = at if self.target_away_since is None else self.target_away_since
        elif stored.type == TargetRecovered.type:
            self.target_away_since = None


def moment(
    events: Iterable[StoredEvent], until: int | Micros, *, is_time: bool, told: Callable[[int], None] | None = None
) -> Moment:
    """The state after event `until`, or after the last event before the first one that is later than that time."""
    found, coming = Moment(), iter(events)
    for stored in coming:
        if (stored.at if is_time else stored.position) > until:
            if is_time and found.at is not None and found.stopped_since is None:
                found.died_before = _start_after_a_death(chain([stored], coming))
            break
        found.take(stored)
        if told is not None and stored.position % CHUNK == 0:
            told(stored.position)
    return found


def _start_after_a_death(events: Iterable[StoredEvent]) -> Micros | None:
    """When the daemon was started, if these events begin with what a start puts right; else it still lived."""
    for stored in events:
        event = CODEC.decode(stored.type, stored.data)
        if isinstance(event, DaemonStarted):
            return Micros(stored.at)
        is_put_right = (
            (isinstance(event, JobRequeued) and event.reason is RequeueReason.INTERRUPTED)
            or (isinstance(event, JobCancelled) and event.by is CancelledBy.RESTART)
            or (isinstance(event, JobFailed) and event.code == "interrupted_too_often")
        )
        if not is_put_right:
            return None
    return None


def parse_until(text: str, now: datetime) -> tuple[int, bool]:
    """What `--until` says: a position, or a time in microseconds; and whether it is a time. Raises RequestInvalid.

    A time of day is the last such before `now`. Without a zone a time is in that of `now`; if `now` has none, in this
    machine's, as its clocks stood on that day.
    """
    try:
        if text.isascii() and text.isdigit():
            return int(text), False
        if _TIME.fullmatch(text):
            found = _of_day(text, now)
        else:
            found = datetime.fromisoformat(text)
            found = found if found.tzinfo else found.replace(tzinfo=now.tzinfo)
        return Micros(round(found.timestamp() * 1_000_000)), True
    except (ValueError, OverflowError, OSError):
        raise RequestInvalid(
            f"{text!r} is no position (12345), time of day (14:02) or time (2026-11-22T14:02:00Z)"
        ) from None


def _of_day(text: str, now: datetime) -> datetime:
    hours, minutes, *rest = text.split(":")
    seconds = float(rest[0]) if rest else 0.0
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if int(hours) > 23 or int(minutes) > 59 or seconds >= 60:
        raise ValueError(text)
    found = midnight.replace(hour=int(hours), minute=int(minutes)) + timedelta(seconds=seconds)
    return found if found <= now else found - timedelta(days=1)
