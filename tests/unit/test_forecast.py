"""The forecast: what it makes of measurements, of what runs, of newcomers, and of a queue too long to play through."""

from __future__ import annotations

import time
import tracemalloc
from statistics import median

import pytest
from msgspec.structs import replace

from benchmarks.eta import errors
from foreman.clock import Micros
from foreman.events.types import JobClass
from foreman.projections.queue import Queue, Waiting
from foreman.projections.statistics import Statistics
from foreman.scheduling import forecast as module
from foreman.scheduling.forecast import Running, Situation, forecast
from foreman.scheduling.lengths import UNKNOWN_LOAD, UNKNOWN_RUN, Length, Lengths
from foreman.scheduling.promises import MOST_KEPT, Promises
from foreman.scheduling.scheduler import Policy, Turn
from foreman.scheduling.timetable import Forecast
from tests.core import DONE, QUEUED, SWAPPED, recorded

BATCH, INTERACTIVE = JobClass.BATCH, JobClass.INTERACTIVE
NOW = Micros(10**15)
SECOND = 1_000_000


def measured(run_s: float = 4.0, load_s: float = 8.0, keys: str = "abc", times: int = 30) -> Statistics:
    """Statistics in which every run and load of these keys took the same."""
    statistics = Statistics()
    for key in keys:
        done = [replace(DONE, load_key=key, run_s=run_s, job_class=job_class) for job_class in JobClass]
        for _ in range(times):
            for item in recorded(replace(SWAPPED, load_key=key, load_s=load_s), *done):
                statistics.apply(item)
    return statistics


def queue_of(*jobs: str | Waiting) -> Queue:
    """A queue of batch jobs, `a1` being one of key `a`, oldest first, or of entries as they are."""
    queue = Queue()
    for order, job in enumerate(jobs, start=1):
        if isinstance(job, str):
            job = Waiting(job, job[0], BATCH, order, NOW, None)
        queue.add(job)
    queue.settle(NOW)
    return queue


def running(key: str = "a", elapsed_s: float = 0.0, *, loading: bool = False, tokens: int | None = None) -> Running:
    return Running(
        job_id="R", load_key=key, job_class=BATCH, loading=loading, elapsed_s=elapsed_s, tokens=tokens
    )  # fmt: skip


def made(queue: Queue, *runs: Running, statistics: Statistics | None = None, resident="a", **policy) -> Forecast:
    situation = Situation(now=NOW, turn=Turn(), resident=resident, running=runs)
    return forecast(queue, situation, statistics or measured(), Policy(**policy))


def starts(queue: Queue, told: Forecast) -> dict[str, float]:
    return {job.job_id: told.of(queue, job.job_id).start.expected_s for job in queue}


def test_jobs_start_one_after_the_other_and_after_their_models_load():
    queue = queue_of("a1", "b2", "a3")
    assert starts(queue, made(queue)) == pytest.approx({"a1": 0, "a3": 4, "b2": 16}, rel=0.05)


def test_two_slots_halve_the_wait():
    queue = queue_of(*(f"a{number}" for number in range(9)))
    assert starts(queue, made(queue, parallel=2))["a8"] == pytest.approx(16, rel=0.05)


def test_nothing_starts_before_a_load_is_over():
    queue = queue_of("b1")
    told = made(queue, running("b", 3.0, loading=True), parallel=2)
    assert starts(queue, told)["b1"] == pytest.approx(5, rel=0.1)
    assert told.ends["R"].expected_s == pytest.approx(9, rel=0.1)


def test_run_that_has_lasted_long_is_not_said_to_end_at_once():
    statistics = Statistics()
    for number in range(60):
        for item in recorded(replace(DONE, run_s=4.0 if number % 2 else 16.0)):
            statistics.apply(item)
    ends = [made(queue_of(), running(elapsed_s=s), statistics=statistics).ends["R"].expected_s for s in (0, 10, 60)]
    assert ends[0] == pytest.approx(10, rel=0.1)
    assert 2 < ends[1] < 10
    assert ends[2] > 2


def test_tokens_so_far_tell_more_of_the_rest_than_time_does():
    statistics = Statistics()
    for _ in range(30):
        for item in recorded(replace(DONE, run_s=10.0, generated_tokens=100, eval_duration=10 * 10**9)):
            statistics.apply(item)
    # Half of its time went by before the first token.
    slow = made(queue_of(), running(elapsed_s=10, tokens=50), statistics=statistics).ends["R"]
    assert slow.expected_s == pytest.approx(5, rel=0.1)


