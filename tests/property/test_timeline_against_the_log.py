"""Whatever happens, and whatever the clock does: the timeline equals its query over the log, from any snapshot on."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from foreman.api.statistics import WINDOWS
from foreman.clock import Micros
from foreman.events.types import Recorded
from foreman.projections import timeline
from foreman.projections.timeline import Timeline
from tests import reckoning
from tests.property.test_tally_against_the_log import logs

SECOND = 1_000_000
START = 1_700_000_000
DAY = 86_400
#: Seconds from the latest time so far; those back are of a clock that was put right.
STEPS = st.sampled_from(
    [0, 0, 1, 7, 59, 60, 61, 600, 3_600, DAY - 60, DAY, 26 * 3_600, 29 * DAY, 31 * DAY, -59, -3_599]
)
#: Leaps of a clock that nobody has set.
LEAPS = st.sampled_from([0, 1, 60, DAY, -DAY, 30 * DAY, -30 * DAY, 400 * DAY, -400 * DAY, -START])


@st.composite
def timed(draw, steps=STEPS, leaping: bool = False) -> list[Recorded]:
    """A log whose events are these steps apart: each from the latest so far, or by a leaping clock from the last."""
    since, made = START * SECOND, []
    for item in draw(logs()):
        at = Micros(max(0, since + draw(steps) * SECOND))
        since = at if leaping else max(since, at)
        made.append(replace(item, at=at))
    return made


def fold(events: list[Recorded], snapshots: list[int]) -> Timeline:
    """The fold, put away and taken up again after each of these numbers of events."""
    state = Timeline()
    for number, item in enumerate(events, 1):
        state.apply(item)
        if number in snapshots:
            state = timeline.load(state.dump())
    return state


@given(timed(), st.lists(st.integers(1, 120), max_size=4))
def test_every_window_equals_its_query_over_any_log(events, snapshots):
    state = fold(events, snapshots)
    assert state == fold(events, [])
    now = max(item.at for item in events)
    for width_s, count in WINDOWS.values():
        last = now // (width_s * SECOND)
        expected = reckoning.over_time(events, width_s, last - count + 1, last)
        for bucket in state.until(now, width_s, count):
            number, *figures = astuple(bucket)
            assert figures == pytest.approx(expected.pop(number, (0,) * len(figures)))
        assert not expected


@given(timed(LEAPS, leaping=True), st.lists(st.integers(1, 120), max_size=4))
def test_no_leap_of_the_clock_breaks_the_fold_or_makes_it_grow(events, snapshots):
    state = fold(events, snapshots)
    assert state == fold(events, [])
    last = events[-1].at
    for ring in (state.minutes, state.hours):
        assert len(ring.buckets) <= ring.places
        assert all(bucket.number % ring.places == place for place, bucket in ring.buckets.items())
    for width_s, count in WINDOWS.values():
        now = last // (width_s * SECOND)
        # A leap may have taken some buckets, but makes none up.
        expected = reckoning.over_time(events, width_s, now - count + 1, now)
        for bucket in state.until(last, width_s, count):
            number, *figures = astuple(bucket)
            known = expected.get(number, (0,) * len(figures))
            assert all(figure <= most + 1e-6 * abs(most) for figure, most in zip(figures, known, strict=True))
