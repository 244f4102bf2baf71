"""Whatever waits: if everything takes as long as was measured, jobs start when and in the order that was forecast."""

from __future__ import annotations

import dataclasses
import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections.queue import Queue, Waiting
from foreman.projections.statistics import Statistics
from foreman.scheduling.forecast import Running, Situation, forecast
from foreman.scheduling.lengths import Lengths
from foreman.scheduling.scheduler import Occupancy, Policy, Start, Turn, choose
from tests.core import DONE, SWAPPED, recorded

NOW = Micros(10**15)
SECOND = 1_000_000
KEYS = "abc"

JOBS = st.lists(
    st.builds(
        Waiting,
        job_id=st.uuids().map(str),
        load_key=st.sampled_from(KEYS),
        job_class=st.sampled_from(JobClass),
        order=st.just(0),
        queued_at=st.integers(0, 900).map(lambda ago: Micros(NOW - ago * SECOND)),
        not_before=st.sampled_from([None, None, None, Micros(NOW + 7 * SECOND), Micros(NOW + 90 * SECOND)]),
    ),
    max_size=60,
    unique_by=lambda job: job.job_id,
).map(lambda jobs: [dataclasses.replace(job, order=order) for order, job in enumerate(jobs, start=1)])
POLICIES = st.builds(
    Policy,
    max_wait_interactive_s=st.sampled_from([0.0, 5.0, 15.0]),
    max_wait_batch_s=st.sampled_from([0.0, 10.0, 600.0]),
    swap_share=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    parallel=st.integers(1, 3),
)
LENGTHS = st.sampled_from([0.5, 4.0, 33.0])
TURNS = st.builds(
    Turn,
    since=st.sampled_from([None, Micros(NOW - 100 * SECOND)]),
    picks=st.integers(0, 4),
    turns=st.integers(0, 4),
)


@st.composite
def figures(draw) -> Statistics:
    """Measurements of some of the keys."""
    statistics = Statistics()
    for key in draw(st.sets(st.sampled_from(KEYS))):
        load_s = draw(st.sampled_from([0.0, 2.0, 20.0]))
        runs = [replace(DONE, load_key=key, run_s=draw(LENGTHS), job_class=draw(st.sampled_from(JobClass)))] * 3
        for item in recorded(replace(SWAPPED, load_key=key, load_s=load_s), *runs):
            statistics.apply(item)
    return statistics


@st.composite
def situations(draw) -> Situation:
    """What is loaded and runs, all of one key."""
    key = draw(st.sampled_from([None, *KEYS]))
    runs = []
    if key is not None and draw(st.booleans()):
        loading, elapsed_s = draw(st.booleans()), draw(st.sampled_from([0.0, 3.0, 500.0]))
        job_class = draw(st.sampled_from(JobClass))
        runs = [Running(job_id="R", load_key=key, job_class=job_class, loading=loading, elapsed_s=elapsed_s)]
    return Situation(now=NOW, turn=draw(TURNS), resident=key, running=tuple(runs))


def queue_of(jobs) -> Queue:
    queue = Queue()
    for job in jobs:
        queue.add(job)
    queue.settle(NOW)
    return queue


