"""Places for deliveries: in all, for one receiver, and for the slow and the failing ones together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.webhooks.limits import FAILING_AFTER, HELD_S, PER_RECEIVER, REMEMBERED, SLOW_S, Limits

QUICK_S, LONG_S = SLOW_S, SLOW_S + 0.001
NAMES = st.sampled_from("abcdef")


def enter(limits: Limits, receiver: str, times: int = 1) -> int:
    """Begin so many deliveries, as long as they are admitted; how many were."""
    begun = 0
    while begun < times and limits.admits(receiver):
        limits.enter(receiver)
        begun += 1
    return begun


def quick(limits: Limits, *receivers: str) -> Limits:
    """The same, after an attempt at each of these was quick."""
    for receiver in receivers:
        limits.enter(receiver)
        limits.leave(receiver, QUICK_S)
    return limits


def slow(limits: Limits, *receivers: str) -> Limits:
    """The same, after an attempt at each of these took long."""
    for receiver in receivers:
        limits.enter(receiver)
        limits.leave(receiver, LONG_S)
    return limits


def failing(limits: Limits, *receivers: str, times: int = FAILING_AFTER) -> Limits:
    """The same, after each of these failed so often in a row."""
    for receiver in receivers * times:
        limits.enter(receiver)
        limits.leave(receiver, QUICK_S, failed=True)
    return limits


def test_one_receiver_has_four_places_and_another_its_own():
    limits = Limits(32)
    assert enter(limits, "a", 10) == PER_RECEIVER == 4
    assert limits.admits("b")
    limits.leave("a", QUICK_S)
    assert enter(limits, "a", 10) == 1


def test_no_more_begin_than_there_are_places_in_all():
    limits = quick(Limits(6), *"abc")
    assert [enter(limits, name, 4) for name in "abc"] == [4, 2, 0]
    assert limits.taken == 6
    limits.leave("a", QUICK_S)
    assert limits.admits("c")


def test_slow_receivers_share_half_of_the_places():
    limits = quick(slow(Limits(32), *"abcdefgh"), *"ijkl")
    assert [enter(limits, name, 4) for name in "abcdefgh"] == [4, 4, 4, 4, 0, 0, 0, 0]
    assert [enter(limits, name, 4) for name in "ijkl"] == [4, 4, 4, 4]


def test_forty_receivers_that_nobody_knows_leave_room_for_one_that_is_well():
    limits = quick(Limits(32), "well")
    assert sum(enter(limits, f"hangs {number}") for number in range(40)) == 16
    assert enter(limits, "well", 4) == 4


def test_a_receiver_that_nobody_knows_yet_shares_the_places_of_the_slow_ones():
    limits = slow(Limits(8), "slow")
    assert [enter(limits, name, 3) for name in ("slow", "new", "newer")] == [3, 1, 0]
    limits.leave("new", QUICK_S)
    assert [enter(limits, name, 4) for name in ("new", "newer")] == [4, 1]


@pytest.mark.parametrize("known", [quick, slow, failing], ids=lambda known: known.__name__)
def test_a_delivery_that_was_not_sent_says_nothing_of_its_receiver(known):
    limits, same = known(Limits(32), "a"), known(Limits(32), "a")
    for _ in range(3):
        limits.enter("a")
        limits.leave("a", None)
    for name in ("a", *"bcdefg"):
        assert enter(limits, name, 4) == enter(same, name, 4)
    assert (limits.held_s("a"), limits.taken) == (same.held_s("a"), same.taken)


def test_a_receiver_is_slow_until_an_attempt_is_not():
    limits = slow(Limits(2), "a", "b")
    assert [enter(limits, name) for name in "ab"] == [1, 0]
    limits.leave("a", QUICK_S)
    assert [enter(limits, name) for name in "ab"] == [1, 1]
    limits.leave("a", LONG_S)
    limits.leave("b", LONG_S)
    assert [enter(limits, name) for name in "ab"] == [1, 0]


def test_a_receiver_that_turns_slow_counts_with_all_that_is_under_way():
    limits = quick(slow(Limits(4), "b"), "a")
    assert enter(limits, "a", 3) == 3
    limits.leave("a", LONG_S)
    assert not limits.admits("b")
    limits.leave("a", QUICK_S)
    assert limits.admits("b")


def test_with_a_single_place_a_slow_receiver_is_still_told():
    assert slow(Limits(1), "a").admits("a")


def test_failing_receivers_are_tried_one_by_one_in_a_quarter_of_the_places():
    limits = quick(failing(Limits(32), *"abcdefghij"), *"klmnop")
    assert [enter(limits, name, 4) for name in "abcdefghij"] == [1] * 8 + [0, 0]
    assert [enter(limits, name, 4) for name in "klmnop"] == [4] * 6


def test_slow_and_failing_receivers_take_no_places_of_each_other():
    limits = quick(failing(slow(Limits(8), "a", "b"), "c", "d", "e"), "f", "g")
    assert [enter(limits, name, 4) for name in "abcde"] == [4, 0, 1, 1, 0]
    assert [enter(limits, name, 4) for name in "fg"] == [2, 0]


def test_a_receiver_is_failing_until_it_takes_a_delivery():
    limits = failing(Limits(32), "a", times=FAILING_AFTER - 1)
    assert (enter(limits, "a", 4), limits.held_s("a")) == (4, 0.0)
    for _ in range(4):
        limits.leave("a", QUICK_S, failed=True)
    assert (enter(limits, "a", 4), limits.held_s("a")) == (1, HELD_S)
    limits.leave("a", QUICK_S)
    assert (enter(limits, "a", 4), limits.held_s("a")) == (4, 0.0)


def test_so_many_quick_receivers_are_remembered_and_the_first_forgotten():
    limits = quick(slow(Limits(2), "slow"), *map(str, range(REMEMBERED + 1)))
    enter(limits, "slow")
    assert not limits.admits("0")
    assert limits.admits("1")


@given(
    st.integers(1, 12),
    st.lists(st.tuples(NAMES, st.sampled_from([None, QUICK_S, LONG_S]), st.booleans()), max_size=80),
    st.lists(NAMES, max_size=3),
    st.lists(NAMES, max_size=3),
)
def test_no_limit_is_ever_passed_and_every_place_comes_back(limit, steps, were_slow, were_failing):
    limits, busy = failing(slow(Limits(limit), *were_slow), *were_failing), []
    for receiver, took_s, failed in steps:
        if took_s is None:
            busy += [receiver] * enter(limits, receiver)
        elif receiver in busy:
            busy.remove(receiver)
            limits.leave(receiver, took_s, failed=failed)
        assert limits.taken == len(busy) <= limit
        assert all(busy.count(name) <= PER_RECEIVER for name in busy)
    for receiver in busy:
        limits.leave(receiver, QUICK_S)
    assert limits.taken == 0
    assert enter(limits, "new", 4) == min(max(1, limit // 2), PER_RECEIVER)
