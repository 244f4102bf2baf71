"""The rules of choosing, one decision at a time: given a queue and a moment, then this job or this reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections.queue import Queue, Waiting
from foreman.scheduling.scheduler import Occupancy, Policy, Reason, Start, Turn, Wait, choose

BATCH, INTERACTIVE = JobClass.BATCH, JobClass.INTERACTIVE
LOAD_S = 8.0
#: With the default share of 0.1: 8 s x (1 / 0.1 - 1).
TURN_S = 72.0
NOW_S = 10_000.0


def micros(seconds: float) -> Micros:
    return Micros(round(seconds * 1_000_000))


def job(
    order: int, load_key: str = "a", job_class: JobClass = BATCH, *, waited_s: float = 0, due_in_s: float | None = None
) -> Waiting:
    due = None if due_in_s is None else micros(NOW_S + due_in_s)
    return Waiting(f"{load_key}{order}", load_key, job_class, order, micros(NOW_S - waited_s), due)


def queue_of(*jobs: Waiting) -> Queue:
    queue = Queue()
    for one in jobs:
        queue.add(one)
    queue.settle(micros(NOW_S))
    return queue


def decide(*jobs: Waiting, policy: Policy | None = None, turn: Turn | None = None, now_s: float = NOW_S, **occupancy):
    return choose(
        queue_of(*jobs),
        policy=policy or Policy(),
        now=micros(now_s),
        turn=turn or Turn(),
        occupancy=Occupancy(**{"resident": "a", "load_s": LOAD_S} | occupancy),
    )


def turn_lasting(seconds: float, served=((("a", BATCH), (0, 0)), (("a", INTERACTIVE), (0, 0)))) -> Turn:
    """A turn of key `a` that began so long ago and served both classes, unless told otherwise."""
    return Turn(since=micros(NOW_S - seconds), served=dict(served))


def started(decision: Start | Wait) -> str:
    assert isinstance(decision, Start), decision
    return decision.job_id


def test_resident_key_drains_before_an_older_job_of_another():
    decision = decide(job(1, "b"), job(2, "a"))
    assert [started(decision), decision.swaps] == ["a2", False]


def test_drained_key_gives_way_with_a_swap():
    decision = decide(job(1, "b"))
    assert [started(decision), decision.swaps, decision.load_key] == ["b1", True, "b"]


def test_blocking_call_for_the_resident_model_overtakes_500_batch_jobs():
    batch = [job(order, waited_s=60) for order in range(1, 501)]
    assert started(decide(*batch, job(501, "a", INTERACTIVE))) == "a501"


def test_every_fourth_pick_is_a_batch_job_once_one_is_overdue():
    queue = queue_of(
        *(job(order, waited_s=700) for order in range(1, 4)), *(job(order, "a", INTERACTIVE) for order in range(10, 20))
    )
    turn, classes = Turn(), []
    for _ in range(9):
        occupancy = Occupancy(resident="a", load_s=LOAD_S)
        decision = choose(queue, policy=Policy(), now=micros(NOW_S), turn=turn, occupancy=occupancy)
        classes.append(queue.get(started(decision)).job_class)
        queue.remove(decision.job_id)
        turn = decision.turn
    assert classes == [*[INTERACTIVE] * 3, BATCH, *[INTERACTIVE] * 3, BATCH, INTERACTIVE]


def test_batch_job_that_is_not_overdue_gets_no_fourth_pick():
    assert started(decide(job(1, waited_s=599), job(2, "a", INTERACTIVE), turn=Turn(picks=9))) == "a2"


@pytest.mark.parametrize(("waited_s", "first"), [(15, "a1"), (15.1, "b2")], ids=["not-yet", "overdue"])
def test_turn_ends_only_when_somebody_else_is_overdue(waited_s, first):
    assert started(decide(job(1), job(2, "b", INTERACTIVE, waited_s=waited_s), turn=turn_lasting(500))) == first


@pytest.mark.parametrize(
    ("own", "rival", "turn_s"),
    [
        (job(2, "a", INTERACTIVE), job(1, "b", INTERACTIVE, waited_s=30), TURN_S),
        (job(1, "a", INTERACTIVE, waited_s=60), job(2, "b", INTERACTIVE, waited_s=30), 2 * TURN_S),
        (job(2, "a", BATCH), job(1, "b", INTERACTIVE, waited_s=30), TURN_S / 2),
        (job(2, "a", BATCH), job(1, "b", BATCH, waited_s=900), TURN_S),
    ],
    ids=["younger", "older", "only-batch-before-chat", "batch-before-batch"],
)
def test_turn_lasts_as_the_share_allows(own, rival, turn_s):
    assert started(decide(own, rival, turn=turn_lasting(turn_s - 0.1))) == own.job_id
    assert started(decide(own, rival, turn=turn_lasting(turn_s))) == rival.job_id


def test_share_of_one_swaps_at_once_for_an_overdue_job():
    policy = Policy(swap_share=1)
    assert started(decide(job(1, "b", waited_s=601), job(2), policy=policy, turn=turn_lasting(0))) == "b1"


def test_share_of_zero_never_swaps_while_the_resident_key_has_jobs():
    policy = Policy(swap_share=0)
    rival = job(1, "b", INTERACTIVE, waited_s=9_000)
    assert started(decide(rival, job(2), policy=policy, turn=turn_lasting(9_000))) == "a2"
    assert started(decide(rival, policy=policy)) == "b1"


def test_limit_of_zero_means_never_overdue():
    policy = Policy(max_wait_interactive_s=0, max_wait_batch_s=0, swap_share=1)
    rivals = job(1, "b", waited_s=9_000), job(2, "c", INTERACTIVE, waited_s=9_000)
    assert started(decide(*rivals, job(3), policy=policy, turn=turn_lasting(9_000))) == "a3"


def test_turn_nobody_began_starts_with_the_first_pick():
    decision = decide(job(1), job(2, "b", INTERACTIVE, waited_s=60), turn=Turn())
    assert [started(decision), decision.turn.since] == ["a1", micros(NOW_S)]


def test_turn_counts_from_the_end_of_its_load():
    decision = decide(job(1, "b"))
    assert decision.turn.since == micros(NOW_S + LOAD_S)
    assert decision.turn.loaded(micros(NOW_S + 11)).since == micros(NOW_S + 11)


@pytest.mark.parametrize(
    ("jobs", "first"),
    [
        ([job(1, "b"), job(2, "c", INTERACTIVE)], "c2"),
        ([job(1, "b"), job(2, "c")], "b1"),
        ([job(1, "b", waited_s=700), job(2, "c", INTERACTIVE, waited_s=20)], "c2"),
        ([job(1, "b", waited_s=700), job(2, "c", INTERACTIVE)], "b1"),
        ([job(1, "b", INTERACTIVE, waited_s=30), job(2, "c", INTERACTIVE, waited_s=20)], "b1"),
    ],
    ids=["chat-first", "oldest", "overdue-chat", "overdue-batch", "longest-overdue"],
)
def test_next_key_is_that_of(jobs, first):
    assert started(decide(*jobs)) == first


def test_every_fourth_turn_goes_to_an_overdue_batch_job():
    jobs = job(1, "b", waited_s=700), job(2, "c", INTERACTIVE, waited_s=20)
    assert started(decide(*jobs, turn=Turn(turns=2))) == "c2"
    decision = decide(*jobs, turn=Turn(turns=3))
    assert [started(decision), decision.turn.turns] == ["b1", 0]


def test_key_that_leaves_is_passed_over_only_in_the_line_it_was_served_from():
    jobs = job(1, "a", INTERACTIVE, waited_s=90), job(5, "c", INTERACTIVE, waited_s=20)
    decision = decide(*jobs, turn=turn_lasting(500, served={("a", BATCH): (4, 0)}.items()))
    assert [started(decision), decision.swaps, decision.turn.served["a", INTERACTIVE]] == ["a1", False, (5, 0)]
    assert started(decide(job(2, "a", INTERACTIVE, waited_s=80), jobs[1], turn=decision.turn)) == "c5"


def test_key_that_just_had_its_turn_stands_behind_one_that_waited_since():
    jobs = job(1, "b", INTERACTIVE, waited_s=90), job(5, "c", INTERACTIVE, waited_s=20)
    assert started(decide(*jobs)) == "b1"
    assert started(decide(*jobs, turn=Turn(served={("b", INTERACTIVE): (9, 4)}, number=5))) == "c5"


def test_lines_with_nothing_left_are_forgotten():
    turn = Turn(served={("gone", BATCH): (9, 4), ("c", BATCH): (9, 5)}, number=5)
    decision = decide(job(1, "b"), job(2, "c"), turn=turn)
    assert set(decision.turn.served) == {("b", BATCH), ("c", BATCH)}


def test_slots_fill_with_jobs_of_one_key_only():
    jobs = job(1, "b"), job(2, "a"), job(3, "b")
    policy = Policy(parallel=2)
    assert started(decide(*jobs, policy=policy, running=1, running_key="a")) == "a2"
    decision = decide(job(1, "b"), policy=policy, running=1, running_key="a")
    assert decision == Wait(reason=Reason.DRAINING)


def test_ended_turn_starts_nothing_more_until_its_jobs_finished():
    jobs = job(1, "b", INTERACTIVE, waited_s=60), job(2, "a")
    more = {"policy": Policy(parallel=2), "turn": turn_lasting(TURN_S)}
    assert decide(*jobs, running=1, running_key="a", **more) == Wait(reason=Reason.DRAINING)
    assert started(decide(*jobs, **more)) == "b1"


def test_full_slots_wait_for_an_event():
    decision = decide(job(1), job(2, due_in_s=5), policy=Policy(parallel=2), running=2, running_key="a")
    assert decision == Wait(reason=Reason.BUSY)


def test_empty_queue_waits_for_an_event():
    assert decide() == Wait(reason=Reason.EMPTY)


@pytest.mark.parametrize("running", [0, 1])
def test_backoff_is_waited_for_until_it_ends(running):
    decision = decide(job(1, due_in_s=5), policy=Policy(parallel=2), running=running, running_key="a" * running or None)
    assert [type(decision), decision.until] == [Wait, micros(NOW_S + 5)]


def test_backoff_does_not_hold_up_a_younger_job():
    assert started(decide(job(1, due_in_s=5), job(2))) == "a2"


def test_claimed_job_is_not_started_again():
    jobs = job(1, "a", INTERACTIVE), job(2, "a", INTERACTIVE)
    assert started(decide(*jobs, claimed={"a1"})) == "a2"
    assert decide(*jobs, claimed={"a1", "a2"}) == Wait(reason=Reason.EMPTY)


def test_claimed_job_ends_nobodys_turn_and_opens_none():
    jobs = job(1, "b", INTERACTIVE, waited_s=60), job(2, "a"), job(3, "b"), job(4, "c")
    assert started(decide(*jobs, claimed={"b1"}, turn=turn_lasting(500))) == "a2"
    assert started(decide(*jobs, claimed={"b1", "a2"}, turn=turn_lasting(500))) == "b3"


def test_unknown_resident_opens_a_turn_with_a_swap():
    decision = decide(job(1, "b"), job(2, "a", INTERACTIVE), resident=None)
    assert [started(decision), decision.swaps] == ["a2", True]


def test_clock_set_back_makes_nobody_overdue():
    jobs = job(1, "a"), job(2, "b", INTERACTIVE, waited_s=60)
    assert started(decide(*jobs, turn=turn_lasting(500), now_s=NOW_S - 3_600)) == "a1"


def test_job_dated_ahead_by_a_clock_set_back_holds_up_no_overdue_one():
    dated_ahead = job(1, "a", INTERACTIVE, waited_s=-3_600), job(2, "c", INTERACTIVE, waited_s=-3_600)
    decision = decide(*dated_ahead, job(3, "b", INTERACTIVE, waited_s=60), resident=None)
    assert started(decision) == "b3"


def test_choosing_changes_neither_queue_nor_turn():
    queue = queue_of(job(1, "a", waited_s=700), job(2, "b", INTERACTIVE, waited_s=60), job(3, due_in_s=1))
    before, turn = list(queue), turn_lasting(500)
    kept = replace(turn, served=dict(turn.served))
    occupancy = Occupancy(resident="a", load_s=LOAD_S)
    decisions = [choose(queue, policy=Policy(), now=micros(NOW_S), turn=turn, occupancy=occupancy) for _ in range(2)]
    assert decisions[0] == decisions[1]
    assert [list(queue), turn] == [before, kept]