def test_what_was_never_measured_is_told_with_a_wide_range():
    queue = queue_of("a1", "a2", "b3")
    known, unknown = (made(queue, statistics=statistics).of(queue, "b3").start for statistics in (None, Statistics()))
    assert unknown.expected_s == 2 * UNKNOWN_RUN.mean_s + UNKNOWN_LOAD.mean_s
    assert (unknown.high_s - unknown.low_s) / unknown.expected_s > 10 * (known.high_s - known.low_s) / known.expected_s
    assert unknown.low_s == 0


def test_model_that_was_never_measured_is_taken_for_one_like_the_others():
    lengths = Lengths(measured(run_s=2.0, load_s=3.0))
    assert lengths.load("z").mean_s == pytest.approx(3.0, rel=0.05)
    assert lengths.run("z", BATCH).mean_s == pytest.approx(2.0, rel=0.1)
    assert lengths.run("z", BATCH).doubt > 10 * lengths.run("a", BATCH).doubt


def test_measurements_outweigh_the_first_guess_with_their_number():
    means = [Lengths(measured(run_s=100.0, times=times)).run("a", BATCH).mean_s for times in (1, 3, 30)]
    assert means == sorted(means)
    assert means[0] > 50
    assert means[-1] == pytest.approx(100, rel=0.01)


def test_range_grows_with_the_queue_but_less_than_the_wait_does():
    queue = queue_of(*(f"a{number}" for number in range(100)))
    near, far = (made(queue).of(queue, job).start for job in ("a4", "a99"))
    assert far.high_s - far.low_s >= near.high_s - near.low_s
    assert (far.high_s - far.low_s) / far.expected_s <= (near.high_s - near.low_s) / near.expected_s


def test_job_in_backoff_starts_when_it_is_over():
    queue = queue_of(Waiting("a1", "a", BATCH, 1, NOW, Micros(NOW + 60 * SECOND)), "a2")
    assert starts(queue, made(queue)) == pytest.approx({"a1": 60, "a2": 0}, rel=0.01)


def test_newcomers_are_foreseen_as_often_as_they_came_lately():
    statistics = measured()
    chat = replace(QUEUED, job_class=INTERACTIVE)
    # One each 8 s, and a run of 4 s: every second moment goes to them.
    for item in recorded(*[chat] * 250, at=8 * SECOND):
        statistics.apply(replace(item, at=Micros(NOW + item.at - 2_000 * SECOND)))
    queue = queue_of(*(f"a{number}" for number in range(40)))
    quiet, busy = (starts(queue, made(queue, statistics=each))["a39"] for each in (measured(), statistics))
    assert busy == pytest.approx(2 * quiet, rel=0.15)


def test_flood_of_newcomers_costs_the_forecast_no_more_than_its_bound():
    statistics = measured()
    chat = replace(QUEUED, job_class=INTERACTIVE)
    for number, (item,) in enumerate(recorded(chat) for _ in range(20_000)):
        statistics.apply(replace(item, at=Micros(NOW - 200 * SECOND + number * 10_000)))
    queue = queue_of(*(f"a{number}" for number in range(40)))
    told = made(queue, statistics=statistics)
    assert all(told.of(queue, job.job_id) is not None for job in queue)
    assert told.end_s <= 2 * module.MOST_STEPS * 4.1


def test_job_that_came_after_the_forecast_is_told_the_time_behind_the_last():
    queue = queue_of("a1", "a2", "b3")
    told = made(queue)
    queue.add(Waiting("a4", "a", BATCH, 4, NOW, None))
    queue.add(Waiting("c5", "c", BATCH, 5, NOW, None))
    assert told.of(queue, "a4").start.expected_s == pytest.approx(8, rel=0.1)
    assert told.of(queue, "c5").start.expected_s > 8
    assert not told.of(queue, "a4").exact
    assert told.of(queue, "nobody") is None