def really(jobs, situation: Situation, statistics: Statistics, policy: Policy) -> dict[str, float]:
    """When each job starts if the worker follows the scheduler and everything takes what it is expected to."""
    queue, lengths, turn, now_s = queue_of(jobs), Lengths(statistics), situation.turn, 0.0
    load_s, resident, slots, begun = statistics.typical_load_s(5.0), situation.resident, [], {}
    for run in situation.running:
        if run.loading:
            now_s += lengths.rest_of_load(run.load_key, run.elapsed_s).mean_s
            turn = turn.loaded(Micros(NOW + round(now_s * SECOND)))
            rest_s = lengths.run(run.load_key, run.job_class).mean_s
        else:
            rest_s = lengths.rest(run.load_key, run.job_class, run.elapsed_s, None).mean_s
        slots.append((now_s + rest_s, run.load_key))
    while len(queue):
        slots = [slot for slot in sorted(slots) if slot[0] > now_s]
        now = Micros(NOW + round(now_s * SECOND))
        queue.settle(now)
        occupancy = Occupancy(
            resident=resident, running=len(slots), running_key=slots[0][1] if slots else None, load_s=load_s
        )  # fmt: skip
        choice = choose(queue, policy=policy, now=now, turn=turn, occupancy=occupancy)
        if isinstance(choice, Start):
            turn, resident, job = choice.turn, choice.load_key, queue.get(choice.job_id)
            queue.remove(job.job_id)
            if choice.swaps:
                now_s += lengths.load(job.load_key).mean_s
                turn = turn.loaded(Micros(NOW + round(now_s * SECOND)))
            begun[job.job_id] = now_s
            heapq.heappush(slots, (now_s + lengths.run(job.load_key, job.job_class).mean_s, job.load_key))
        else:
            due = [] if choice.until is None else [(choice.until - NOW) / SECOND]
            now_s = max(now_s, min([slot[0] for slot in slots] + due))
    return begun


@given(JOBS, situations(), figures(), POLICIES)
def test_jobs_start_when_and_in_the_order_that_was_forecast(jobs, situation, statistics, policy):
    queue = queue_of(jobs)
    told = forecast(queue, situation, statistics, policy)
    etas = {job.job_id: told.of(queue, job.job_id) for job in jobs}
    begun = really(jobs, situation, statistics, policy)
    assert {job_id: eta.start.expected_s for job_id, eta in etas.items()} == pytest.approx(begun, abs=1e-6)
    assert sorted(etas, key=lambda job_id: (begun[job_id], job_id)) == sorted(
        etas, key=lambda job_id: (etas[job_id].start.expected_s, job_id)
    )


@given(JOBS, situations(), figures(), POLICIES)
def test_every_job_has_an_eta_within_its_range_and_none_is_past(jobs, situation, statistics, policy):
    queue = queue_of(jobs)
    told = forecast(queue, situation, statistics, policy)
    spans = [told.of(queue, job.job_id).start for job in jobs] + list(told.ends.values())
    assert all(0 <= span.low_s <= span.expected_s <= span.high_s for span in spans)
    assert len(told.ends) == len(situation.running)


@given(JOBS, situations(), figures())
def test_forecasting_leaves_the_queue_as_it_is(jobs, situation, statistics):
    queue, untouched = queue_of(jobs), queue_of(jobs)
    forecast(queue, situation, statistics, Policy())
    assert {job.job_id: job for job in queue} == {job.job_id: job for job in untouched}
    assert [list(queue.heads(one)) for one in JobClass] == [list(untouched.heads(one)) for one in JobClass]


NEVER = Policy(max_wait_interactive_s=0, max_wait_batch_s=0)


@given(JOBS, situations(), figures(), st.sampled_from(KEYS), st.integers(1, 5))
def test_newcomers_behind_everybody_make_nobody_start_earlier(jobs, situation, statistics, key, number):
    # An interactive one may: the scheduler turns to its model sooner, for all who wait for that. So may one whose model
    # is loaded for it before the others of that model return from their backoff.
    jobs = [dataclasses.replace(job, not_before=None) for job in jobs]
    before, crowded = queue_of(jobs), queue_of(jobs)
    for order in range(len(jobs) + 1, len(jobs) + 1 + number):
        crowded.add(Waiting(f"new{order}", key, JobClass.BATCH, order, NOW, None))
    first, then = (forecast(queue, situation, statistics, NEVER) for queue in (before, crowded))
    for job in jobs:
        earlier, later = (
            told.of(queue, job.job_id).start.expected_s for told, queue in ((first, before), (then, crowded))
        )
        assert later >= earlier - 1e-6
