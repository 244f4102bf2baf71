"""The tally: every metric of the log equals its query over it, and the first models alone have series of their own."""

from __future__ import annotations

from itertools import count

import pytest
from msgspec.structs import replace

from foreman.events.daemon import Stage, TargetStalled
from foreman.events.types import DAEMON, JobClass, Position, RequeueReason
from foreman.projections import measures, tally
from foreman.projections.measures import FROM_EVENTS, Kind, Measure, Series
from foreman.projections.tally import MOST_MODELS, NO_JOB, Tally, facts_of
from tests import reckoning
from tests.core import CANCELLED, DONE, FAILED, HISTORIES, LOADING, QUEUED, REQUEUED, SAMPLES, WORKING, recorded

STALLED = TargetStalled(stage=Stage.STARTING, model="a", job_id="J", silent_s=300.0)
#: Runs that break in each way, and one that is answered at last.
TROUBLED = (
    QUEUED,
    *(event for reason in RequeueReason for event in (LOADING, WORKING, replace(REQUEUED, reason=reason))),
    replace(WORKING, waited_s=5_000.0),
    replace(DONE, eval_duration=1_500_000_000, first_token_s=0.25, run_s=61.0),
)
#: One event of each type, but for the second and third of the ends that a job has only one of.
EVERYTHING = (*(event for event in SAMPLES if event not in (FAILED, CANCELLED)), STALLED)


def log_of(*histories):
    """One log of several jobs' histories, one after the other; what is no job's goes where it belongs."""
    positions, versions, made = count(1), {}, []
    for number, history in enumerate(histories):
        for item in recorded(*history):
            stream = f"J{number}" if item.event.type.startswith("job.") else DAEMON
            versions[stream] = versions.get(stream, 0) + 1
            place = {"position": Position(next(positions)), "stream": stream, "version": versions[stream]}
            made.append(replace(item, **place))
    return made


def tallied(events, state=None) -> Tally:
    """The fold, on top of a state if there is one."""
    state = state or Tally()
    facts = {}
    for item in events:
        if item.event.type == "job.queued":
            facts[item.stream] = facts_of(item.event)
        state.apply(item, facts.get(item.stream, NO_JOB))
    return state


def queued(model: str, **members) -> tuple:
    return (replace(QUEUED, model=model, load_key=model, **members),)


def test_every_metric_of_the_log_has_a_query_over_it():
    assert set(reckoning.QUERIES) == {measure.name for measure in FROM_EVENTS}


@pytest.mark.parametrize(
    "histories",
    [
        *([history] for history in HISTORIES.values() if history),
        [TROUBLED],
        [EVERYTHING],
        [(QUEUED, LOADING, CANCELLED)],
    ],
    ids=lambda histories: "-".join(event.type for event in histories[0])[:60],
)
def test_every_metric_equals_its_query_over_one_history(histories):
    events = log_of(*histories)
    reckoning.assert_equal(reckoning.of_tally(tallied(events)), reckoning.of_events(events))


def test_every_metric_of_a_busy_log_moves_and_equals_its_query():
    chat = queued("b", job_class=JobClass.INTERACTIVE)
    events = log_of(TROUBLED, EVERYTHING, queued("b"), chat, TROUBLED, TROUBLED[:3])
    numbers = reckoning.of_tally(tallied(events))
    assert [name for name, series in numbers.items() if not series] == []
    reckoning.assert_equal(numbers, reckoning.of_events(events))


def test_spellings_of_one_model_share_its_series():
    state = tallied(log_of(*map(queued, ("a", "A:latest", "library/a", "registry.ollama.ai/library/a:latest"))))
    assert list(state.models) == ["a:latest"]
    assert state.series.values["foreman_jobs_submitted_total"] == {("a:latest", "batch"): 4}


def test_the_first_models_of_the_log_have_series_and_later_ones_share_one():
    names = [f"m{number}" for number in range(MOST_MODELS + 10)]
    state = tallied(log_of(*map(queued, [*names, *names])))
    submitted = state.series.values["foreman_jobs_submitted_total"]
    assert len(submitted) == MOST_MODELS + 1
    assert (submitted["m39:latest", "batch"], submitted["other", "batch"]) == (2, 20)


def test_snapshot_comes_back_as_it_was_and_folds_on_alike():
    events = log_of(TROUBLED, EVERYTHING, *(queued(f"m{number}") for number in range(50)), TROUBLED[:2])
    state = tallied(events)
    loaded = tally.load(state.dump())
    assert loaded == state
    more = [replace(item, position=Position(item.position + len(events))) for item in log_of(TROUBLED)]
    assert tallied(more, loaded) == tallied(more, state)


def test_negative_figures_of_a_target_lower_no_counter():
    state = tallied(log_of((QUEUED, WORKING, replace(DONE, prompt_tokens=-5, generated_tokens=-1, eval_duration=-9))))
    assert all(value >= 0 for values in state.series.values.values() for value in values.values())


def test_observation_on_a_bound_is_within_its_bucket():
    series = Series()
    for value in (-1.0, 1.0, 1.1, 2.0, 99.0):
        series.observe(SOME, value)
    assert (series.spreads["some"][()].counts, series.spreads["some"][()].total) == ([2, 2, 1], pytest.approx(102.1))


SOME = Measure(name="some", kind=Kind.HISTOGRAM, help="Some.", buckets=(1, 2))


@pytest.mark.parametrize("measure", FROM_EVENTS, ids=lambda measure: measure.name)
def test_buckets_ascend_and_only_histograms_have_them(measure):
    assert bool(measure.buckets) == (measure.kind is Kind.HISTOGRAM)
    assert list(measure.buckets) == sorted(set(measure.buckets))
    if measure in {measures.WAIT, measures.RUN}:
        assert measure.buckets[-1] == 3_600


def test_counts_that_no_target_could_reach_are_kept_all_the_same():
    huge = replace(DONE, prompt_tokens=2**63 - 1, generated_tokens=2**63 - 1)
    state = tallied(log_of((QUEUED, WORKING, huge), (QUEUED, WORKING, huge)))
    assert tally.load(state.dump()) == state
