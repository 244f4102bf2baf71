"""What the scheduler promises over time: the published bound on waiting, order within a key, and few loads.

Runs the simulation of benchmarks/simulate.py, which drives the scheduler itself.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreman.events.types import JobClass
from foreman.scheduling.scheduler import BATCH_EVERY, SENIOR, Policy

PATH = Path(__file__).parents[2] / "benchmarks" / "simulate.py"
SPEC = importlib.util.spec_from_file_location("simulate", PATH)
simulate = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = simulate
SPEC.loader.exec_module(simulate)
Job = simulate.Job

BATCH, INTERACTIVE = JobClass.BATCH, JobClass.INTERACTIVE
ROUNDING_S = 1e-3


def run(jobs, policy: Policy, load_s: float = 8.0):
    return simulate.Simulation(jobs, simulate.Discipline("under test", policy), load_s).run()


def overdue_at(one, policy: Policy) -> float:
    return one.job.at_s + policy.max_wait_s(one.job.job_class)


def worst_turns(others: int, job_class: JobClass) -> int:
    """Turns before the key's own, as the page on scheduling derives them; the first is the one in progress."""
    if job_class is INTERACTIVE:
        return others + 2 + others // (BATCH_EVERY - 1)
    return BATCH_EVERY * (others + 1)


def bound_breakers(done, policy: Policy, load_s: float):
    """The jobs that began later than published, with both times. A lane is one load key's jobs of one class."""
    longest_s = max(one.job.service_s for one in done.runs)
    turn_s = load_s + SENIOR * policy.turn_s(load_s) + longest_s
    lanes = {}
    for one in done.runs:
        lanes.setdefault((one.job.model, one.job.job_class), []).append(one)
    for (model, job_class), lane in lanes.items():
        rivals = [one for (key, its), jobs in lanes.items() if key != model and its is job_class for one in jobs]
        oldest_since_s = 0.0
        for one in lane:
            from_s = max(overdue_at(one, policy), oldest_since_s)
            others = {
                rival.job.model
                for rival in rivals
                if overdue_at(rival, policy) < one.picked_s and rival.picked_s >= from_s
            }
            allowed_s = worst_turns(len(others), job_class) * turn_s + load_s + BATCH_EVERY * longest_s
            if one.began_s > from_s + allowed_s + ROUNDING_S:
                yield one, from_s + allowed_s
            oldest_since_s = one.picked_s


POLICIES = st.builds(
    Policy,
    max_wait_interactive_s=st.sampled_from([0.5, 5.0, 15.0]),
    max_wait_batch_s=st.sampled_from([0.5, 10.0, 60.0]),
    swap_share=st.sampled_from([0.1, 0.3, 0.7, 1.0]),
    parallel=st.integers(1, 3),
)
ARRIVALS = st.lists(
    st.builds(
        Job,
        at_s=st.one_of(st.just(0.0), st.floats(0, 300)),
        model=st.sampled_from("abcd"),
        job_class=st.sampled_from(list(JobClass)),
        service_s=st.sampled_from([0.1, 1.0, 6.0, 20.0]),
    ),
    min_size=1,
    max_size=120,
)
LOADS = st.sampled_from([0.0, 0.5, 8.0])


@settings(deadline=None)
@given(ARRIVALS, POLICIES, LOADS)
def test_oldest_overdue_job_of_each_key_and_class_starts_within_the_bound(jobs, policy, load_s):
    assert list(bound_breakers(run(jobs, policy, load_s), policy, load_s)) == []


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_bound_holds_under_overload_on_four_models(share):
    policy = Policy(swap_share=share)
    jobs = simulate.SCENARIOS["overload"].jobs(seed=1)
    jobs += [Job(0.0, f"model-{number}", BATCH) for number in range(4) for _ in range(40)]
    done = run(jobs, policy)
    assert list(bound_breakers(done, policy, 8.0)) == []
    # Every key keeps being served all through the overload, not only at its end.
    for number in range(4):
        starts = [one.picked_s for one in done.runs if one.job.model == f"model-{number}"]
        assert max(later - earlier for earlier, later in pairwise(starts)) < 1_000


