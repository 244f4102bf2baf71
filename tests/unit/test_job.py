"""The job view as a fold of its events: what each event changes, and what is out of place."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.errors import IllegalTransition, LogCorrupt
from foreman.events.types import CancelledBy, RequeueReason
from foreman.fsm.job import State
from foreman.projections.job import fold
from tests.core import (
    ANSWER,
    CANCELLED,
    DONE,
    EXPIRED,
    FAILED,
    HISTORIES,
    LOADING,
    QUEUED,
    REQUEUED,
    SELECTIVE,
    WORKING,
    job_after,
    recorded,
)


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
def test_history_leads_to_its_state(state):
    job = job_after(*HISTORIES[state])
    assert job.state is state
    assert job.finished is (state in {State.DONE, State.FAILED, State.CANCELLED, State.EXPIRED})


def test_queued_job_has_what_its_event_says_and_its_place_in_the_log():
    job = job_after(QUEUED)
    assert (job.job_id, job.model, job.request, job.max_attempts) == ("J", "a", QUEUED.request, 3)
    assert (job.order, job.position, job.version, job.attempt, job.run) == (1, 1, 1, 0, 0)
    assert job.created_at == job.updated_at == 1_000_000
    assert job.log_hash == "01" * 32


def test_each_event_moves_position_version_hash_and_time_but_not_the_age():
    job = job_after(QUEUED, LOADING, WORKING)
    assert (job.position, job.version, job.updated_at, job.log_hash) == (3, 3, 3_000_000, "03" * 32)
    assert (job.order, job.created_at) == (1, 1_000_000)


def test_wait_ends_with_the_load_and_the_start_is_that_of_the_work():
    loading = job_after(QUEUED, LOADING)
    assert (loading.loading_at, loading.started_at, loading.waited_s) == (2_000_000, None, 1.0)
    working = job_after(QUEUED, LOADING, replace(WORKING, waited_s=1.0, load_s=4.0))
    assert (working.started_at, working.waited_s, working.load_s) == (3_000_000, 1.0, 4.0)


def test_load_and_work_are_one_run():
    assert job_after(QUEUED, LOADING, WORKING).run == 1
    assert job_after(QUEUED, WORKING).run == 1
    assert job_after(QUEUED, LOADING, REQUEUED, LOADING, WORKING, REQUEUED, WORKING).run == 3


def test_requeued_job_waits_as_new_but_says_what_went_wrong():
    job = job_after(QUEUED, LOADING, WORKING, REQUEUED)
    assert (job.loading_at, job.started_at, job.load_s) == (None, None, None)
    assert (job.error, job.not_before, job.attempt) == ("it broke", Micros(9), 1)


@pytest.mark.parametrize("start", [LOADING, WORKING], ids=lambda event: event.type)
def test_backoff_is_forgotten_once_the_job_runs_again(start):
    assert job_after(QUEUED, WORKING, REQUEUED, start).not_before is None


def test_only_interruptions_are_counted_as_such():
    interrupted = replace(REQUEUED, reason=RequeueReason.INTERRUPTED)
    assert job_after(QUEUED, WORKING, REQUEUED, WORKING, interrupted).interruptions == 1


def test_answer_clears_the_error_of_an_earlier_attempt():
    job = job_after(QUEUED, WORKING, REQUEUED, WORKING, DONE)
    assert (job.error, job.completed_at, job.artifacts) == (None, 5_000_000, (ANSWER.ref,))
    assert (job.metrics.prompt_tokens, job.metrics.run_s) == (3, 2.0)


def test_failure_keeps_error_code_and_status():
    job = job_after(QUEUED, WORKING, FAILED)
    assert (job.error, job.error_code, job.error_status) == (FAILED.error, "target_refused", 404)


def test_cancelled_job_says_by_whom():
    job = job_after(QUEUED, WORKING, REQUEUED, CANCELLED)
    assert (job.cancelled_by, job.not_before, job.completed_at) == (CancelledBy.API, None, 4_000_000)


def test_expired_job_keeps_its_skeleton_only():
    job = job_after(QUEUED, WORKING, DONE, EXPIRED)
    assert (job.artifacts, job.completed_at, job.metrics.prompt_tokens) == ((), 3_000_000, 3)


def test_fold_leaves_the_job_before_as_it_was():
    (first, second) = recorded(QUEUED, WORKING)
    before = fold(None, first)
    fold(before, second)
    assert before == fold(None, first)


@pytest.mark.parametrize("version", [1, 3])
def test_event_out_of_its_place_is_corruption(version):
    first, second = recorded(QUEUED, WORKING)
    with pytest.raises(LogCorrupt, match=f"event {version} of J stands where event 2 belongs"):
        fold(fold(None, first), replace(second, version=version))


def test_history_that_does_not_begin_at_its_beginning_is_refused():
    first, second = recorded(QUEUED, WORKING)
    with pytest.raises(LogCorrupt, match="event 2 of J stands where event 1 belongs"):
        fold(None, replace(first, version=2))
    with pytest.raises(IllegalTransition):
        fold(None, second)


def test_webhook_stays_with_the_job_to_its_end():
    assert job_after(replace(QUEUED, webhook=SELECTIVE), WORKING, DONE, EXPIRED).webhook == SELECTIVE
    assert job_after(QUEUED).webhook is None
