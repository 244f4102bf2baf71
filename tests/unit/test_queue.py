"""The queue's order, its backoffs, the place it tells, and what a waiting job costs."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections.queue import Queue, Waiting
from foreman.scheduling.scheduler import Occupancy, Policy, Start, Turn, choose

BATCH, INTERACTIVE = JobClass.BATCH, JobClass.INTERACTIVE


def job(order: int, load_key: str = "a", job_class: JobClass = BATCH, not_before: int | None = None) -> Waiting:
    due = None if not_before is None else Micros(not_before)
    return Waiting(f"job-{order}", load_key, job_class, order, Micros(order), due)


def queue_of(*jobs: Waiting) -> Queue:
    queue = Queue()
    for one in jobs:
        queue.add(one)
    return queue


def order_of(entry: Waiting | None) -> int | None:
    return entry.order if entry else None


def test_oldest_is_by_log_position_not_by_arrival_or_wall_time():
    queue = queue_of(replace(job(7), queued_at=Micros(1)), replace(job(3), queued_at=Micros(900)))
    assert order_of(queue.oldest("a", BATCH)) == 3


def test_job_in_backoff_blocks_nobody():
    queue = queue_of(job(1, not_before=100), job(2))
    assert order_of(queue.oldest("a", BATCH)) == 2


def test_job_returns_from_backoff_to_its_old_place():
    queue = queue_of(job(1, not_before=100), job(2))
    assert queue.settle(Micros(99)) == 0
    assert queue.settle(Micros(100)) == 1
    assert [order_of(queue.oldest("a", BATCH)), queue.next_due, len(queue)] == [1, None, 2]


def test_job_cancelled_in_backoff_never_returns():
    queue = queue_of(job(1, not_before=100))
    assert queue.next_due == 100
    assert queue.remove("job-1")
    assert [queue.next_due, queue.settle(Micros(200)), len(queue), set(queue.load_keys)] == [None, 0, 0, set()]


def test_unknown_job_is_not_removed():
    assert not queue_of(job(1)).remove("job-2")


def test_job_added_again_is_replaced():
    queue = queue_of(job(1), job(1, not_before=50))
    assert [len(queue), queue.count("a"), queue.count_resting("a")] == [1, 0, 1]


def test_oldest_steps_over_the_claimed():
    queue = queue_of(job(1), job(2))
    assert order_of(queue.oldest("a", BATCH, {"job-1"})) == 2


def test_load_key_is_held_once_however_often_it_is_spelled():
    queue = queue_of(*(job(order, load_key="".join(["mo", "del"])) for order in range(1, 4)))
    assert len({id(entry.load_key) for entry in queue}) == 1


class Naive:
    """The same promises, kept by scanning."""

    def __init__(self) -> None:
        self.jobs: dict[str, Waiting] = {}

    def ready(self, load_key: str, job_class: JobClass) -> list[int]:
        lane = (load_key, job_class, None)
        return sorted(one.order for one in self.jobs.values() if (one.load_key, one.job_class, one.not_before) == lane)

    def settle(self, now: int) -> None:
        for one in list(self.jobs.values()):
            if one.not_before is not None and one.not_before <= now:
                self.jobs[one.job_id] = replace(one, not_before=None)


KEYS = ["a", "b", "c"]
JOBS = st.builds(
    job,
    st.integers(1, 30),
    st.sampled_from(KEYS),
    st.sampled_from(list(JobClass)),
    st.one_of(st.none(), st.integers(1, 20)),
)
STEPS = st.lists(st.one_of(JOBS, st.integers(-30, -1), st.integers(0, 20)), max_size=60)


@given(STEPS)
def test_queue_agrees_with_a_scan_after_any_history(steps):
    queue, naive = Queue(), Naive()
    for step in steps:
        if isinstance(step, Waiting):
            queue.add(step)
            naive.jobs[step.job_id] = step
        elif step < 0:
            assert queue.remove(f"job-{-step}") == (naive.jobs.pop(f"job-{-step}", None) is not None)
        else:
            queue.settle(Micros(step))
            naive.settle(step)
        for job_class in JobClass:
            lanes = {key: naive.ready(key, job_class) for key in KEYS}
            assert [queue.count(key, job_class) for key in KEYS] == [len(lanes[key]) for key in KEYS]
            assert [order_of(queue.oldest(key, job_class)) for key in KEYS] == [
                min(lanes[k], default=None) for k in KEYS
            ]
            assert [one.order for one in queue.heads(job_class)] == sorted(lane[0] for lane in lanes.values() if lane)
        assert set(queue.load_keys) == {one.load_key for one in naive.jobs.values()}
        assert {one.job_id: one for one in queue} == naive.jobs
        resting = [one.load_key for one in naive.jobs.values() if one.not_before is not None]
        assert [queue.count_resting(key) for key in KEYS] == [resting.count(key) for key in KEYS]
        due = [one.not_before for one in naive.jobs.values() if one.not_before is not None]
        assert queue.next_due == min(due, default=None)


def run_dry(queue: Queue, serving: str | None) -> tuple[list[str], list[int]]:
    """The order in which `choose` itself starts what is ready, and the loads so far at each start."""
    never = Policy(max_wait_interactive_s=0, max_wait_batch_s=0)
    turn, started, loads = Turn(), [], [0]
    while True:
        occupancy = Occupancy(resident=serving, load_s=8)
        decision = choose(queue, policy=never, now=Micros(10**9), turn=turn, occupancy=occupancy)
        if not isinstance(decision, Start):
            return started, loads[1:]
        queue.remove(decision.job_id)
        turn, serving = decision.turn, decision.load_key
        started.append(decision.job_id)
        loads.append(loads[-1] + decision.swaps)


@given(st.lists(JOBS, max_size=30), st.sampled_from([None, *KEYS]))
def test_place_is_where_the_scheduler_really_starts_the_job(jobs, serving):
    queue = queue_of(*jobs)
    ready = [one.job_id for one in queue if one.not_before is None]
    places = {job_id: queue.place(job_id, serving) for job_id in ready}
    keys = {one.job_id: one.load_key for one in queue}
    started, loads = run_dry(queue, serving)
    assert sorted(started) == sorted(ready)
    for index, job_id in enumerate(started):
        place = places[job_id]
        assert [place.position, place.ahead, place.loads] == [index + 1, index, loads[index]]
        assert place.ahead_of_key == [keys[earlier] for earlier in started[:index]].count(keys[job_id])


@given(st.lists(JOBS, max_size=20), st.sampled_from([None, *KEYS]))
def test_job_in_backoff_is_told_the_place_it_would_have_if_ready(jobs, serving):
    resting = job(99, "b", INTERACTIVE, not_before=50)
    assert queue_of(*jobs, resting).place("job-99", serving) == queue_of(
        *jobs, replace(resting, not_before=None)
    ).place("job-99", serving)


def test_place_of_a_job_that_does_not_wait_is_unknown():
    assert Queue().place("job-1", None) is None


def test_place_among_many_load_keys_takes_at_most_50_microseconds_until_the_queue_changes():
    queue = queue_of(*(job(order, f"key-{order % 20_000}") for order in range(1, 40_001)))
    assert queue.place("job-40000", None).loads == 20_000
    took = []
    for order in range(1, 1_001):
        began = time.perf_counter()
        queue.place(f"job-{order}", "key-7")
        took.append(time.perf_counter() - began)
    assert statistics.median(took) <= 50e-6


def big_queue(size: int) -> Queue:
    """As from a log: every string and number its own object. One job in ten is interactive, over 5 load keys."""
    queue = Queue()
    for order in range(1, size + 1):
        job_class = INTERACTIVE if order % 10 == 0 else BATCH
        at = Micros(1_700_000_000_000_000 + order)
        queue.add(Waiting(f"01KAN5XQ2M{order:016d}", f"sha256:{order % 5:064d}", job_class, order, at, None))
    return queue


def test_waiting_job_costs_at_most_600_bytes():
    size = 100_000
    tracemalloc.start()
    try:
        queue = big_queue(size)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(queue) == size
    assert used / size <= 600


def test_pick_among_many_takes_at_most_50_microseconds():
    queue = big_queue(200_000)
    resident = next(iter(queue.load_keys))
    occupancy = Occupancy(resident=resident, load_s=8)
    now, turn, costs = Micros(1_700_003_600_000_000), Turn(since=Micros(1)), []
    for _ in range(500):
        begun = time.perf_counter()
        decision = choose(queue, policy=Policy(), now=now, turn=turn, occupancy=occupancy)
        queue.remove(decision.job_id)
        costs.append(time.perf_counter() - begun)
        turn, occupancy = decision.turn, replace(occupancy, resident=decision.load_key)
    assert statistics.median(costs) <= 50e-6
