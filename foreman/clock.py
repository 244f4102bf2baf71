"""The time, as one replaceable object. Nothing else in the package reads the system clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final, NewType, Protocol

#: Microseconds since the Unix epoch, UTC. What events carry; never used for ordering, since wall clocks leap.
Micros = NewType("Micros", int)


class Clock(Protocol):
    """Wall time for records, monotonic time for waiting."""

    def now(self) -> Micros:
        """The wall time."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> Micros:
        """The wall time."""
        return Micros(time.time_ns() // 1_000)

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()


#: The first and the last moment that RFC 3339 can write.
FIRST: Final = Micros(-62_135_596_800_000_000)
LAST: Final = Micros(253_402_300_799_999_999)


def rfc3339(at: Micros) -> str:
    """`2026-11-22T14:02:10.123456Z`; always six fraction digits, so that texts sort as times do.

    A moment before the year 1 or after 9999, of which RFC 3339 knows nothing, is written as the nearest that it knows.
    """
    seconds, micros = divmod(min(max(at, FIRST), LAST), 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()}.{micros:06d}Z"


def seconds_between(start: Micros, end: Micros) -> float:
    """Seconds from `start` to `end`; never negative, since wall clocks leap back."""
    return max(0, end - start) / 1_000_000
