"""The schedule of retries: each wait, its jitter, what a receiver may ask for, and when there is no next attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foreman.clock import Micros
from foreman.projections.outbox import Status
from foreman.webhooks.schedule import BACKOFF_S, DAY, JITTER, LONGEST_RETRY_AFTER_S, outcome, retry_after_s

NOW = Micros(1_800_000_000_000_000)
NOON = datetime.fromtimestamp(NOW / 1_000_000, UTC)
AFTER = {"ok": False, "status": 500, "failures": 0, "wait_s": None, "now": NOW, "chance": 0.0}
#: Pieces of dates and what looks like them.
PIECES = st.sampled_from(
    [*("Wed,", "21", "Oct", "2015", "07:28:00", "GMT", "-0000", "+9999", "0001", "99999999999"), *':-,()"\\ ²'],
)


def delay_s(**members) -> float:
    status, due = outcome(**(AFTER | members))
    assert status is Status.PENDING
    return (due - NOW) / 1_000_000


def test_the_waits_are_those_that_are_promised():
    assert BACKOFF_S == (1, 2, 4, 8, 16, 60, 300, 1_800, 7_200, 28_800, 46_800)
    assert sum(BACKOFF_S) == pytest.approx(DAY, rel=0.02)


@pytest.mark.parametrize(("failures", "least_s"), list(enumerate(BACKOFF_S)))
@given(chance=st.floats(0, 1, exclude_max=True))
@example(chance=0.0)
def test_each_wait_is_that_of_its_failure_and_at_most_a_fifth_longer(failures, least_s, chance):
    assert least_s <= delay_s(failures=failures, chance=chance) <= least_s * (1 + JITTER)


def test_chance_spreads_those_that_failed_together():
    assert delay_s(failures=5, chance=0.0) == 60
    assert delay_s(failures=5, chance=0.5) == 66


def test_the_twelfth_failure_is_the_last():
    assert delay_s(failures=len(BACKOFF_S) - 1) == 46_800
    assert outcome(**AFTER | {"failures": len(BACKOFF_S), "wait_s": 60.0}) == (Status.DEAD, NOW)


@pytest.mark.parametrize("failures", [0, len(BACKOFF_S)])
def test_what_was_taken_is_delivered_at_any_attempt(failures):
    assert outcome(**AFTER | {"ok": True, "status": 200, "failures": failures}) == (Status.DELIVERED, NOW)


def test_a_2xx_whose_reply_broke_off_is_tried_again():
    assert delay_s(status=200) == 1


@pytest.mark.parametrize("failures", [0, len(BACKOFF_S)])
def test_gone_is_the_end_at_any_attempt(failures):
    assert outcome(**AFTER | {"status": 410, "failures": failures, "wait_s": 60.0}) == (Status.GONE, NOW)


@pytest.mark.parametrize(
    ("asked_s", "waited_s"), [(None, 4), (0.0, 4), (3.0, 4), (5.0, 5), (DAY, DAY), (30.0 * DAY, DAY)]
)
def test_the_longer_of_schedule_and_request_is_waited_for_but_at_most_a_day(asked_s, waited_s):
    assert delay_s(failures=2, wait_s=asked_s) == waited_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("9" * 5_000, LONGEST_RETRY_AFTER_S),
        (format_datetime(NOON, usegmt=True), 0.0),
        ("Fri, 15 Jan 2027 08:01:30 GMT", 90.0),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90.0),
        ("Fri Jan 15 08:01:30 2027 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
    ids=["number", "blanks", "zero", "huge", "now", "date", "old-date", "other-order", "past"],
)
def test_a_number_of_seconds_or_a_date_is_understood(header, seconds):
    assert retry_after_s(header, NOW) == seconds


@pytest.mark.parametrize("header", [None, "", "-1", "+5", "1.5", "1e3", "soon", "²", "٣", "\udcff", "Fri, 32 Foo 2027"])
def test_what_is_neither_is_no_request(header):
    assert retry_after_s(header, NOW) is None


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=9).map("".join)))
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_whatever_is_asked_for_gives_seconds_or_nothing(header):
    seconds = retry_after_s(header, NOW)
    assert seconds is None or seconds >= 0
    assert delay_s(wait_s=seconds) <= DAY
