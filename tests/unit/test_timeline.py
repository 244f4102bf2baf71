"""The timeline: what happened in each minute and hour, for as long as it is kept and whatever the clock does."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.events.types import DAEMON, Event, Position, Recorded
from foreman.projections import timeline
from foreman.projections.timeline import HOUR_S, HOURS, MINUTE_S, MINUTES, Bucket, Timeline
from tests.core import CANCELLED, DONE, EXPIRED, FAILED, LOADING, QUEUED, REQUEUED, SAMPLES, SWAPPED, WORKING

SECOND = 1_000_000
#: The beginning of a day.
DAY = 20_000 * 86_400


def folded(*happened: tuple[float, Event], state: Timeline | None = None) -> Timeline:
    """The fold of events at so many seconds from the beginning of the day."""
    state = state or Timeline()
    for seconds, event in happened:
        position, at = Position(state.position + 1), Micros(round((DAY + seconds) * SECOND))
        stream = "J" if event.type.startswith("job.") else DAEMON
        state.apply(Recorded(position=position, stream=stream, version=1, at=at, hash=b"", event=event))
    return state


def shown(state: Timeline, now_s: float, width_s: int = MINUTE_S, count: int = 60) -> list[Bucket]:
    return state.until(Micros(round((DAY + now_s) * SECOND)), width_s, count)


def test_each_event_is_counted_in_its_own_minute_and_hour():
    run = replace(DONE, prompt_tokens=7, generated_tokens=9, eval_duration=1_500_000_000, run_s=2.5)
    state = folded(
        (0, QUEUED), (1, QUEUED), (2, LOADING), (3, SWAPPED), (3, WORKING), (59.999999, replace(WORKING, waited_s=4.0)),
        (60, run), (61, FAILED), (62, CANCELLED), (63, REQUEUED), (64, EXPIRED),
    )  # fmt: skip
    minute, hour = DAY // MINUTE_S, DAY // HOUR_S
    first = {"submitted": 2, "runs": 2, "wait_s": 4.5, "longest_wait_s": 4.0, "swaps": 1, "load_s": 3.0}
    second = {"done": 1, "failed": 1, "cancelled": 1, "prompt_tokens": 7, "generated_tokens": 9}
    second |= {"generation_s": 1.5, "run_s": 2.5}
    assert shown(state, 119, count=2) == [Bucket(minute, **first), Bucket(minute + 1, **second)]
    assert shown(state, 119, HOUR_S, 1) == [Bucket(hour, **first, **second)]


def test_events_of_which_nothing_is_shown_leave_no_bucket():
    others = [event for event in SAMPLES if type(event) not in {type(one) for one in (
        QUEUED, WORKING, DONE, FAILED, CANCELLED, SWAPPED)}]  # fmt: skip
    state = folded(*((number, event) for number, event in enumerate(others)))
    assert (len(others), state.position) == (8, 8)
    assert not state.minutes.buckets
    assert not state.hours.buckets


@pytest.mark.parametrize(("width_s", "count"), [(60, 60), (300, 72), (600, 144), (3_600, 168), (21_600, 120)])
def test_wider_buckets_hold_what_the_narrow_ones_within_them_held(width_s, count):
    times = [*range(0, 3_600, 61), *range(3_600, 86_400, 997), *range(86_400, 30 * 86_400, 54_321)]
    state = folded(*((seconds, event) for seconds in times for event in (QUEUED, WORKING, DONE, SWAPPED)))
    now = times[-1]
    buckets = shown(state, now, width_s, count)
    last = (DAY + now) // width_s
    assert [bucket.number for bucket in buckets] == list(range(last - count + 1, last + 1))
    within = [(DAY + seconds) // width_s for seconds in times]
    assert [bucket.submitted for bucket in buckets] == [within.count(bucket.number) for bucket in buckets]
    assert all(bucket.done == bucket.runs == bucket.swaps == bucket.submitted for bucket in buckets)
    assert all(bucket.wait_s == pytest.approx(bucket.runs * 0.5) for bucket in buckets)
    assert all(bucket.longest_wait_s == (0.5 if bucket.runs else 0) for bucket in buckets)
    assert all(bucket.run_s == pytest.approx(bucket.done * 2.0) for bucket in buckets)


def test_merging_adds_every_figure_but_the_longest_wait():
    one, other = Bucket(1, *range(1, 14)), Bucket(2, *range(101, 114))
    one.add(other)
    assert one == dataclasses.replace(Bucket(1, *range(102, 128, 2)), longest_wait_s=other.longest_wait_s)


def test_no_more_is_kept_than_a_day_of_minutes_and_a_month_of_hours():
    state = folded(*((seconds, QUEUED) for seconds in range(0, 60 * 86_400, 55)))
    assert (len(state.minutes.buckets), len(state.hours.buckets)) == (MINUTES, HOURS)
    now = 60 * 86_400 - 1
    assert sum(bucket.submitted for bucket in shown(state, now, count=MINUTES)) == len(range(59 * 86_400, now, 55))
    assert sum(bucket.submitted for bucket in shown(state, now, HOUR_S, HOURS)) >= 30 * 86_400 // 55


def test_what_is_too_old_is_not_shown_though_nothing_has_come_since():
    state = folded((0, QUEUED))
    assert [sum(bucket.submitted for bucket in shown(state, now)) for now in (0, 3_599, 3_600, 86_400)] == [1, 1, 0, 0]


def test_clock_put_back_counts_in_the_time_that_it_says():
    state = folded((7_200, QUEUED), (3_600, QUEUED), (3_601, DONE), (7_201, DONE))
    assert [(bucket.submitted, bucket.done) for bucket in shown(state, 7_201, HOUR_S, 3)] == [(0, 0), (1, 1), (1, 1)]


@pytest.mark.parametrize("leap_s", [365 * 86_400, 86_400, -86_400, -365 * 86_400, -DAY])
def test_leap_of_the_clock_spoils_nothing_but_the_buckets_it_wrote_to(leap_s):
    before = [(seconds, QUEUED) for seconds in range(0, 1_800, 60)]
    after = [(seconds, QUEUED) for seconds in range(1_800, 3_600, 60)]
    state = folded(*before, (1_799 + leap_s, QUEUED), *after)
    numbers = [bucket.submitted for bucket in shown(state, 3_599)]
    # The minute in which it leapt may have had to make room.
    assert numbers[:29] + numbers[30:] == [1] * 59


def test_snapshot_comes_back_as_it_was_and_folds_on_alike():
    state = folded(*((seconds, event) for seconds in range(0, 200_000, 777) for event in (QUEUED, WORKING, DONE)))
    loaded = timeline.load(state.dump())
    assert loaded == state
    more = ((200_000, QUEUED), (100_000, DONE), (400_000, WORKING))
    assert folded(*more, state=loaded) == folded(*more, state=state)


def test_snapshot_of_a_full_timeline_is_small():
    run = replace(DONE, prompt_tokens=123_456, generated_tokens=98_765, eval_duration=1_234_567_891, run_s=3.456789)
    events = (QUEUED, replace(WORKING, waited_s=123.456789), run, SWAPPED)
    state = folded(*((seconds, event) for seconds in range(0, 31 * 86_400, 59) for event in events))
    assert len(state.minutes.buckets) + len(state.hours.buckets) == MINUTES + HOURS
    assert len(state.dump()) < 400_000


def test_figures_that_no_target_could_reach_are_kept_and_negative_ones_left_out():
    huge = replace(DONE, prompt_tokens=2**63 - 1, generated_tokens=2**63 - 1, eval_duration=2**63 - 1)
    low = replace(DONE, prompt_tokens=-5, generated_tokens=-1, eval_duration=-9)
    state = folded((0, huge), (1, low), (2, huge))
    assert timeline.load(state.dump()) == state
    assert shown(state, 0)[-1].generated_tokens == float(2**64)
