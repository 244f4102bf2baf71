"""Retries by the clock, which only the test moves: when a delivery is made again, when it is given up, what is kept."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest

from foreman.events.feed import OUTBOX
from foreman.webhooks.schedule import BACKOFF_S, DAY, JITTER
from tests.core import HandClock
from tests.fakes.receiver import Receiver, answer, gone, hold, redirect, too_many
from tests.integration.webhook_kit import (
    ONLY_QUEUED,
    attempts,
    failed,
    lane,
    look_again,
    on_record,
    settled,
    telling,
)

SECOND = 1_000_000
#: A moment in whole seconds, so that a date can name it.
NOON = 1_800_000_000


@asynccontextmanager
async def held(path, **members):
    """A foreman by the hand's clock, and a job of which `queued` is told but nothing after it as long as this lasts."""
    clock = HandClock(NOON * SECOND)
    async with telling(path, clock) as (fake, receiver, foreman):
        with fake.hold("a", at="load"):
            yield clock, receiver, foreman


async def wait_until_due(clock, foreman, job_id) -> float:
    """Move the clock to where the first delivery of the job is due; the seconds. Before that it is not made."""
    waiting = lane(foreman, job_id)
    wait_s = (waiting.head.due - clock.at) / SECOND
    clock.at = waiting.head.due - 1
    await look_again(foreman)
    assert not waiting.taken
    clock.at += 1
    await look_again(foreman)
    return wait_s


async def test_each_wait_of_the_schedule_in_turn_then_it_is_dead_and_the_next_one_goes(tmp_path):
    async with held(tmp_path) as (clock, receiver, foreman):
        receiver.behave(*[answer(503)] * 12)
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        for failures, least_s in enumerate(BACKOFF_S, 1):
            await failed(foreman, job_id, failures)
            assert least_s <= await wait_until_due(clock, foreman, job_id) <= least_s * (1 + JITTER)
        arrivals = await receiver.wait_for(13)
        assert [arrival.event[1] for arrival in arrivals] == [1] * 12 + [2]
        assert len({arrival.id for arrival in arrivals[:12]}) == 1
        await settled(foreman)
        dead, delivered = await on_record(foreman, job_id)
        assert (dead["state"], dead["attempt_count"], len(dead["attempts"])) == ("dead", 12, 12)
        assert (delivered["state"], delivered["attempt_count"]) == ("delivered", 1)
        listed = (await foreman.client.get("/deliveries", params={"state": "dead"})).json()["deliveries"]
        assert [item["id"] for item in listed] == [f"{job_id}-1"]


@pytest.mark.parametrize(
    ("asked", "least_s"),
    [
        ("90", 90),
        (formatdate(NOON + 3_600, usegmt=True), 3_600),
        (str(10 * DAY), DAY),
        (formatdate(NOON + 10 * DAY, usegmt=True), DAY),
        (formatdate(NOON - 60, usegmt=True), 1),
        ("0", 1),
        ("-5", 1),
        ("soon", 1),
        ("1e9", 1),
        ("Mon, 32 Foo 2026 99:99:99 GMT", 1),
    ],
    ids=["seconds", "date", "many-seconds", "late-date", "past", "zero", "negative", "word", "exponent", "no-date"],
)
async def test_what_a_receiver_asks_for_is_waited_for(tmp_path, asked, least_s):
    async with held(tmp_path) as (clock, receiver, foreman):
        receiver.behave(too_many(asked))
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        await failed(foreman, job_id)
        assert least_s <= await wait_until_due(clock, foreman, job_id) <= least_s * (1 + JITTER)
        await settled(foreman)
        assert [arrival.id for arrival in receiver.arrivals] == [f"{job_id}-1"] * 2


