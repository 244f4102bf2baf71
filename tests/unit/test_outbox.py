"""The outbox in memory: lanes in order, receivers side by side, and who is due when."""

from __future__ import annotations

import pytest

from foreman.clock import Micros
from foreman.events.types import Position
from foreman.projections.outbox import (
    FARTHEST,
    SAMPLED,
    Attempt,
    Attempted,
    Dropped,
    Outbox,
    Pending,
    Revived,
    Status,
    Told,
)
from tests.core import assert_in_line, lanes_of

NOW = Micros(1_000)
MADE = Attempt(at=NOW, duration=1, error="no")


def anybody(_receiver: str) -> bool:
    return True


def told(job_id: str, position: int, receiver: str = "r:80") -> Told:
    """One more event each microsecond."""
    at = Micros(position)
    return Told(job_id=job_id, position=Position(position), version=1, receiver=receiver, state="queued", at=at)


def attempted(job_id: str, position: int, status: Status = Status.DELIVERED, due: int = 0) -> Attempted:
    return Attempted(job_id=job_id, position=Position(position), attempt=MADE, status=status, due=Micros(due))


def revived(job_id: str, *positions: int, receiver: str = "r:80") -> Revived:
    return Revived(job_id=job_id, receiver=receiver, positions=tuple(map(Position, positions)), at=NOW)


def outbox_after(*changes) -> Outbox:
    outbox = Outbox()
    for change in changes:
        outbox.apply(change)
    assert_in_line(outbox)
    return outbox


def taken(outbox: Outbox, now: int = NOW, admits=anybody) -> list[tuple[str, int]]:
    """Everything that may be begun now: job and position, in the order in which it is given out."""
    found = []
    while (lane := outbox.take(Micros(now), admits)) is not None:
        found.append((lane.job_id, lane.head.position))
        assert_in_line(outbox)
    return found


def test_lanes_are_given_out_in_the_order_of_their_events_and_each_once():
    outbox = outbox_after(told("B", 1), told("A", 2), told("B", 3), told("C", 4, "other:80"))
    assert taken(outbox) == [("B", 1), ("A", 2), ("C", 4)]
    assert outbox.pending == 4


def test_next_of_a_lane_is_given_out_only_when_the_one_before_it_has_ended():
    outbox = outbox_after(told("A", 1), told("A", 2))
    assert taken(outbox) == [("A", 1)]
    outbox.apply(told("A", 3))
    assert taken(outbox) == []
    outbox.apply(attempted("A", 1))
    assert taken(outbox) == [("A", 2)]


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.DEAD, Status.GONE])
def test_lane_whose_last_delivery_has_ended_is_over(status):
    outbox = outbox_after(told("A", 1), attempted("A", 1, status))
    assert (outbox.lanes, outbox.pending, outbox.next_due(anybody)) == ({}, 0, None)


def test_failed_attempt_holds_its_lane_until_it_is_due_again():
    outbox = outbox_after(told("A", 1), told("A", 2), attempted("A", 1, Status.PENDING, due=5_000))
    assert (taken(outbox, 4_999), outbox.next_due(anybody)) == ([], 5_000)
    assert taken(outbox, 5_000) == [("A", 1)]
    assert outbox.lanes["A"].head.failures == 1


def test_lane_that_waits_for_its_time_holds_no_other_of_its_receiver():
    outbox = outbox_after(told("A", 1), told("B", 2), attempted("A", 1, Status.PENDING, due=5_000))
    assert taken(outbox) == [("B", 2)]
    assert outbox.next_due(anybody) == 5_000


def test_longest_due_goes_first_whatever_its_age():
    outbox = outbox_after(
        told("A", 1), told("B", 2), told("C", 3),
        attempted("A", 1, Status.PENDING, due=900), attempted("B", 2, Status.PENDING, due=800),
    )  # fmt: skip
    assert taken(outbox) == [("C", 3), ("B", 2), ("A", 1)]


def test_overdue_retry_goes_before_whatever_was_told_since_it_was_due():
    outbox = outbox_after(told("A", 1), attempted("A", 1, Status.PENDING, due=500))
    for position in range(501, 600):
        outbox.apply(told(f"B{position}", position))
    assert taken(outbox)[0] == ("A", 1)


def test_what_has_not_failed_waits_for_no_clock():
    outbox = outbox_after(told("A", NOW + 9_000), told("B", NOW + 9_001), revived("B", 7))
    assert taken(outbox, NOW - 500) == [("B", 7), ("A", NOW + 9_000)]


def test_wait_that_ends_farther_off_than_any_would_was_reckoned_by_another_clock():
    due = 10 * 365 * 24 * 3_600 * 1_000_000
    outbox = outbox_after(told("A", 1), attempted("A", 1, Status.PENDING, due=due))
    assert taken(outbox, due - FARTHEST) == []
    assert taken(outbox, due - FARTHEST - 1) == [("A", 1)]


@pytest.mark.parametrize("under_way", [False, True])
def test_gone_ends_the_later_ones_of_its_lane_with_it(under_way):
    outbox = outbox_after(told("A", 1), told("A", 2), told("B", 3), told("A", 4))
    if under_way:
        assert outbox.take(NOW, anybody).job_id == "A"
    outbox.apply(attempted("A", 1, Status.GONE))
    assert (set(outbox.lanes), outbox.pending) == ({"B"}, 1)
    assert taken(outbox) == [("B", 3)]


def test_gone_leaves_those_that_come_before_it():
    outbox = outbox_after(told("A", 2), told("A", 3), revived("A", 1), attempted("A", 2, Status.GONE))
    assert [item.position for item in outbox.lanes["A"].pending] == [1]


