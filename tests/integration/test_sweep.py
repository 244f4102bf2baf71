"""Retention: a job's contents go, its history stays, and the file gives the room back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from foreman.clock import Micros, SystemClock
from foreman.events.feed import OUTBOX
from foreman.fsm.job import State
from foreman.projections.outbox import Outbox
from tests.core import HandClock
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer, hold
from tests.kit import PATIENCE_S, Running, running

LONG = "word " * 20_000
HOUR = 3_600_000_000


class Leaping(SystemClock):
    """A clock that can be set ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0

    def now(self) -> Micros:
        return Micros(super().now() + self.ahead_s * 1_000_000)


async def test_finished_job_expires_after_its_time_and_not_before(tmp_path):
    clock = Leaping()
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, clock=clock, job_ttl="1h") as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_state(job_id, State.DONE)
        clock.ahead_s = 3_599
        assert await foreman.foreman.sweeper.sweep() == 0
        assert (await foreman.client.get(f"/jobs/{job_id}")).status_code == 200
        clock.ahead_s = 3_602
        assert await foreman.foreman.sweeper.sweep() == 1
        assert await foreman.foreman.sweeper.sweep() == 0


async def test_expired_job_is_gone_but_its_history_stays(tmp_path):
    clock = Leaping()
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, clock=clock) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_state(job_id, State.DONE)
        clock.ahead_s = 90_000
        await foreman.foreman.sweeper.sweep()
        for path in ("", "/artifacts", "/artifacts/completion", "/stream"):
            answer = await foreman.client.get(f"/jobs/{job_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (410, "job_expired")
        assert (await foreman.client.post(f"/jobs/{job_id}/retry")).status_code == 410
        events = (await foreman.client.get(f"/jobs/{job_id}/events")).json()["events"]
        assert [event["type"] for event in events][-2:] == ["job.done", "job.expired"]
        assert set((await foreman.events(job_id))[-1].event.removed) == {"request", "completion", "stream"}
        left = await foreman.foreman.database.read("SELECT name FROM artifacts WHERE job_id = ?", (job_id,))
        assert left == []


async def test_unfinished_job_never_expires(tmp_path):
    clock = Leaping()
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, clock=clock) as foreman:
        with fake.hold("a") as gate:
            jobs = [await foreman.submit("a") for _ in range(2)]
            await gate.reached()
            clock.ahead_s = 900_000
            assert await foreman.foreman.sweeper.sweep() == 0
        assert {job.state for job in await foreman.until_finished(*jobs)} == {State.DONE}


async def test_failed_and_cancelled_jobs_expire_too(tmp_path):
    clock = Leaping()
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, clock=clock) as foreman:
        fake.inject("status", status=400)
        failed = await foreman.submit("a")
        await foreman.until_state(failed, State.FAILED)
        with fake.hold("a") as gate:
            cancelled = await foreman.submit("a")
            await gate.reached()
            await foreman.client.delete(f"/jobs/{cancelled}")
        clock.ahead_s = 90_000
        assert await foreman.foreman.sweeper.sweep() == 2
        assert {(await foreman.job(job_id)).state for job_id in (failed, cancelled)} == {State.EXPIRED}


async def test_idempotency_key_is_free_again_once_its_job_expired(tmp_path):
    clock = Leaping()
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, clock=clock) as foreman:
        body = {"model": "a", "messages": [{"role": "user", "content": "hello"}]}

        async def send() -> str:
            answer = await foreman.client.post("/jobs", json=body, headers={"idempotency-key": "k"})
            assert answer.status_code == 202
            return answer.json()["job_id"]

        first = await send()
        await foreman.until_state(first, State.DONE)
        assert await send() == first
        clock.ahead_s = 90_000
        await foreman.foreman.sweeper.sweep()
        assert await send() != first


async def test_file_shrinks_when_contents_expire(tmp_path):
    clock = Leaping()
    async with FakeOllama(["a"], tokens=1) as fake:
        async with running(tmp_path, fake.url, clock=clock) as foreman:
            await foreman.until_finished(*[await foreman.submit("a", LONG) for _ in range(30)])
            ((full,),) = await foreman.foreman.database.read("PRAGMA page_count")
            clock.ahead_s = 90_000
            assert await foreman.foreman.sweeper.sweep() == 30
            async with asyncio.timeout(10):
                while await foreman.foreman.database.read("PRAGMA freelist_count") != [(0,)]:
                    await asyncio.sleep(0)
            ((left,),) = await foreman.foreman.database.read("PRAGMA page_count")
            assert left < full / 5
        assert (tmp_path / "foreman.db").stat().st_size == left * 4096


