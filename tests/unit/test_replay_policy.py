"""Recorded work under other rules: what was known is kept, what was not is typical, the rules are the scheduler's."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from foreman.cli.replay_view import furthest_off
from foreman.clock import Micros
from foreman.errors import LogCorrupt
from foreman.events.codec import CODEC
from foreman.events.daemon import (
    DaemonStarted,
    DaemonStopped,
    ModelSwapped,
    Scheduling,
    TargetDegraded,
    TargetRecovered,
)
from foreman.events.history import StoredEvent
from foreman.events.types import CancelledBy, Event, JobCancelled, JobClass, JobRequeued, RequeueReason
from foreman.replay.policy import Waits, arrival_of, played, recorded
from foreman.replay.recording import Recording
from foreman.replay.simulation import NEVER, Discipline, Simulation
from foreman.scheduling.scheduler import Policy
from tests.core import CANCELLED, DONE, FAILED, LOADING, QUEUED, WORKING

SECOND = 1_000_000
RAN = Discipline("ran", Policy())
FIFO = Discipline("fifo", NEVER, by_model=False, by_class=False)
DRAIN = Discipline("drain", NEVER, by_class=False)
STARTED = DaemonStarted(foreman_version="1", sqlite_version="3", waiting=0, requeued=0, cancelled=0)


def of(*happened: tuple[float, str, Event]) -> Recording:
    """The recording of a log of these: second, stream, event."""
    return Recording.of(
        StoredEvent(position, stream, 0, event.type, round(at_s * SECOND), CODEC.encode(event), b"")
        for position, (at_s, stream, event) in enumerate(happened, start=1)
    )


def queued(load_key: str, job_class: JobClass = JobClass.BATCH) -> Event:
    return replace(QUEUED, model=load_key, load_key=load_key, job_class=job_class)


def loads(load_key: str) -> Event:
    return ModelSwapped(model=load_key, load_key=load_key, load_s=4.0)


#: Two models in turn, served model by model: 4 s a load, 10 s a run.
DRAINED = (
    (0, "A", queued("a")), (0, "B", queued("b")), (0, "C", queued("a")), (0, "D", queued("b")),
    (0, "A", LOADING), (4, "daemon", loads("a")), (4, "A", WORKING), (14, "A", DONE),
    (14, "C", WORKING), (24, "C", DONE),
    (24, "B", LOADING), (28, "daemon", loads("b")), (28, "B", WORKING), (38, "B", DONE),
    (38, "D", WORKING), (48, "D", DONE),
)  # fmt: skip


def test_recorded_work_is_measured_as_it_went():
    figures = recorded(of(*DRAINED))
    assert (figures.finished, figures.swaps, figures.makespan_s) == (4, 2, 48)
    assert (figures.busy_share, figures.loading_share) == (40 / 48, 8 / 48)
    assert (figures.batch.jobs, figures.batch.median_s, figures.batch.longest_s) == (4, 21, 38)
    assert figures.interactive.median_s is None


@pytest.mark.parametrize("discipline", [RAN, DRAIN])
def test_rules_that_ran_give_what_was_recorded(discipline):
    assert dataclasses.replace(played(of(*DRAINED), discipline), name="recorded") == recorded(of(*DRAINED))


def test_first_come_is_served_in_the_order_of_arrival_and_pays_a_load_for_each():
    figures = played(of(*DRAINED), FIFO)
    assert (figures.swaps, figures.makespan_s, figures.finished) == (4, 4 * 14, 4)


def test_first_come_starts_jobs_in_exactly_the_order_they_came():
    class Order:
        def __init__(self) -> None:
            self.picks: list[int] = []

        def picked(self, number: int, now: Micros, load: int, length: int) -> None:
            self.picks.append(number)

        def arrived(self, *_: object) -> None: ...
        def loaded(self, *_: object) -> None: ...
        def ended(self, *_: object) -> None: ...
        def looks(self, *_: object) -> None: ...

    order = Order()
    Simulation(played_arrivals(of(*DRAINED)), FIFO, lambda number: SECOND, order).run()
    assert order.picks == [0, 1, 2, 3]


def played_arrivals(recording: Recording) -> list:
    return [arrival_of(recording, course) for course in recording.courses]


def test_a_load_costs_what_it_is_said_to_cost():
    assert played(of(*DRAINED), RAN, {"a": 1.0}).makespan_s == 45
    assert played(of(*DRAINED), FIFO, {"a": 1.0, "b": 0.0}).makespan_s == 42


def test_job_that_is_cancelled_while_it_waits_leaves_at_its_time_and_counts_for_nothing():
    recording = of(*DRAINED[:4], (0, "E", queued("a")), *DRAINED[4:8], (10, "E", CANCELLED), *DRAINED[8:])
    assert played(recording, RAN).makespan_s == 48
    assert played(recording, RAN).finished == 4


def test_job_that_was_cancelled_before_it_ran_takes_what_is_typical_if_it_is_started_after_all():
    recording = of(
        (0, "A", queued("a")), (0, "A", LOADING), (4, "A", WORKING), (14, "A", DONE),
        (14, "B", queued("a")), (14, "C", queued("b")), (14, "C", LOADING), (18, "C", WORKING),
        (20, "B", JobCancelled(by=CancelledBy.CALLER_LEFT)), (28, "C", DONE),
    )  # fmt: skip
    figures = played(
        recording, RAN
    )  # B goes first here: its model is loaded. Its caller leaves 6 s later all the same.
    assert figures.makespan_s == 20 + 4 + 10
    assert figures.finished == 2


def test_broken_attempt_takes_its_time_and_rests_as_it_did():
    broke = JobRequeued(attempt=1, reason=RequeueReason.CONNECTION, error="x", not_before=Micros(30 * SECOND))
    recording = of(
        (0, "A", queued("a")), (0, "A", LOADING), (4, "A", WORKING), (9, "A", broke),
        (30, "A", WORKING), (40, "A", DONE),
    )  # fmt: skip
    assert played(recording, RAN).makespan_s == 40
    assert played(recording, FIFO).makespan_s == 40


def test_nothing_starts_while_the_target_or_the_daemon_is_away():
    recording = of(
        (0, "daemon", STARTED), (0, "daemon", TargetRecovered(version="1")),
        (1, "A", queued("a")), (1, "A", LOADING), (5, "A", WORKING), (15, "A", DONE),
        (16, "daemon", TargetDegraded(error="x")), (17, "B", queued("a")), (40, "daemon", TargetRecovered(version="1")),
        (40, "B", WORKING), (50, "B", DONE), (51, "daemon", DaemonStopped(waiting=0)),
        (90, "daemon", STARTED), (91, "daemon", TargetRecovered(version="1")),
        (91, "C", queued("a")), (91, "C", WORKING), (95, "C", DONE),
    )  # fmt: skip
    assert recording.shut == [(16 * SECOND, 40 * SECOND), (51 * SECOND, 91 * SECOND)]
    assert played(recording, RAN).makespan_s == recorded(recording).makespan_s == 94


def test_run_that_a_kill_cut_short_ended_with_the_life_that_it_was_in():
    interrupted = JobRequeued(attempt=0, reason=RequeueReason.INTERRUPTED, error="foreman was restarted")
    recording = of(
        (0, "daemon", STARTED), (0, "daemon", TargetRecovered(version="1")),
        (0, "A", queued("a")), (0, "A", LOADING), (4, "A", WORKING), (6, "B", queued("a")),
        (60, "A", interrupted), (60, "daemon", replace(STARTED, requeued=1)),
        (61, "daemon", TargetRecovered(version="1")), (61, "A", WORKING), (71, "A", DONE),
        (71, "B", WORKING), (81, "B", DONE),
    )  # fmt: skip
    assert recording.courses[0].attempts[0].ended == 6 * SECOND
    assert played(recording, RAN).makespan_s == recorded(recording).makespan_s == 81


def test_model_that_went_away_by_itself_is_loaded_once_more():
    recording = of(
        (0, "A", queued("a")), (0, "A", LOADING), (4, "daemon", loads("a")), (4, "A", WORKING), (14, "A", DONE),
        (900, "B", queued("a")), (900, "B", LOADING), (904, "daemon", loads("a")), (904, "B", WORKING),
        (914, "B", DONE),
    )  # fmt: skip
    assert played(recording, RAN).swaps == recorded(recording).swaps == 2


def test_model_that_was_there_before_costs_no_load():
    recording = of((5, "A", queued("a")), (5, "A", WORKING), (15, "A", DONE))
    assert (played(recording, RAN).swaps, played(recording, RAN).makespan_s) == (0, 10)


def test_starts_that_wait_for_a_load_of_another_job_are_not_late():
    two = Discipline("two", Policy(parallel=2))
    recording = of(
        (0, "A", queued("a")), (0, "B", queued("a")), (0, "C", queued("a")), (0, "D", queued("a")), (0, "A", LOADING),
        (0.8, "daemon", loads("a")), (0.8, "A", WORKING), (0.8, "B", WORKING),
        (5, "A", DONE), (5.125, "C", WORKING), (6, "B", DONE), (6, "D", WORKING), (10, "D", DONE), (10, "C", DONE),
    )  # fmt: skip
    lates = [attempt.late for course in recording.courses for attempt in course.attempts]
    assert lates == [0, 0, SECOND // 8, 0]
    assert played(recording, two).makespan_s == recorded(recording).makespan_s == 10


def test_slot_that_stays_empty_until_the_turn_is_over_makes_nobody_late():
    recording = of(
        (0, "A", queued("a")), (0, "B", queued("a")), (0, "A", WORKING), (0, "B", WORKING), (1, "C", queued("a")),
        (2, "A", DONE), (2.75, "B", DONE), (3, "C", WORKING), (4, "C", DONE),
    )  # fmt: skip
    assert recording.courses[2].attempts[0].late == SECOND // 4


def test_start_comes_as_late_after_what_allowed_it_as_it_did():
    late = of(
        (0, "A", queued("a")), (0, "B", queued("a")), (0.25, "A", WORKING), (5, "A", DONE),
        (5.5, "B", WORKING), (6, "B", DONE), (9, "C", queued("a")), (9, "C", WORKING), (10, "C", DONE),
    )  # fmt: skip
    assert late.latency == SECOND // 4
    assert dataclasses.replace(played(late, RAN), name="recorded") == recorded(late)


def test_job_that_failed_before_it_began_takes_nothing_of_the_target():
    recording = of((0, "A", queued("a")), (1, "A", FAILED), (2, "B", queued("b")), (2, "B", WORKING), (3, "B", DONE))
    for discipline in (RAN, FIFO, DRAIN):
        assert (played(recording, discipline).finished, played(recording, discipline).makespan_s) == (2, 3)


def test_load_that_broke_takes_as_long_as_it_did_and_leaves_no_model():
    broke = JobRequeued(attempt=1, reason=RequeueReason.CONNECTION, error="stalled")
    recording = of(
        (0, "A", queued("a")), (0, "B", queued("b")), (0, "A", LOADING), (300, "A", broke),
        (300, "A", LOADING), (304, "daemon", loads("a")), (304, "A", WORKING), (314, "A", DONE),
        (314, "B", LOADING), (318, "daemon", loads("b")), (318, "B", WORKING), (328, "B", DONE),
    )  # fmt: skip
    assert dataclasses.replace(played(recording, RAN), name="recorded") == recorded(recording)


def test_model_that_a_request_had_unloaded_is_loaded_for_whoever_comes_next():
    recording = of(
        (0, "A", queued("a")), (0, "B", queued("b")), (0, "C", queued("a")), (0, "A", replace(LOADING, evicts=None)),
        (4, "daemon", loads("a")), (4, "A", WORKING), (14, "A", DONE), (14, "B", replace(LOADING, evicts=None)),
        (18, "daemon", loads("b")), (18, "B", WORKING), (28, "B", DONE),
        (28, "C", LOADING), (32, "daemon", loads("a")), (32, "C", WORKING), (42, "C", DONE),
    )  # fmt: skip
    assert recording.courses[0].attempts[0].unloads
    assert dataclasses.replace(played(recording, RAN), name="recorded") == recorded(recording)


def test_run_that_an_end_of_the_daemons_cuts_short_is_whichever_runs_then():
    interrupted = JobRequeued(attempt=0, reason=RequeueReason.INTERRUPTED, error="foreman was shut down")
    recording = of(
        (0, "daemon", STARTED), (0, "daemon", TargetRecovered(version="1")),
        (0, "A", queued("a")), (0, "A", WORKING), (5, "B", queued("b")), (10, "A", DONE),
        (10, "B", LOADING), (14, "daemon", loads("b")), (14, "B", WORKING), (20, "B", interrupted),
        (21, "daemon", DaemonStopped(waiting=1)), (30, "daemon", STARTED),
        (31, "daemon", TargetRecovered(version="1")), (31, "B", WORKING), (51, "B", DONE),
    )  # fmt: skip
    assert dataclasses.replace(played(recording, RAN), name="recorded") == recorded(recording)
    # Its load takes until the end, so that nothing of it is lost, but it is loaded once more.
    assert played(recording, RAN, {"b": 60.0}).makespan_s == 31 + 60 + 20


def test_start_that_was_under_way_when_the_target_went_away_does_not_mean_that_it_is_back():
    recording = of(
        (0, "daemon", STARTED), (0, "daemon", TargetRecovered(version="1")), (0, "A", queued("a")), (0, "A", WORKING),
        (5, "B", queued("a")), (10, "A", DONE), (10, "daemon", TargetDegraded(error="x")), (10.5, "B", WORKING),
        (10.75, "B", JobRequeued(attempt=0, reason=RequeueReason.UNREACHABLE, error="x")),
        (60, "daemon", TargetRecovered(version="1")), (60, "B", WORKING), (70, "B", DONE),
    )  # fmt: skip
    assert recording.shut == [(10 * SECOND, 60 * SECOND)]


def test_each_life_of_the_daemons_is_played_by_its_own_rules():
    drained, hasty = Policy(max_wait_batch_s=0), Policy(max_wait_batch_s=0.1, swap_share=1.0)
    jobs = [(0, name, queued(key)) for name, key in zip("ABCD", "abab", strict=True)]
    recording = of(
        *jobs, *DRAINED[4:], (60, "daemon", STARTED), (60, "daemon", TargetRecovered(version="1")),
        *[(60, name + "2", event) for _, name, event in jobs], (900, "E", queued("b")),
    )  # fmt: skip
    assert played(recording, Discipline("drained", drained)).swaps == 3
    both = Discipline("ran", drained, lives=(hasty,))
    assert played(recording, both).swaps == 5


def test_log_says_by_which_rules_it_ran():
    rules = Scheduling(max_wait_s=600, max_wait_interactive_s=15, swap_share=0.5, parallel=2)
    told = replace(STARTED, scheduling=rules)
    assert of((0, "daemon", told), (9, "daemon", told)).lives == [(0, rules), (0, rules)]
    assert of((0, "daemon", told)).tells_rules
    assert not of((0, "daemon", told), (9, "daemon", STARTED)).tells_rules


def test_job_that_the_log_ends_before_is_done_where_other_rules_come_to_it_in_time():
    recording = of(
        (0, "A", queued("a")), (0, "B", queued("b")), (0, "C", queued("b")),
        (0, "A", LOADING), (4, "daemon", loads("a")), (4, "A", WORKING), (14, "A", DONE),
        (14, "B", LOADING), (18, "daemon", loads("b")), (18, "B", WORKING), (60, "D", queued("a")),
    )  # fmt: skip
    assert (recorded(recording).finished, played(recording, DRAIN).finished) == (1, 1)
    # B was at work for 42 s at least; C, of which nothing is known, takes the 10 s that A did.
    assert played(recording, DRAIN, {"b": 0.0}).finished == 2
    assert recorded(recording).busy_share == (10 + 42) / 14


def test_side_by_side_means_one_model_only():
    two = Discipline("two", dataclasses.replace(NEVER, parallel=2))
    assert played(of(*DRAINED), two).makespan_s == 2 * 14
    assert played(of(*DRAINED), dataclasses.replace(FIFO, policy=dataclasses.replace(NEVER, parallel=2))).swaps == 4


def test_log_without_jobs_has_figures_of_nothing():
    recording = of((0, "daemon", STARTED))
    assert played(recording, RAN).finished == recorded(recording).finished == 0


@pytest.mark.parametrize(
    "happened",
    [
        [(0, "A", WORKING)],
        [(0, "A", queued("a")), (1, "A", DONE)],
        [(0, "A", queued("a")), (1, "A", queued("a"))],
        [(0, "A", queued("a")), (1, "A", WORKING), (2, "A", DONE), (3, "A", CANCELLED)],
    ],
)
def test_log_that_the_state_machine_does_not_allow_is_no_recording(happened):
    with pytest.raises(LogCorrupt, match=f"event {len(happened)}: "):
        of(*happened)


def test_models_that_came_and_went_at_the_same_moment_are_taken_in_the_order_of_the_log():
    recording = of(*DRAINED)
    recording.holds = [(SECOND, "x"), (SECOND, None), (SECOND, "y")]
    assert played(recording, DRAIN).finished == 4


@pytest.mark.parametrize(
    ("makespan_s", "interactive_s", "batch_s", "worst"),
    [
        (101.0, 1.0, 2.2, "makespan"),
        (100.0, 1.0, 1.5, "batch wait, median"),
        (100.0, 3.0, 1.5, "interactive wait, median"),
        (101.0, 1.05, 2.25, "makespan"),  # nobody notices such a wait
        (101.0, None, 1.5, "batch wait, median"),
    ],
)
def test_a_simulation_is_as_good_as_the_worst_of_makespan_and_median_waits(makespan_s, interactive_s, batch_s, worst):
    def figures(makespan_s, interactive_s, batch_s):
        waits = {"interactive": Waits(jobs=1, median_s=interactive_s), "batch": Waits(jobs=1, median_s=batch_s)}
        return dataclasses.replace(recorded(of(*DRAINED)), makespan_s=makespan_s, **waits)

    real = figures(100.0, 1.0, 2.2)
    assert furthest_off(real, figures(makespan_s, interactive_s, batch_s))[0] == worst
