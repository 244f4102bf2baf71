"""The rules: given events, when a command, then these events or this error. No database, no loop."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.commands.batch import Batch
from foreman.commands.decide import _RULES, MAX_INTERRUPTIONS, Known, decide
from foreman.commands.types import (
    CancelJob,
    ExpireJob,
    FailJob,
    FinishJob,
    Note,
    RecordAttempt,
    Redeliver,
    RequeueJob,
    StartLoading,
    StartWorking,
)
from foreman.errors import IdempotencyMismatch, IllegalTransition, JobNotFound, QueueFull
from foreman.errors import JobExpired as Expired
from foreman.events.codec import GENESIS
from foreman.events.types import (
    CancelledBy,
    JobCancelled,
    JobDone,
    JobExpired,
    JobFailed,
    JobLoading,
    JobRequeued,
    JobWorking,
    Position,
    RequeueReason,
)
from foreman.fsm.job import State, allows
from foreman.projections.job import Job, Metrics
from foreman.projections.keys import KnownKey
from foreman.projections.outbox import Attempt, Attempted, Dropped, Revived, Status, Told
from tests.core import (
    ANSWER,
    BODY,
    CANCELLED,
    DEGRADED,
    DONE,
    HISTORIES,
    LOADING,
    QUEUED,
    REQUEUED,
    SELECTIVE,
    STREAM,
    WEBHOOK,
    WORKING,
    job_after,
    submit,
)

CALLER = CancelledBy.CALLER_LEFT
CONNECTION, UNREACHABLE, INTERRUPTED = RequeueReason.CONNECTION, RequeueReason.UNREACHABLE, RequeueReason.INTERRUPTED
NOW = Micros(10_000_000)

#: Each command about one job, and the event it makes of a job that may have it.
COMMANDS = {
    StartLoading(job_id="J", evicts="b"): JobLoading,
    StartWorking(job_id="J"): JobWorking,
    RequeueJob(job_id="J", reason=CONNECTION, error="x"): JobRequeued,
    RequeueJob(job_id="J", reason=UNREACHABLE, error="x"): JobRequeued,
    RequeueJob(job_id="J", reason=INTERRUPTED, error="x"): JobRequeued,
    FinishJob(job_id="J", metrics=Metrics()): JobDone,
    FailJob(job_id="J", error="x", code="y"): JobFailed,
    CancelJob(job_id="J", by=CancelledBy.API): JobCancelled,
    ExpireJob(job_id="J"): JobExpired,
}
ATTEMPTED = Attempted(
    job_id="J", position=Position(1), attempt=Attempt(at=NOW, duration=5, status=200), status=Status.DELIVERED
)
#: Commands about a job's deliveries, which make no event.
ABOUT_DELIVERIES = (
    RecordAttempt(job_id="J", attempted=ATTEMPTED),
    Redeliver(job_id="J", positions=(Position(1), Position(2))),
)
TOLD = replace(QUEUED, webhook=WEBHOOK)
#: Those that ask for nothing if it is too late, instead of being refused.
LENIENT = (CancelJob, ExpireJob)


def known(*jobs: Job | None, room: int = 100, keys: dict[str, KnownKey] | None = None) -> Known:
    return Known(now=NOW, room=room, jobs={job.job_id: job for job in jobs if job}, keys=keys or {})


def when(command, *history, **facts):
    """The decision on job J after these events."""
    return decide(command, known(job_after(*history), **facts))


def event_of(command, *history):
    """The one event that the command makes of job J."""
    ((stream, event),) = when(command, *history).events
    assert stream == "J"
    return event


def batch_with(job: Job | None) -> Batch:
    jobs = {} if job is None else {job.job_id: job}
    return Batch(now=NOW, position=Position(50), hash=GENESIS, daemon_version=0, room=9, jobs=jobs)


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
@pytest.mark.parametrize(("command", "event"), COMMANDS.items(), ids=lambda value: type(value).__name__)
def test_command_is_carried_out_or_refused_as_the_table_says(state, command, event):
    batch = batch_with(job_after(*HISTORIES[state]))
    if allows(state, event):
        (made,) = batch.carry_out(command).recorded
        assert isinstance(made.event, event)
    elif isinstance(command, LENIENT):
        outcome = batch.carry_out(command)
        assert (outcome.recorded, outcome.jobs[0].state) == ((), state)
    else:
        with pytest.raises(IllegalTransition):
            batch.carry_out(command)
        assert (batch.position, batch.recorded, batch.touched) == (50, [], set())


@pytest.mark.parametrize("command", [*COMMANDS, *ABOUT_DELIVERIES], ids=lambda command: type(command).__name__)
def test_command_about_an_unknown_job_says_so(command):
    with pytest.raises(JobNotFound, match="there is no job J"):
        when(command)


def test_every_command_about_a_job_is_tested_here():
    assert {type(command) for command in (*COMMANDS, *ABOUT_DELIVERIES)} == set(_RULES)


def test_note_records_an_event_of_the_daemons_own():
    decision = when(Note(event=DEGRADED))
    assert (decision.answer, decision.events) == ((), (("daemon", DEGRADED),))


def test_submission_queues_every_job_with_its_body():
    command = submit("A", "B")
    decision = decide(command, known())
    assert decision.answer == ("A", "B")
    assert decision.events == (("A", QUEUED), ("B", QUEUED))
    assert decision.artifacts == (("A", BODY), ("B", BODY))
    assert not decision.repeated


def test_batch_that_fits_exactly_is_queued_whole():
    assert len(decide(submit("A", "B"), known(room=2)).events) == 2


@pytest.mark.parametrize("room", [1, 0, -1])
def test_batch_that_does_not_fit_is_refused_whole(room):
    with pytest.raises(QueueFull):
        decide(submit("A", "B"), known(room=room))


def test_repeated_key_answers_with_the_jobs_it_made():
    keys = {"k": KnownKey(fingerprint="f", job_ids=("A", "B"))}
    decision = decide(submit("C", "D", key="k"), known(keys=keys))
    assert (decision.answer, decision.events, decision.repeated) == (("A", "B"), (), True)


def test_repeated_key_is_answered_even_if_the_queue_is_full():
    keys = {"k": KnownKey(fingerprint="f", job_ids=("A",))}
    assert decide(submit("C", key="k"), known(keys=keys, room=0)).repeated


def test_key_with_another_request_is_refused():
    keys = {"k": KnownKey(fingerprint="other", job_ids=("A",))}
    with pytest.raises(IdempotencyMismatch):
        decide(submit("C", key="k"), known(keys=keys))


def test_other_key_is_a_new_job():
    keys = {"k": KnownKey(fingerprint="f", job_ids=("A",))}
    assert decide(submit("C", key="other"), known(keys=keys)).answer == ("C",)


def test_loading_begins_the_next_attempt_and_says_what_it_evicts():
    command = StartLoading(job_id="J", evicts="b")
    assert event_of(command, QUEUED) == JobLoading(attempt=1, evicts="b")
    assert event_of(command, QUEUED, LOADING, REQUEUED) == JobLoading(attempt=2, evicts="b")


def test_working_without_a_load_begins_an_attempt_and_counts_the_wait():
    # Queued at 1 s; it is 10 s now.
    assert event_of(StartWorking(job_id="J"), QUEUED) == JobWorking(attempt=1, waited_s=9.0, swapped=False)


def test_working_after_a_load_is_the_same_attempt_and_its_wait_ended_with_the_load():
    event = event_of(StartWorking(job_id="J", swapped=True, load_s=4.0), QUEUED, LOADING)
    assert event == JobWorking(attempt=1, waited_s=1.0, swapped=True, load_s=4.0)


def test_work_after_a_broken_load_begins_a_new_attempt():
    assert event_of(StartWorking(job_id="J"), QUEUED, LOADING, REQUEUED).attempt == 2


def test_clock_set_back_makes_no_negative_wait():
    job = replace(job_after(QUEUED), created_at=Micros(NOW + 5_000_000))
    ((_, event),) = decide(StartWorking(job_id="J"), known(job)).events
    assert event.waited_s == 0.0


@pytest.mark.parametrize(("reason", "spent"), [(CONNECTION, 1), (UNREACHABLE, 0), (INTERRUPTED, 0)], ids=str)
def test_only_a_broken_connection_costs_an_attempt(reason, spent):
    command = RequeueJob(job_id="J", reason=reason, error="it broke", not_before=Micros(5))
    assert event_of(command, QUEUED, WORKING) == JobRequeued(
        attempt=spent, reason=reason, error="it broke", not_before=Micros(5)
    )


def test_job_fails_when_its_last_attempt_breaks():
    command = RequeueJob(job_id="J", reason=CONNECTION, error="it broke")
    event = event_of(command, replace(QUEUED, max_attempts=2), replace(WORKING, attempt=2))
    assert event == JobFailed(attempt=2, error="it broke (attempt 2 of 2)", code="attempts_exhausted")


def test_absent_target_does_not_fail_a_job_on_its_last_attempt():
    command = RequeueJob(job_id="J", reason=UNREACHABLE, error="x")
    assert event_of(command, replace(QUEUED, max_attempts=1), WORKING).attempt == 0


@pytest.mark.parametrize(("before", "event"), [(MAX_INTERRUPTIONS - 1, JobRequeued), (MAX_INTERRUPTIONS, JobFailed)])
def test_job_fails_when_it_was_running_at_too_many_crashes(before, event):
    interrupted = replace(REQUEUED, reason=INTERRUPTED)
    history = [QUEUED, *[WORKING, interrupted] * before, WORKING]
    made = event_of(RequeueJob(job_id="J", reason=INTERRUPTED, error="foreman was restarted"), *history)
    assert isinstance(made, event)
    assert getattr(made, "code", "interrupted_too_often") == "interrupted_too_often"


def test_answer_is_recorded_with_its_figures_and_kept_with_its_bytes():
    metrics = Metrics(**{name: getattr(DONE, name) for name in Metrics.__struct_fields__})
    decision = when(FinishJob(job_id="J", metrics=metrics, artifacts=(ANSWER,)), QUEUED, WORKING)
    assert decision.events == (("J", DONE),)
    assert decision.artifacts == (("J", ANSWER),)


def test_failure_is_recorded_with_the_targets_status():
    command = FailJob(job_id="J", error="no", code="target_refused", status=404)
    event = event_of(command, QUEUED, WORKING)
    assert event == JobFailed(attempt=1, error="no", code="target_refused", status=404)


def test_cancel_says_by_whom():
    assert event_of(CancelJob(job_id="J", by=CancelledBy.SHUTDOWN), QUEUED) == JobCancelled(by=CancelledBy.SHUTDOWN)


def test_expiry_removes_the_request_and_every_artifact():
    done = replace(DONE, artifacts=(ANSWER.ref, STREAM.ref))
    decision = when(ExpireJob(job_id="J"), QUEUED, WORKING, done)
    assert decision.events == (("J", JobExpired(removed=("request", "completion", "stream"))),)
    assert decision.emptied == ("J",)


def test_commands_of_one_batch_see_what_those_before_them_did():
    batch = batch_with(None)
    batch.carry_out(submit("A", key="k"))
    batch.carry_out(StartWorking(job_id="A"))
    assert batch.carry_out(submit("B", key="k")).jobs[0].job_id == "A"
    assert [item.event.type for item in batch.recorded] == ["job.queued", "job.working"]
    assert [item.position for item in batch.recorded] == [51, 52]
    assert batch.room == 8


def test_batch_with_one_id_twice_is_refused_whole():
    batch = batch_with(None)
    with pytest.raises(IllegalTransition):
        batch.carry_out(submit("A", "B", "A"))
    assert (batch.position, batch.jobs, batch.keys, batch.room) == (50, {}, {}, 9)


def told_by(job: Job | None, *commands) -> list[tuple[int, str]]:
    """Version and receiver of every event that these commands make somebody hear of."""
    batch = batch_with(job)
    for command in commands:
        batch.carry_out(command)
    return [(change.version, change.receiver) for change in batch.outbox if isinstance(change, Told)]


def test_every_event_of_a_job_with_a_webhook_is_told_in_its_order():
    commands = [StartLoading(job_id="A", evicts=None), StartWorking(job_id="A"), CancelJob(job_id="A", by=CALLER)]
    assert told_by(None, submit("A", webhook=WEBHOOK), *commands) == [
        (version, "hooks.example:80") for version in (1, 2, 3, 4)
    ]
    assert told_by(None, submit("A"), *commands) == []


def test_receiver_that_chose_states_hears_of_those_and_of_the_last_one_in_any_case():
    commands = [StartLoading(job_id="A", evicts=None), StartWorking(job_id="A"), CancelJob(job_id="A", by=CALLER)]
    assert told_by(None, submit("A", webhook=SELECTIVE), *commands) == [
        (1, "other.example:443"),
        (4, "other.example:443"),
    ]
    silent = replace(SELECTIVE, events=())
    assert told_by(None, submit("A", webhook=silent), *commands) == [(4, "other.example:443")]


def test_removal_by_age_is_told_nobody_and_takes_the_deliveries_along():
    batch = batch_with(job_after(TOLD, CANCELLED))
    batch.carry_out(ExpireJob(job_id="J"))
    assert batch.outbox == [Dropped(job_id="J")]
    assert when(ExpireJob(job_id="J"), QUEUED, CANCELLED).outbox == ()


def test_refused_command_tells_nobody():
    batch = batch_with(job_after(TOLD, CANCELLED))
    with pytest.raises(IllegalTransition):
        batch.carry_out(StartWorking(job_id="J"))
    assert batch.outbox == []
    assert batch.is_empty


def test_secret_of_a_job_is_kept_apart_from_its_event():
    decision = decide(submit("A", webhook=WEBHOOK, secret="k3y"), known())
    assert decision.secrets == (("A", "k3y"),)
    assert "k3y" not in repr(decision.events)
    assert decide(submit("A", webhook=WEBHOOK), known()).secrets == ()


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
def test_attempt_is_recorded_whatever_has_become_of_the_job(state):
    first, *later = HISTORIES[state]
    decision = when(RecordAttempt(job_id="J", attempted=ATTEMPTED), replace(first, webhook=WEBHOOK), *later)
    assert (decision.answer, decision.events, decision.outbox) == (("J",), (), (ATTEMPTED,))


def test_redelivery_is_begun_anew_for_the_jobs_receiver():
    decision = when(Redeliver(job_id="J", positions=(Position(1), Position(3))), TOLD, WORKING, DONE)
    assert (decision.answer, decision.events) == (("J",), ())
    assert decision.outbox == (Revived(job_id="J", receiver="hooks.example:80", positions=(1, 3), at=NOW),)


def test_job_that_tells_nobody_has_nothing_to_deliver_again():
    decision = when(Redeliver(job_id="J", positions=(Position(1),)), QUEUED, CANCELLED)
    assert (decision.answer, decision.outbox) == (("J",), ())


@pytest.mark.parametrize("webhook", [WEBHOOK, None], ids=["with a webhook", "without"])
def test_expired_job_has_nothing_left_to_deliver_again(webhook):
    first, *later = HISTORIES[State.EXPIRED]
    with pytest.raises(Expired):
        when(Redeliver(job_id="J", positions=(Position(1),)), replace(first, webhook=webhook), *later)
