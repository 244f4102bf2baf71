"""Statistics as a fold of the log: what counts, what is averaged, and their snapshot's text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreman.projections import statistics
from foreman.projections.statistics import Statistics
from tests.core import CANCELLED, DONE, FAILED, QUEUED, REQUEUED, SAMPLES, SWAPPED, WORKING, recorded


def after(*events) -> Statistics:
    state = Statistics()
    for item in recorded(*events):
        state.apply(item)
    return state


def test_jobs_are_counted_by_how_they_ended():
    state = after(QUEUED, QUEUED, WORKING, REQUEUED, WORKING, DONE, FAILED, CANCELLED)
    assert (state.queued, state.done, state.failed, state.cancelled, state.position) == (2, 1, 1, 1, 8)


def test_swaps_are_compared_with_serving_in_order_of_arrival():
    arrivals = [replace(QUEUED, load_key=key) for key in "ababa"]
    swaps = [replace(WORKING, swapped=swapped) for swapped in (True, False, False, True, False)]
    state = after(*arrivals, *swaps)
    assert (state.swaps, state.swaps_in_order) == (2, 5)


def test_first_measurement_counts_in_full_and_later_ones_by_a_fifth():
    state = after(*(replace(SWAPPED, load_s=seconds) for seconds in (10.0, 5.0)), *[replace(DONE, run_s=4.0)] * 2)
    assert state.load_s == {"a": pytest.approx(9.0)}
    assert state.run_s == 4.0


def test_answer_without_a_measured_time_changes_no_average():
    assert after(DONE, replace(DONE, run_s=None)).run_s == 2.0


def test_typical_load_is_the_mean_over_models_or_the_default():
    assert Statistics().typical_load_s(5.0) == 5.0
    assert after(SWAPPED, replace(SWAPPED, load_key="b", load_s=9.0)).typical_load_s(5.0) == 6.0


def test_snapshot_comes_back_as_it_was_and_folds_on_alike():
    state = after(*SAMPLES)
    loaded = statistics.load(state.dump())
    assert loaded == state
    (more,) = recorded(SWAPPED)
    state.apply(more)
    loaded.apply(more)
    assert loaded == state
