"""Times as text and as spans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from foreman.clock import FIRST, LAST, Micros, SystemClock, rfc3339, seconds_between


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (1_795_356_130_123_456, "2026-11-22T14:02:10.123456Z"),
        (1_795_356_130_000_000, "2026-11-22T14:02:10.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (FIRST, "0001-01-01T00:00:00.000000Z"),
        (LAST, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_time_is_written_with_six_digits_in_utc(at, text):
    assert rfc3339(Micros(at)) == text
    assert datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(microseconds=at)


@pytest.mark.parametrize(
    ("at", "nearest"), [(-(2**63), FIRST), (FIRST - 1, FIRST), (LAST + 1, LAST), (2**63 - 1, LAST)]
)
def test_time_that_cannot_be_written_is_the_nearest_that_can(at, nearest):
    assert rfc3339(Micros(at)) == rfc3339(nearest)


@pytest.mark.parametrize(("start", "end", "seconds"), [(0, 1_500_000, 1.5), (5, 5, 0), (9_000_000, 1, 0)])
def test_span_is_never_negative(start, end, seconds):
    assert seconds_between(Micros(start), Micros(end)) == seconds


def test_system_clock_tells_the_time_in_microseconds():
    clock = SystemClock()
    before = datetime.now(UTC).timestamp()
    assert before - 1 <= clock.now() / 1_000_000 <= datetime.now(UTC).timestamp() + 1
    assert clock.monotonic() <= clock.monotonic()
