"""The table of transitions: every pair of state and event, allowed or not, generated from the table itself."""

from __future__ import annotations

import pytest

from foreman.errors import IllegalTransition
from foreman.events.types import JOB_EVENTS
from foreman.fsm.job import ACTIVE, FINISHED, MACHINE, RUNNING, TRANSITIONS, WAITING, State, advance, allows, diagram

ALLOWED = {(source, event): dest for event, sources, dest in TRANSITIONS for source in sources}
ABSENT = [(state, event) for state in State for event in JOB_EVENTS if (state, event) not in ALLOWED]


def name(value):
    return getattr(value, "type", None) or str(value)


@pytest.mark.parametrize(("state", "event", "dest"), [(*pair, dest) for pair, dest in ALLOWED.items()], ids=name)
def test_transition_in_the_table_is_allowed(state, event, dest):
    assert allows(state, event)
    assert advance(state, event) is dest


@pytest.mark.parametrize(("state", "event"), ABSENT, ids=name)
def test_transition_that_is_not_in_the_table_is_refused(state, event):
    assert not allows(state, event)
    with pytest.raises(IllegalTransition, match=rf"{state}.*{event.type}"):
        advance(state, event)


def test_table_is_about_every_job_event_once():
    assert [event for event, _, _ in TRANSITIONS] == list(JOB_EVENTS)


def test_library_offers_no_way_past_the_table():
    assert set(MACHINE.events) == {event.type for event in JOB_EVENTS}


def test_every_state_but_new_is_waiting_running_finished_or_expired():
    assert ACTIVE == WAITING | RUNNING
    groups = [WAITING, RUNNING, FINISHED, {State.NEW}, {State.EXPIRED}]
    assert sorted(state for group in groups for state in group) == sorted(State)


def test_a_finished_job_can_only_expire_and_an_expired_one_nothing():
    assert {event.type for state, event in ALLOWED if state in FINISHED} == {"job.expired"}
    assert not [event for state, event in ALLOWED if state is State.EXPIRED]


def test_every_state_can_be_reached():
    reached, before = {State.NEW}, set()
    while reached != before:
        before = set(reached)
        reached |= {dest for (source, _), dest in ALLOWED.items() if source in before}
    assert reached == set(State)


def test_diagram_draws_every_transition_of_the_table():
    drawn = {line.strip() for line in diagram().splitlines()}
    for (source, event), dest in ALLOWED.items():
        start = "[*]" if source is State.NEW else source.value
        assert f"{start} --> {dest}: {event.type}" in drawn
    assert len(drawn) == len(ALLOWED) + 2
