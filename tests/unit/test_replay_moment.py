"""What a log says of a moment is what was so at that moment."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from foreman.clock import Micros
from foreman.commands.recovery import recover
from foreman.commands.types import CancelJob, ExpireJob, FinishJob, Note, RequeueJob, StartLoading, StartWorking
from foreman.errors import LogCorrupt, RequestInvalid
from foreman.events.codec import CODEC
from foreman.events.daemon import DaemonStopped, Scheduling, TargetDegraded
from foreman.events.history import History, StoredEvent
from foreman.events.types import CancelledBy, JobClass, RequeueReason
from foreman.fsm.job import State
from foreman.projections.job import Metrics
from foreman.projections.work import Work
from foreman.replay.moment import moment, parse_until
from foreman.storage.still import still
from tests.core import DEGRADED, Core, HandClock, open_core, opened, recorded, submit

ZONE = timezone(timedelta(hours=2))
RULES = Scheduling(max_wait_s=600, max_wait_interactive_s=15, swap_share=0.1, parallel=1)
NOW = datetime(2026, 11, 22, 14, 30, tzinfo=ZONE)


def picture(work: Work, now: Micros) -> tuple[dict, dict]:
    """Who waits and who runs; what is kept of a running job's last backoff says nothing."""
    work.queue.settle(now)
    running = {job_id: (entry.load_key, entry.order, entry.queued_at) for job_id, entry in work.running.items()}
    return {entry.job_id: entry for entry in work.queue}, running


async def step(core: Core, dice: random.Random) -> None:
    """Something happens to some job, or to a new one."""
    waiting = [entry.job_id for entry in core.ledger.work.queue]
    running = list(core.ledger.work.running)
    core.clock.at += dice.randint(0, 3_000_000)
    if running and dice.random() < 0.6:
        job_id = dice.choice(running)
        back = RequeueJob(
            job_id=job_id,
            reason=RequeueReason.CONNECTION,
            error="it broke",
            not_before=dice.choice([None, Micros(core.clock.at + 5_000_000)]),
        )
        ended = FinishJob(job_id=job_id, metrics=Metrics())
        await core.do(dice.choice([StartWorking(job_id=job_id), ended, back, back]))
    elif waiting and dice.random() < 0.6:
        job_id = dice.choice(waiting)
        leaves = CancelJob(job_id=job_id, by=CancelledBy.API)
        starts = [StartLoading(job_id=job_id, evicts=None), StartWorking(job_id=job_id)]
        await core.do(dice.choice([leaves, *starts, *starts]))
    else:
        await core.do(submit(load_key=dice.choice("abc"), job_class=dice.choice(list(JobClass))))


async def live(core: Core, dice: random.Random, seen: dict[int, tuple[Micros, tuple[dict, dict]]]) -> None:
    """One life of a daemon's, and what was seen of it; sometimes contents expire, and the clock leaps back."""
    latest = max((now for now, _ in seen.values()), default=core.clock.now())
    await recover(core.ledger, core.unfinished, RULES)
    for _ in range(90):
        await step(core, dice)
        over = await core.database.read("SELECT job_id FROM jobs WHERE state IN ('done', 'cancelled', 'failed')")
        if over and dice.random() < 0.1:
            await core.do(ExpireJob(job_id=dice.choice(over)[0]))
        latest = Micros(max(latest, core.clock.now()))  # whose backoff was over is ready, whatever the clock says since
        seen[core.ledger.feed.position] = (latest, picture(core.ledger.work, latest))
        if dice.random() < 0.02:
            core.clock.at -= 20_000_000


async def test_state_at_random_positions_and_times_is_the_one_that_was_seen_live(tmp_path):
    """Over a daemon that is killed again and again, and stopped at last."""
    dice, seen, clock = random.Random(4), {}, HandClock()
    for _ in range(5):
        core = await open_core(tmp_path / "foreman.db", clock)
        await live(core, dice, seen)
        await core.crash()
        clock.at += 60_000_000
    with still(tmp_path / "foreman.db") as file:
        events = list(History(file).events())
        for position in dice.sample(sorted(seen), 100):
            now, expected = seen[position]
            found = moment(events, position, is_time=False)
            assert picture(found.work(), now) == expected
            assert len(found.jobs) == len(expected[0]) + len(expected[1])
        for at in (dice.choice(events).at + dice.randint(-1, 1) for _ in range(100)):
            before = next((event.position for event in events if event.at > at), events[-1].position + 1) - 1
            assert moment(events, at, is_time=True).position == before


