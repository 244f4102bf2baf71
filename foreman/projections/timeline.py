"""The figures over time that people look at: the log folded into buckets of a minute and of an hour. A fold, no more.

Each width has a fixed number of places and a bucket stands at its time modulo that number, so a newer one takes the
place of the one that has become too old. What a wrong clock can spoil is thus the few buckets that it wrote to: no
leap, there or back, empties the rest or keeps later events out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, ClassVar, Final

import msgspec
import orjson

from foreman.clock import Micros
from foreman.events.daemon import ModelSwapped
from foreman.events.types import JobCancelled, JobDone, JobFailed, JobQueued, JobWorking, Position, Recorded, Whole

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
#: 24 hours of minutes, 30 days of hours.
MINUTES: Final = 24 * 60
HOURS: Final = 30 * 24
SECOND: Final = 1_000_000
NANOSECONDS: Final = 1_000_000_000
START: Final = Position(0)


@dataclass(slots=True)
class Bucket:
    """What happened within one stretch of time."""

    #: Which one since 1970, counted in its own width.
    number: int
    submitted: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    #: Runs that began, the seconds that their jobs had waited in all, and the longest of these waits.
    runs: int = 0
    wait_s: float = 0
    longest_wait_s: float = 0
    #: Of the jobs done. Floats, because what a target says may be beyond any integer of a snapshot's.
    prompt_tokens: float = 0
    generated_tokens: float = 0
    #: Seconds that the target says it spent on generating, and those from requests to the ends of their answers.
    generation_s: float = 0
    run_s: float = 0
    #: Models that were loaded for a job, and the seconds that it took.
    swaps: int = 0
    load_s: float = 0

    def add(self, other: Bucket) -> None:
        """Take in what happened within another stretch."""
        self.submitted += other.submitted
        self.done += other.done
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.runs += other.runs
        self.wait_s += other.wait_s
        self.longest_wait_s = max(self.longest_wait_s, other.longest_wait_s)
        self.prompt_tokens += other.prompt_tokens
        self.generated_tokens += other.generated_tokens
        self.generation_s += other.generation_s
        self.run_s += other.run_s
        self.swaps += other.swaps
        self.load_s += other.load_s


_row: Final = attrgetter(*(one.name for one in fields(Bucket)))
FIGURES: Final = len(fields(Bucket))


@dataclass(slots=True)
class Ring:
    """The buckets of one width: one for each stretch in which something happened, and no more than `places`."""

    width_s: int
    places: int
    buckets: dict[int, Bucket] = field(default_factory=dict)
    #: The one that was written to last: nearly always the one that is written to next.
    latest: Bucket | None = field(default=None, compare=False, repr=False)

    def at(self, moment: Micros) -> Bucket:
        """The bucket of a moment, to be written to."""
        number = moment // (self.width_s * SECOND)
        bucket = self.latest
        if bucket is None or bucket.number != number:
            bucket = self.latest = self._of(number)
        return bucket

    def _of(self, number: int) -> Bucket:
        place = number % self.places
        bucket = self.buckets.get(place)
        if bucket is None or bucket.number != number:
            bucket = self.buckets[place] = Bucket(number)
        return bucket

    def within(self, first: int, last: int) -> Iterator[Bucket]:
        """The buckets with these numbers, ends included, in order; those of empty stretches are not there."""
        for number in range(first, last + 1):
            bucket = self.buckets.get(number % self.places)
            if bucket is not None and bucket.number == number:
                yield bucket


@dataclass(slots=True)
class Timeline:
    """What happened when, as of `position`."""

    #: Part of the snapshot's key. A change of what is counted, or of a width, takes the next number.
    VERSION: ClassVar[int] = 1
    NAME: ClassVar[str] = "timeline"

    position: Position = START
    minutes: Ring = field(default_factory=lambda: Ring(MINUTE_S, MINUTES))
    hours: Ring = field(default_factory=lambda: Ring(HOUR_S, HOURS))

    def apply(self, recorded: Recorded) -> None:
        """Take one more event into account."""
        self.position, at, event = recorded.position, recorded.at, recorded.event
        rule = _RULES.get(type(event))
        if rule is not None:
            rule(self.minutes.at(at), event)
            rule(self.hours.at(at), event)

    def until(self, now: Micros, width_s: int, count: int) -> list[Bucket]:
        """So many buckets of that width, whole minutes or hours, the last one being that of now; none is left out.

        Exact for what is kept: the last 24 hours by minutes, the last 30 days by hours.
        """
        ring = self.minutes if width_s % HOUR_S else self.hours
        merged, last = width_s // ring.width_s, now // (width_s * SECOND)
        found = {number: Bucket(number) for number in range(last - count + 1, last + 1)}
        for bucket in ring.within((last - count + 1) * merged, (last + 1) * merged - 1):
            found[bucket.number // merged].add(bucket)
        return list(found.values())

    def dump(self) -> str:
        """The state as a snapshot's text."""
        rings = {name: list(map(_row, ring.buckets.values())) for name, ring in self._rings().items()}
        return orjson.dumps({"position": self.position, **rings}).decode()

    def _rings(self) -> dict[str, Ring]:
        return {"minutes": self.minutes, "hours": self.hours}


class _Stored(msgspec.Struct):
    """What `dump` writes: of each bucket its figures only, for there are two thousand of them."""

    position: Position
    minutes: list[list[Whole | float]]
    hours: list[list[Whole | float]]


_read: Final = msgspec.json.Decoder(_Stored).decode


def load(text: str) -> Timeline:
    """The state that `dump` wrote. Raises ValueError for anything else."""
    state = _read(text)
    timeline = Timeline(position=state.position)
    for ring, rows in ((timeline.minutes, state.minutes), (timeline.hours, state.hours)):
        ring.buckets = {bucket.number % ring.places: bucket for bucket in map(_bucket, rows)}
    return timeline


def _bucket(row: list[Any]) -> Bucket:
    if len(row) != FIGURES:
        raise ValueError(f"a bucket has {FIGURES} figures")
    return Bucket(*row)


def _queued(bucket: Bucket, event: JobQueued) -> None:
    bucket.submitted += 1


def _working(bucket: Bucket, event: JobWorking) -> None:
    bucket.runs += 1
    bucket.wait_s += event.waited_s
    bucket.longest_wait_s = max(bucket.longest_wait_s, event.waited_s)


def _done(bucket: Bucket, event: JobDone) -> None:
    bucket.done += 1
    # What a target says of itself must not take from what others have said.
    bucket.prompt_tokens += float(max(0, event.prompt_tokens or 0))
    bucket.generated_tokens += float(max(0, event.generated_tokens or 0))
    bucket.generation_s += max(0, event.eval_duration or 0) / NANOSECONDS
    bucket.run_s += event.run_s or 0


def _failed(bucket: Bucket, event: JobFailed) -> None:
    bucket.failed += 1


def _cancelled(bucket: Bucket, event: JobCancelled) -> None:
    bucket.cancelled += 1


def _swapped(bucket: Bucket, event: ModelSwapped) -> None:
    bucket.swaps += 1
    bucket.load_s += event.load_s


_RULES: Final[Mapping[type[Any], Callable[[Bucket, Any], None]]] = {
    JobQueued: _queued,
    JobWorking: _working,
    JobDone: _done,
    JobFailed: _failed,
    JobCancelled: _cancelled,
    ModelSwapped: _swapped,
}
