"""Statistics as a fold of the log: what is measured, how it is averaged, and their snapshot's text."""

from __future__ import annotations

from statistics import mean, pstdev

import pytest
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections import statistics
from foreman.projections.statistics import MOST_KEYS, Statistics
from tests.core import DONE, QUEUED, SAMPLES, SWAPPED, recorded

SECOND = 1_000_000


def after(*events) -> Statistics:
    state = Statistics()
    for item in recorded(*events):
        state.apply(item)
    return state


def test_first_load_counts_in_full_and_later_ones_by_a_fifth():
    load_s = after(*(replace(SWAPPED, load_s=seconds) for seconds in (10.0, 5.0))).by_key["a"].load_s
    assert (load_s.count, load_s.mean) == (2, pytest.approx(9.0))


def test_first_runs_count_alike_and_their_spread_is_that_of_all():
    lengths = [2.0, 4.0, 6.0, 12.0]
    run_s = after(*(replace(DONE, run_s=seconds) for seconds in lengths)).overall.run_s
    assert (run_s.mean, run_s.spread) == (pytest.approx(mean(lengths)), pytest.approx(pstdev(lengths)))


def test_old_runs_are_forgotten():
    state = after(*[replace(DONE, run_s=100.0)] * 50, *[replace(DONE, run_s=1.0)] * 150)
    assert state.run_s == pytest.approx(1.0, rel=0.1)


def test_runs_are_measured_by_load_key_and_class():
    chat = replace(DONE, run_s=1.0, job_class=JobClass.INTERACTIVE)
    state = after(DONE, chat, replace(DONE, load_key="b", run_s=30.0))
    figures = state.by_key["a"]
    assert {job_class: run_s.mean for job_class, run_s in figures.run_s_of.items()} == {
        JobClass.BATCH: 2.0, JobClass.INTERACTIVE: 1.0}  # fmt: skip
    assert (figures.run_s.mean, state.by_key["b"].run_s.mean, state.run_s) == (1.5, 30.0, 11.0)


def test_speeds_come_from_the_targets_own_durations():
    fast = replace(DONE, generated_tokens=50, eval_duration=10**9, prompt_tokens=30, prompt_eval_duration=10**8)
    # A phase that lasted no time to speak of is no speed.
    figures = after(fast, DONE, replace(fast, eval_duration=1)).by_key["a"]
    assert (figures.tokens_per_s.mean, figures.tokens_per_s.count) == (50.0, 1)
    assert (figures.prompt_tokens_per_s.mean, figures.tokens.mean) == (300.0, 35.0)


def test_answer_without_a_measured_time_or_from_an_older_log_changes_no_average_of_a_key():
    assert after(DONE, replace(DONE, run_s=None)).run_s == 2.0
    older = after(DONE, replace(DONE, run_s=4.0, load_key=None, job_class=None))
    assert (older.by_key["a"].run_s.mean, older.run_s) == (2.0, 3.0)


def test_typical_load_is_the_mean_over_models_or_the_default():
    assert Statistics().typical_load_s(5.0) == 5.0
    assert after(SWAPPED, replace(SWAPPED, load_key="b", load_s=9.0)).typical_load_s(5.0) == 6.0


def test_interactive_arrivals_have_a_rate_that_fades():
    chat = replace(QUEUED, job_class=JobClass.INTERACTIVE)
    state = Statistics()
    for item in recorded(*[chat] * 120, at=30 * SECOND):
        state.apply(item)
    arrivals, last = state.by_key["a"].arrivals, 120 * 30 * SECOND
    assert arrivals.a_second(Micros(last)) == pytest.approx(1 / 30, rel=0.05)
    assert arrivals.a_second(Micros(last + 7_200 * SECOND)) < 1 / 900
    assert after(QUEUED).by_key == {}


def test_one_arrival_is_no_flood():
    (item,) = recorded(replace(QUEUED, job_class=JobClass.INTERACTIVE))
    state = Statistics()
    state.apply(item)
    assert state.by_key["a"].arrivals.a_second(item.at) < 1 / 400


def test_only_the_most_recent_load_keys_are_kept():
    loads = [replace(SWAPPED, load_key=str(number)) for number in range(MOST_KEYS)]
    state = Statistics()
    for item in recorded(*loads[:-1]) + recorded(loads[0], *(replace(SWAPPED, load_key=key) for key in "xy")):
        state.apply(item)
    assert len(state.by_key) == MOST_KEYS
    assert "0" in state.by_key
    assert "1" not in state.by_key


def test_snapshot_comes_back_as_it_was_and_folds_on_alike():
    state = after(*SAMPLES)
    loaded = statistics.load(state.dump())
    assert loaded == state
    (more,) = recorded(SWAPPED)
    state.apply(more)
    loaded.apply(more)
    assert loaded == state