async def test_gone_ends_the_jobs_lane_and_nobody_elses(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        receiver.behave(gone())
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        await receiver.wait_for(1)  # else the other's may come first
        other = await foreman.submit("a", state_webhook_url=receiver.url)
        await foreman.until_finished(job_id, other)
        await settled(foreman)
        first = await on_record(foreman, job_id)
        assert [(item["state"], item["attempt_count"]) for item in first] == [("gone", 1)] + [("gone", 0)] * 3
        assert [item["state"] for item in await on_record(foreman, other)] == ["delivered"] * 3
        assert [arrival.event for arrival in receiver.arrivals if arrival.event[0] == job_id] == [(job_id, 1)]


async def test_one_that_is_gone_is_made_once_somebody_asks_for_it(tmp_path):
    async with held(tmp_path) as (clock, receiver, foreman):
        receiver.behave(gone())
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        await foreman.client.delete(f"/jobs/{job_id}")
        await settled(foreman)
        assert [item["state"] for item in await on_record(foreman, job_id)] == ["gone", "gone"]
        receiver.behave(answer(500))
        last = (await on_record(foreman, job_id))[1]["id"]
        answered = await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver", json={"id": last})
        assert answered.json() == {"redelivered": 1}
        await failed(foreman, job_id)
        await wait_until_due(clock, foreman, job_id)
        await settled(foreman)
        assert [item["state"] for item in await on_record(foreman, job_id)] == ["gone", "delivered"]
        assert [arrival.id for arrival in receiver.arrivals] == [f"{job_id}-1", last, last]


async def test_a_redirect_is_not_followed_and_shows_where_it_led(tmp_path):
    async with held(tmp_path) as (clock, receiver, foreman), Receiver() as other:
        places = ("http://169.254.169.254/latest/meta-data/", other.url, "/elsewhere")
        receiver.behave(*(redirect(place, status) for place, status in zip(places, (302, 307, 301), strict=True)))
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        for failures in range(1, 4):
            await failed(foreman, job_id, failures)
            await wait_until_due(clock, foreman, job_id)
        await settled(foreman)
        *refused, taken = await attempts(foreman, job_id)
        assert [(item["status"], item["error"]) for item in refused] == [
            (status, f"the receiver answered {status}; redirects are not followed (to {place})")
            for place, status in zip(places, (302, 307, 301), strict=True)
        ]
        assert (taken["status"], taken["error"], other.connections) == (200, None, 0)
        assert {arrival.path for arrival in receiver.arrivals} == {"/hook"}


async def test_an_attempt_is_kept_with_address_status_time_reply_and_error(tmp_path):
    async with held(tmp_path) as (_, receiver, foreman):
        receiver.behave(answer(500, b"x" * 3_000))
        url = receiver.url_for("localhost")
        job_id = await foreman.submit("a", state_webhook_url=url, **ONLY_QUEUED)
        await failed(foreman, job_id)
        (attempt,) = await attempts(foreman, job_id)
        assert attempt == {
            "at": "2027-01-15T08:00:00.000000Z",
            "address": f"127.0.0.1:{receiver.port}",
            "status": 500,
            "milliseconds": 0,
            "reply": "x" * 1_024,
            "error": "the receiver answered 500",
        }
        (shown,) = await on_record(foreman, job_id)
        assert (shown["state"], shown["ended_at"], shown["receiver"]) == ("pending", None, f"localhost:{receiver.port}")
        assert "2027-01-15T08:00:01" <= shown["next_attempt_at"] <= "2027-01-15T08:00:01.200000Z"


async def test_redelivered_ones_start_anew_and_go_in_order(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        await receiver.wait_for(4)
        await settled(foreman)
        answered = await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver")
        assert answered.json() == {"redelivered": 4}
        await receiver.wait_for(8)
        assert [arrival.event[1] for arrival in receiver.arrivals] == [1, 2, 3, 4] * 2
        await settled(foreman)
        assert [item["attempt_count"] for item in await on_record(foreman, job_id)] == [2] * 4


async def test_what_waits_is_sent_at_once_if_somebody_asks_for_it(tmp_path):
    async with held(tmp_path) as (_, receiver, foreman):
        receiver.behave(too_many(DAY))
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        await failed(foreman, job_id)
        answered = await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver", json={"state": "pending"})
        assert answered.json() == {"redelivered": 1}
        await settled(foreman)
        (shown,) = await on_record(foreman, job_id)
        assert (shown["state"], [item["status"] for item in shown["attempts"]]) == ("delivered", [429, 200])


async def test_a_clock_that_is_put_back_by_years_stalls_nobody(tmp_path):
    async with held(tmp_path) as (clock, receiver, foreman):
        receiver.behave(answer(503))
        waiting = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        await failed(foreman, waiting)
        clock.at -= 10 * 365 * DAY * SECOND
        new = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        await settled(foreman)
        assert sorted(arrival.event[0] for arrival in receiver.arrivals) == sorted([waiting, waiting, new])


async def test_an_overdue_retry_goes_before_what_was_told_since(tmp_path):
    async with held(tmp_path) as (clock, receiver, foreman):
        receiver.behave(answer(503))
        waiting = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        await failed(foreman, waiting)
        # Nothing is sent to it while four hang there, and new jobs keep coming.
        gate = asyncio.Event()
        receiver.behave(*[hold(gate)] * 4)
        for _ in range(4):
            await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        await receiver.wait_for(5)
        clock.at = lane(foreman, waiting).head.due + SECOND
        for _ in range(8):
            await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
        gate.set()
        await settled(foreman)
        # Four are begun at a time, and arrive in any order.
        assert [arrival.event[0] for arrival in receiver.arrivals].index(waiting, 1) < 5 + 4


async def test_a_receiver_that_wavers_makes_a_pair_of_lines_a_minute(tmp_path, capsys):
    async with held(tmp_path) as (clock, receiver, foreman):

        async def waver(status: int) -> None:
            """An attempt that fails, and a second later one that does not."""
            receiver.behave(answer(status))
            job_id = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
            await failed(foreman, job_id)
            clock.at = lane(foreman, job_id).head.due
            foreman.foreman.ledger.feed.wake(OUTBOX)
            await settled(foreman)

        def lines() -> list[str]:
            """What was said since the last time."""
            return [line for line in capsys.readouterr().out.splitlines() if "webhook." in line]

        await waver(500)
        failing, recovered = lines()
        assert "webhook.failing" in failing
        assert "the receiver answered 500" in failing
        assert "webhook.recovered" in recovered
        assert "count=1" in recovered
        assert "duration_s=1" in recovered
        for _ in range(20):
            await waver(500)
        assert [line for line in lines() if "webhook.failing" in line] == []
        clock.at += 60 * SECOND
        await waver(502)
        (failing, _) = lines()
        assert "the receiver answered 502" in failing
