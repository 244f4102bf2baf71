"""Counts and averages over the whole log, small enough to keep in memory and in a snapshot. A fold, nothing more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

import orjson
from pydantic import TypeAdapter

from foreman.events.daemon import ModelSwapped
from foreman.events.types import JobCancelled, JobDone, JobFailed, JobQueued, JobWorking, Position, Recorded

#: Weight of the newest value in a running average: about the last ten count.
NEWEST: Final = 0.2
START: Final = Position(0)


@dataclass(slots=True)
class Statistics:
    """What has been measured so far, as of `position`."""

    #: Part of the snapshot's key: a snapshot of another version is dropped and the log folded anew.
    VERSION: ClassVar[int] = 1
    NAME: ClassVar[str] = "statistics"

    position: Position = START
    queued: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    #: Loads that the worker began for a job.
    swaps: int = 0
    #: Loads that serving strictly in order of arrival would have taken.
    swaps_in_order: int = 0
    last_arrived: str | None = None
    #: Seconds, running averages: a load per load key, the time between a job's start and its end.
    load_s: dict[str, float] = field(default_factory=dict)
    run_s: float | None = None

    def apply(self, recorded: Recorded) -> None:
        """Take one more event into account."""
        event = recorded.event
        self.position = recorded.position
        if isinstance(event, JobQueued):
            self.queued += 1
            self.swaps_in_order += event.load_key != self.last_arrived
            self.last_arrived = event.load_key
        elif isinstance(event, JobWorking):
            self.swaps += event.swapped
        elif isinstance(event, ModelSwapped):
            before = self.load_s.get(event.load_key)
            self.load_s[event.load_key] = _average(before, event.load_s)
        elif isinstance(event, JobDone):
            self.done += 1
            if event.run_s is not None:
                self.run_s = _average(self.run_s, event.run_s)
        elif isinstance(event, JobFailed):
            self.failed += 1
        elif isinstance(event, JobCancelled):
            self.cancelled += 1

    def typical_load_s(self, default: float) -> float:
        """Seconds that a load takes, over all models; `default` before the first."""
        return sum(self.load_s.values()) / len(self.load_s) if self.load_s else default

    def dump(self) -> str:
        """The state as a snapshot's text."""
        return orjson.dumps(self).decode()


_ADAPTER: Final = TypeAdapter(Statistics)


def load(text: str) -> Statistics:
    """The state that `dump` wrote."""
    return _ADAPTER.validate_json(text)


def _average(before: float | None, newest: float) -> float:
    return newest if before is None else before + NEWEST * (newest - before)