async def left_of(foreman: Running, job_id: str) -> list[int]:
    """How many rows there are of the job: deliveries, attempts, secrets."""
    return [
        (await foreman.foreman.database.read(sql, (job_id,)))[0][0]
        for sql in (
            "SELECT count(*) FROM deliveries WHERE job_id = ?",
            "SELECT count(*) FROM delivery_attempts JOIN deliveries USING (position) WHERE job_id = ?",
            "SELECT count(*) FROM webhook_secrets WHERE job_id = ?",
        )
    ]


async def told(foreman: Running, true: Callable[[Outbox], bool]) -> None:
    """Wait until something holds of what is still to be told."""
    with foreman.foreman.ledger.feed.watch(OUTBOX) as changed:
        async with asyncio.timeout(PATIENCE_S):
            while not true(foreman.foreman.ledger.outbox):
                changed.clear()
                await changed.wait()


async def test_job_is_kept_while_its_receiver_was_not_told_but_a_day_at_most(tmp_path):
    clock = HandClock(at=1_700_000_000_000_000)
    async with (
        FakeOllama(["a"]) as fake,
        Receiver() as receiver,
        running(tmp_path, fake.url, clock=clock, job_ttl="1h") as foreman,
    ):
        receiver.default = answer(503)
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, webhook_secret="s3cret")
        await foreman.until_state(job_id, State.DONE)
        await told(foreman, lambda outbox: outbox.lanes[job_id].head.failures == 1)
        assert await left_of(foreman, job_id) == [len(await foreman.events(job_id)), 1, 1]
        for hours in (2, 23):  # and 25 in all, to the microsecond
            clock.at += hours * HOUR
            assert await foreman.foreman.sweeper.sweep() == 0
        clock.at += 1
        assert await foreman.foreman.sweeper.sweep() == 1
        assert await left_of(foreman, job_id) == [0, 0, 0]
        assert await foreman.foreman.database.read("SELECT * FROM delivery_attempts") == []
        assert foreman.foreman.ledger.outbox.lanes == {}


async def test_job_goes_with_the_next_sweep_once_its_receiver_was_told(tmp_path):
    clock = HandClock(at=1_700_000_000_000_000)
    async with (
        FakeOllama(["a"]) as fake,
        Receiver() as receiver,
        running(tmp_path, fake.url, clock=clock, job_ttl="1h") as foreman,
    ):
        receiver.behave(answer(503))
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, webhook_events=[])
        await foreman.until_state(job_id, State.DONE)
        await told(foreman, lambda outbox: outbox.lanes[job_id].head.failures == 1)
        clock.at += 2 * HOUR
        assert await foreman.foreman.sweeper.sweep() == 0
        foreman.foreman.ledger.feed.wake(OUTBOX)
        await told(foreman, lambda outbox: not outbox.pending)
        assert await foreman.foreman.sweeper.sweep() == 1


async def test_delivery_under_way_when_its_job_expires_leaves_nothing_behind(tmp_path):
    clock = HandClock(at=1_700_000_000_000_000)
    async with (
        FakeOllama(["a"]) as fake,
        Receiver() as receiver,
        running(tmp_path, fake.url, clock=clock, job_ttl="1h") as foreman,
    ):
        gate = asyncio.Event()
        receiver.behave(hold(gate))
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        await foreman.until_state(job_id, State.DONE)
        await receiver.wait_for(1)
        clock.at += 26 * HOUR
        assert await foreman.foreman.sweeper.sweep() == 1
        assert foreman.foreman.ledger.outbox.lanes == {}
        with foreman.foreman.ledger.feed.watch(OUTBOX) as recorded:
            gate.set()
            async with asyncio.timeout(PATIENCE_S):
                await recorded.wait()
        assert (await left_of(foreman, job_id), foreman.foreman.ledger.outbox.pending) == ([0, 0, 0], 0)
        assert await foreman.foreman.database.read("SELECT * FROM delivery_attempts") == []
        other = await foreman.submit("a", state_webhook_url=receiver.url, webhook_events=[])
        await foreman.until_state(other, State.DONE)
        await receiver.wait_for(2)
        assert [arrival.event[0] for arrival in receiver.arrivals] == [job_id, other]
