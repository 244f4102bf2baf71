"""How the commands write what the daemon says: its times in this machine's zone, and nothing else changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from foreman.cli import words


@pytest.mark.parametrize("ahead", [timedelta(minutes=-5), timedelta(0), timedelta(hours=3), timedelta(hours=22)])
def test_a_time_to_come_is_told_as_this_machines_clock_will_show_it(ahead):
    at = (datetime.now(UTC) + ahead).replace(microsecond=0)
    told = f"after qwen3, whose turn ends by {at:%H:%M:%S} UTC"
    expected = words.clock(at)
    assert words.local(told).removeprefix("after qwen3, whose turn ends by ")[-8:] == expected[-8:]
    if ahead > timedelta(0):
        assert words.local(told) == f"after qwen3, whose turn ends by {expected}"


def test_a_time_with_a_date_keeps_it():
    at = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert words.local("waits for its retry at 2031-05-06 07:08:09 UTC") == f"waits for its retry at {words.clock(at)}"


@pytest.mark.parametrize(
    "text", ["", "1st of 2 for a, which is loaded next", "at 99:00:00 UTC", "0000-13-40 10:00:00 UTC"]
)
def test_what_holds_no_time_stays_as_it_is(text):
    assert words.local(text) == text