def test_receiver_that_is_not_admitted_is_passed_over_with_all_of_its_lanes():
    outbox = outbox_after(told("A", 1, "slow:80"), told("B", 2, "slow:80"), told("C", 3, "fast:80"))
    assert outbox.next_due(lambda receiver: receiver == "slow:80") == 1
    assert taken(outbox, admits=lambda receiver: receiver == "fast:80") == [("C", 3)]
    assert taken(outbox, admits=lambda _receiver: False) == []
    assert outbox.next_due(lambda receiver: receiver == "fast:80") is None
    assert taken(outbox) == [("A", 1), ("B", 2)]


def test_revived_delivery_goes_before_the_later_ones_of_its_lane_and_begins_anew():
    outbox = outbox_after(told("A", 5), attempted("A", 5, Status.PENDING, due=9_000), revived("A", 4, 2))
    assert [item.position for item in outbox.lanes["A"].pending] == [2, 4, 5]
    assert (outbox.pending, outbox.lanes["A"].head.failures) == (3, 0)
    assert taken(outbox) == [("A", 2)]


def test_delivery_that_waits_is_begun_anew_at_once():
    outbox = outbox_after(told("A", 1), told("A", 2), attempted("A", 1, Status.PENDING, due=9_000), revived("A", 1))
    assert lanes_of(outbox) == {"A": ("r:80", [(1, NOW, 0), (2, 2, 0)])}
    assert (taken(outbox), outbox.pending) == ([("A", 1)], 2)


def test_delivery_that_is_begun_anew_while_it_is_under_way_is_still_one():
    outbox = outbox_after(told("A", 1))
    assert taken(outbox) == [("A", 1)]
    outbox.apply(revived("A", 1))
    assert taken(outbox) == []
    outbox.apply(attempted("A", 1))
    assert (outbox.lanes, outbox.pending) == ({}, 0)


def test_revival_makes_a_lane_of_its_own_if_none_is_left():
    outbox = outbox_after(told("A", 1), attempted("A", 1), revived("A", 1))
    assert taken(outbox) == [("A", 1)]


def test_revival_before_the_one_that_is_under_way_waits_for_it():
    outbox = outbox_after(told("A", 5))
    assert taken(outbox) == [("A", 5)]
    outbox.apply(revived("A", 2))
    assert taken(outbox) == []
    outbox.apply(attempted("A", 5))
    assert taken(outbox) == [("A", 2)]


@pytest.mark.parametrize("under_way", [False, True])
def test_dropped_lane_is_gone_and_what_comes_of_its_attempt_changes_nothing(under_way):
    outbox = outbox_after(told("A", 1), told("A", 2), told("B", 3))
    if under_way:
        assert outbox.take(NOW, anybody).job_id == "A"
    outbox.apply(Dropped(job_id="A"))
    assert_in_line(outbox)
    assert (set(outbox.lanes), outbox.pending) == ({"B"}, 1)
    for status in Status:
        outbox.apply(attempted("A", 1, status, due=1))
    assert_in_line(outbox)
    assert taken(outbox) == [("B", 3)]


def test_outcome_of_what_is_not_pending_changes_no_other():
    outbox = outbox_after(told("A", 1), told("A", 2), attempted("A", 1), attempted("A", 1))
    assert (lanes_of(outbox), outbox.pending) == ({"A": ("r:80", [(2, 2, 0)])}, 1)


def test_dropping_a_job_that_has_nothing_pending_changes_nothing():
    outbox = outbox_after(told("A", 1), Dropped(job_id="B"))
    assert (set(outbox.lanes), outbox.pending) == ({"A"}, 1)


def test_rows_make_the_outbox_that_their_changes_made():
    changed = outbox_after(
        told("A", 1), told("B", 2, "other:80"), told("A", 3), attempted("A", 1, Status.PENDING, due=7)
    )
    rows = [("A", "r:80", Pending(Position(1), Micros(7), 1)), ("B", "other:80", Pending(Position(2), Micros(2))),
            ("A", "r:80", Pending(Position(3), Micros(3)))]  # fmt: skip
    stored = Outbox.of(rows)
    assert_in_line(stored)
    assert (lanes_of(stored), stored.pending) == (lanes_of(changed), changed.pending)
    assert taken(stored) == taken(changed) == [("B", 2), ("A", 1)]


def test_empty_outbox_has_nothing_to_give():
    assert (Outbox().take(NOW, anybody), Outbox().next_due(anybody)) == (None, None)


def test_pending_deliveries_are_counted_by_receiver():
    outbox = outbox_after(told("A", 1), told("B", 2, "other:80"), told("A", 3), attempted("A", 1))
    assert outbox.pending_of == {"r:80": 1, "other:80": 1}
    outbox.apply(Dropped(job_id="B"))
    assert outbox.pending_of == {"r:80": 1}


def test_sample_of_a_receiver_is_the_head_of_each_lane_those_under_way_too():
    outbox = outbox_after(told("A", 1), told("A", 2), told("B", 3), told("C", 4, "other:80"), told("D", 5))
    assert outbox.sample("r:80") == [1, 3, 5]
    outbox.take(NOW, "r:80".__eq__)
    assert outbox.sample("r:80") == [1, 3, 5]
    assert (outbox.sample("other:80"), outbox.sample("nobody:80")) == ([4], [])


def test_sample_of_many_lanes_has_those_due_first_and_last_and_none_twice():
    outbox = outbox_after(*(told(f"J{number}", number) for number in range(1, 3 * SAMPLED + 1)))
    assert outbox.sample("r:80") == [*range(1, SAMPLED + 1), *range(2 * SAMPLED + 1, 3 * SAMPLED + 1)]
    outbox.apply(attempted("J1", 1, Status.PENDING, due=10**9))
    assert outbox.sample("r:80")[-1] == 1
