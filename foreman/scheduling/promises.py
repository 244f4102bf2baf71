"""How good past forecasts were: when each job was told that it would start, against when it did. In memory only."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from foreman.clock import seconds_between

if TYPE_CHECKING:
    from foreman.clock import Micros

#: Upper bounds of the error, as a part of the true wait; the last bucket is without one.
BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
#: Nobody asks how long a shorter wait will be, and as a part of it every error is large.
SHORTEST_WAIT_S: Final = 1.0
#: Jobs that a promise is kept of; of a longer queue the oldest are sample enough.
MOST_KEPT: Final = 10_000


@dataclass(slots=True)
class Promises:
    """The relative error of every ETA that has come due: a histogram, ready to be exported."""

    count: int = 0
    total: float = 0.0
    #: How many errors fell in each bucket, the one without a bound last; not cumulative.
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    _open: dict[str, tuple[Micros, float]] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether no more promises are kept for now."""
        return len(self._open) >= MOST_KEPT

    def make(self, job_id: str, at: Micros, starts_in_s: float) -> None:
        """A job was told this when it came."""
        self._open[job_id] = (at, starts_in_s)

    def started(self, job_id: str, at: Micros) -> None:
        """It has started: how far off was that?"""
        told = self._open.pop(job_id, None)
        if told is None:
            return
        waited_s = seconds_between(told[0], at)
        if max(waited_s, told[1]) < SHORTEST_WAIT_S:
            return
        error = abs(told[1] - waited_s) / max(waited_s, SHORTEST_WAIT_S)
        self.count += 1
        self.total += error
        self.counts[bisect_left(BUCKETS, error)] += 1

    def forget(self, job_id: str) -> None:
        """It will not start."""
        self._open.pop(job_id, None)