async def test_moment_after_the_last_sign_of_a_life_that_was_killed_says_so(tmp_path):
    core = await open_core(tmp_path / "foreman.db")
    await core.do(submit("A"))
    await core.do(StartWorking(job_id="A"))
    last = core.clock.now()
    await core.crash()
    async with opened(tmp_path, HandClock(last + 60_000_000)) as core:
        await recover(core.ledger, core.unfinished, RULES)
        core.clock.at += 5_000_000
        await core.do(Note(event=DaemonStopped(waiting=1)))
    with still(tmp_path / "foreman.db") as file:
        events = list(History(file).events())
    assert moment(events, last + 30_000_000, is_time=True).died_before == last + 60_000_000
    assert moment(events, last + 62_000_000, is_time=True).died_before is None
    assert moment(events, 2, is_time=False).died_before is None
    assert moment(events[:2], last + 30_000_000, is_time=True).died_before is None


def test_target_is_away_since_it_went_though_a_start_says_it_once_more():
    away = [replace(item, stream="daemon") for item in recorded(DEGRADED, DEGRADED)]
    found = moment(
        (
            StoredEvent(item.position, "daemon", 0, item.event.type, item.at, CODEC.encode(item.event), b"")
            for item in away
        ),
        9,
        is_time=False,
    )
    assert found.target_away_since == away[0].at


async def test_moment_names_what_ran_what_waited_in_order_and_what_was_over(tmp_path):
    async with opened(tmp_path) as core:
        await core.do(submit("A", "B"), submit("C", load_key="z"), submit("D", job_class=JobClass.INTERACTIVE))
        await core.do(StartWorking(job_id="A"), CancelJob(job_id="B", by=CancelledBy.API), submit("E"))
        noon = core.clock.now()
        core.clock.at += 60_000_000
        await core.do(FinishJob(job_id="A", metrics=Metrics()), Note(event=TargetDegraded(error="x")))
        await core.do(Note(event=DaemonStopped(waiting=3)))
    with still(tmp_path / "foreman.db") as file:
        found = moment(History(file).events(), noon, is_time=True)
        assert {key: [job.job_id for job in jobs] for key, jobs in found.waiting().items()} == {
            "z": ["C"],
            "a": ["D", "E"],
        }
        assert [job.job_id for job in found.jobs.values() if job.state is State.WORKING] == ["A"]
        assert (found.finished, found.stopped_since) == ({State.CANCELLED: 1}, None)
        last = moment(History(file).events(), 10**18, is_time=True)
        assert (last.stopped_since, last.target_away_since) == (last.at, last.at)
        assert moment(History(file).events(), 0, is_time=False).at is None


async def test_event_of_a_job_that_never_came_is_named(tmp_path):
    async with opened(tmp_path) as core:
        await core.submitted("A")
        await core.do(CancelJob(job_id="A", by=CancelledBy.API))
    with still(tmp_path / "foreman.db") as file:
        _, second = History(file).events()
    with pytest.raises(LogCorrupt, match="event 2: A"):
        moment([second], 2, is_time=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14:02", "2026-11-22T14:02:00+02:00"),
        ("15:00:30", "2026-11-21T15:00:30+02:00"),
        ("9:05", "2026-11-22T09:05:00+02:00"),
        ("2026-11-22T14:02:00Z", "2026-11-22T14:02:00+00:00"),
        ("2026-11-20 08:00", "2026-11-20T08:00:00+02:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_times_are_read_as_people_write_them(text, expected):
    assert parse_until(text, NOW) == (round(datetime.fromisoformat(expected).timestamp() * 1_000_000), True)


def test_time_without_a_zone_is_of_the_season_that_it_lies_in():
    program = (
        "from datetime import datetime; from foreman.replay.moment import parse_until;"
        "print([parse_until(text, datetime(2026, 11, 22))[0] for text in ('2026-07-01 12:00', '2026-11-01 12:00')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TZ": "CET-1CEST,M3.5.0,M10.5.0/3"},
        capture_output=True,
        check=True,
    )
    expected = [datetime(2026, 7, 1, 10, tzinfo=UTC), datetime(2026, 11, 1, 11, tzinfo=UTC)]
    assert json.loads(said.stdout) == [round(at.timestamp() * 1_000_000) for at in expected]


def test_number_is_a_position():
    assert parse_until("12345", NOW) == (12_345, False)


@pytest.mark.parametrize("text", ["", "noon", "25:00", "14:60", "-3", "14:02:61", "²", "1" * 5_000])
def test_what_is_no_time_is_refused_with_examples(text):
    with pytest.raises(RequestInvalid, match="14:02"):
        parse_until(text, NOW)
