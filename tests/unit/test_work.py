"""What waits and what runs, as a fold of events, and the same again from the views of a start."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from foreman.events.types import JobClass
from foreman.fsm.job import ACTIVE, RUNNING, WAITING, State
from foreman.projections.work import Work
from tests.core import CANCELLED, DEGRADED, HISTORIES, LOADING, QUEUED, REQUEUED, WORKING, job_after, recorded


def after(*events) -> Work:
    work = Work()
    for item in recorded(*events):
        work.apply(item)
    return work


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
def test_job_is_where_its_state_says(state):
    work = after(*HISTORIES[state])
    assert ("J" in work.queue, "J" in work.running) == (state in WAITING, state in RUNNING)
    assert work.has("J") is (state in ACTIVE)


def test_job_is_queued_with_what_choosing_needs():
    entry = after(replace(QUEUED, load_key="k", job_class=JobClass.INTERACTIVE)).queue.get("J")
    assert (entry.load_key, entry.job_class, entry.order, entry.queued_at, entry.not_before) == (
        "k", JobClass.INTERACTIVE, 1, 1_000_000, None,
    )  # fmt: skip


def test_requeued_job_keeps_its_age_and_waits_for_its_backoff():
    entry = after(QUEUED, LOADING, WORKING, REQUEUED).queue.get("J")
    assert (entry.order, entry.queued_at, entry.not_before) == (1, 1_000_000, REQUEUED.not_before)


def test_events_of_the_daemon_change_nothing():
    work = after(DEGRADED)
    assert (len(work.queue), work.running) == (0, {})


@pytest.mark.parametrize(
    "events",
    [
        (QUEUED,),
        (QUEUED, LOADING),
        (QUEUED, LOADING, WORKING),
        (QUEUED, WORKING, REQUEUED),
        (QUEUED, WORKING, REQUEUED, LOADING),
    ],
    ids=lambda events: events[-1].type,
)
def test_start_makes_of_the_views_what_the_events_made(events):
    folded, restored = after(*events), Work.of([job_after(*events)])
    assert list(restored.queue) == list(folded.queue)
    assert restored.running.keys() == folded.running.keys()
    for work in (folded, restored):
        work.apply(replace(recorded(CANCELLED)[0], position=9, version=9))
        assert not work.has("J")