def test_two_old_backlogs_do_not_shut_out_a_third_key():
    jobs = [Job(0.0, model, INTERACTIVE) for model in "ab" for _ in range(300)] + [Job(1.0, "c", INTERACTIVE)]
    late = next(one for one in run(jobs, Policy()).runs if one.job.model == "c")
    assert late.wait_s < 15 + 3 * (8 + 2 * 72 + 6)


@settings(deadline=None)
@given(ARRIVALS, POLICIES, LOADS)
def test_every_job_runs_once_and_oldest_first_within_key_and_class(jobs, policy, load_s):
    done = run(jobs, policy, load_s)
    assert sorted(map(id, (one.job for one in done.runs))) == sorted(map(id, jobs))
    for lane in {(job.model, job.job_class) for job in jobs}:
        arrivals = [one.job.at_s for one in done.runs if (one.job.model, one.job.job_class) == lane]
        assert arrivals == sorted(arrivals)


@settings(deadline=None)
@given(ARRIVALS, POLICIES, LOADS)
def test_never_two_keys_at_once_and_never_more_than_parallel(jobs, policy, load_s):
    runs = run(jobs, policy, load_s).runs
    for one in runs:
        beside = [other for other in runs if other.picked_s <= one.picked_s < other.done_s]
        assert {other.job.model for other in beside} == {one.job.model}
        assert len(beside) <= policy.parallel


def test_sixty_interleaved_jobs_over_three_models_take_three_loads():
    jobs = [Job(0.0, "abc"[number % 3], INTERACTIVE, 0.1) for number in range(60)]
    done = run(jobs, Policy(), load_s=0.5)
    assert done.loads == 3
    assert max(one.done_s for one in done.runs) == pytest.approx(3 * 0.5 + 60 * 0.1)


@pytest.mark.parametrize("stream", list(JobClass))
def test_job_of_another_model_starts_within_max_wait_and_the_running_job(stream):
    policy = Policy(max_wait_interactive_s=2, max_wait_batch_s=2, swap_share=1)
    jobs = [Job(number * 0.5, "a", stream, 0.6) for number in range(200)] + [Job(20.0, "b", BATCH, 0.6)]
    other = next(one for one in run(jobs, policy, load_s=0.5).runs if one.job.model == "b")
    assert 2.0 < other.picked_s - other.job.at_s <= 2.0 + 0.6 + ROUNDING_S


def test_batch_gives_way_to_chat_in_a_fraction_of_the_wait_of_first_come():
    scenario = simulate.SCENARIOS["light"]
    first_come, drain, careful, eager = (
        simulate.measure(scenario, discipline, seed=1, scale=0.25) for discipline in simulate.DISCIPLINES
    )
    assert careful["interactive_wait_p95_s"] < first_come["interactive_wait_p95_s"] / 5
    assert careful["interactive_wait_p95_s"] < drain["interactive_wait_p95_s"] / 5
    assert eager["interactive_wait_p95_s"] <= careful["interactive_wait_p95_s"]
    assert drain["loads"] <= careful["loads"] <= first_come["loads"]


def test_overload_means_turns_instead_of_thrashing():
    scenario = simulate.SCENARIOS["overload"]
    first_come, _, careful, eager = (simulate.measure(scenario, one, seed=1) for one in simulate.DISCIPLINES)
    assert careful["done_h"] < first_come["done_h"] * 0.65
    assert careful["loads"] < eager["loads"] < first_come["loads"]


def test_simulation_prints_all_figures_as_json(capsys):
    assert simulate.main(["--json", "--seeds", "3", "--scenario", "light", "--scale", "0.05"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["seeds"] == [3]
    assert set(figures["scenarios"]["light"]) == {one.name for one in simulate.DISCIPLINES}