def test_turns_say_whom_a_job_waits_for_and_until_when():
    queue = queue_of("a1", "a2", "b3", "c4")
    told = made(queue)
    assert [turn.load_key for turn in told.turns] == ["a", "b", "c"]
    assert [turn.ends_s for turn in told.turns] == pytest.approx([8, 20, 32], rel=0.05)
    assert [told.of(queue, job.job_id).turn for job in queue] == [0, 0, 1, 2]


@pytest.fixture(scope="module")
def long_queue() -> Queue:
    return queue_of(*(f"{'abcd'[number % 4]}{number}" for number in range(100_000)))


def test_long_queue_is_told_in_bounded_time_and_memory(long_queue):
    told, seconds = None, []
    for _ in range(3):
        began = time.perf_counter()
        told = made(long_queue)
        seconds.append(time.perf_counter() - began)
    tracemalloc.start()
    made(long_queue)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (min(seconds) < 0.2, peak < 2_000_000) == (True, True), (seconds, peak)
    assert told.jobs == len(long_queue)


def test_far_end_of_a_long_queue_is_extrapolated_and_says_so(long_queue):
    told = made(long_queue)
    assert told.of(long_queue, "a0").exact
    spans = [told.of(long_queue, f"a{number}") for number in range(0, 100_000, 1_000)]
    expected = [eta.start.expected_s for eta in spans]
    assert expected == sorted(expected)
    assert not spans[-1].exact
    # 4 s each, and a few more for loads: those make up a tenth of the time at most.
    assert 400_000 < told.end_s < 450_000
    assert expected[-1] > 0.9 * told.end_s


def test_ten_thousand_load_keys_are_no_way_to_stop_the_daemon():
    queue = queue_of(*(Waiting(f"J{number}", f"k{number}", BATCH, number, NOW, None) for number in range(1, 10_001)))
    told = made(queue)
    etas = [told.of(queue, f"J{number}") for number in range(100, 10_001, 100)]
    assert all(eta.start.low_s <= eta.start.expected_s <= eta.start.high_s for eta in etas)
    assert len(told.turns) <= module.MOST_STEPS
    assert etas[-1].turn is None


def test_lengths_that_are_no_lengths_break_nothing():
    queue = queue_of("a1", "b2")
    told = made(queue, running(elapsed_s=10**9), statistics=measured(run_s=0.0, load_s=0.0))
    assert starts(queue, told)["b2"] >= 0
    assert Length(0.0, 0.0, 0.0).elsewhere() == Length(0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", [2, 4])
def test_median_error_of_a_simulated_day_is_under_a_quarter_and_far_under_the_naive_guess(seed):
    found = errors(seed)
    eta, naive = (median(getattr(error, what) for error in found) for what in ("eta", "naive"))
    assert len(found) > 3_000
    assert eta < 0.25
    assert naive > 2 * eta
    # The range is meant for four out of five.
    assert 0.7 < sum(error.within for error in found) / len(found) < 0.9


def test_promise_is_held_against_the_start():
    promises = Promises()
    for job_id, told_s, waited_s in (("a", 12.0, 10), ("b", 10.0, 40), ("c", 0.2, 0), ("d", 5.0, 0)):
        promises.make(job_id, NOW, told_s)
        promises.started(job_id, Micros(NOW + waited_s * SECOND))
    promises.make("e", NOW, 5.0)
    promises.forget("e")
    promises.started("e", NOW)
    # Off by a fifth, by three quarters, too short to count, and by five times the second that counts at least.
    assert (promises.count, promises.total) == (3, pytest.approx(0.2 + 0.75 + 5.0))
    assert promises.counts == [0, 0, 1, 0, 1, 0, 1, 0]


def test_promises_take_bounded_memory():
    promises = Promises()
    for number in range(MOST_KEPT):
        assert not promises.full
        promises.make(str(number), NOW, 1.0)
    assert promises.full


@pytest.mark.parametrize("counts", [(10, 10, -20), (0, 0, 0), (10, 10, 10**18), (2**63, 2**63, 2**63)])
def test_counts_that_make_no_sense_leave_a_forecast_by_time(counts):
    statistics = Statistics()
    for tokens in counts:
        for item in recorded(replace(DONE, run_s=10.0, generated_tokens=tokens, eval_duration=10**9)):
            statistics.apply(item)
    end = made(queue_of("a1"), running(elapsed_s=1, tokens=5), statistics=statistics).ends["R"]
    assert 0 <= end.expected_s <= 7 * 86_400
