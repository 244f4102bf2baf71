"""Slow receivers: nobody waits for another one's, and each has only so many places."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.core import HandClock
from tests.fakes.receiver import Receiver, answer, drip, hang, hold
from tests.integration.webhook_kit import (
    ONLY_QUEUED,
    attempts,
    failed,
    lane,
    look_again,
    on_record,
    settled,
    telling,
    until,
)

SECOND = 1_000_000


async def receivers(stack: AsyncExitStack, count: int, behaviour) -> list[Receiver]:
    """So many receivers that behave so."""
    found = [await stack.enter_async_context(Receiver()) for _ in range(count)]
    for receiver in found:
        receiver.default = behaviour
    return found


async def submit(foreman, told, times=1) -> list[str]:
    """So many jobs for each of these receivers."""
    return [await foreman.submit("a", state_webhook_url=one.url, **ONLY_QUEUED) for one in told for _ in range(times)]


async def acquainted(foreman, told) -> None:
    """Have each of these told of a job and answer at once: all places may be theirs then."""
    before = [one.default for one in told]
    for one in told:
        one.default = answer()
    await submit(foreman, told)
    await settled(foreman)
    for one, behaviour in zip(told, before, strict=True):
        one.default = behaviour


async def others_are_told(foreman, receiver) -> None:
    """A whole job's deliveries to a receiver that is well, so that the dispatcher has looked at everything since."""
    before = len(receiver.arrivals)
    job_id = await foreman.submit("b", state_webhook_url=receiver.url, webhook_events=["queued"])
    await receiver.wait_for(before + 1)
    await until(foreman, lambda: job_id not in foreman.foreman.ledger.outbox.lanes)


async def test_others_are_told_while_one_hangs_and_one_drips(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman), Receiver() as hanging, Receiver() as dripping:
        hanging.default, dripping.default = hang(), drip(0.05)
        for _ in range(5):
            for url in (hanging.url, dripping.url, receiver.url):
                await foreman.submit("a", state_webhook_url=url)
        await receiver.until(lambda: [arrival.payload["state"] for arrival in receiver.arrivals].count("done") == 5)
        assert (len(hanging.arrivals), hanging.open) == (4, 4)
        assert (len(dripping.arrivals), dripping.open) == (4, 4)


async def test_a_drip_is_cut_by_the_deadline_for_the_whole_attempt(tmp_path):
    async with telling(tmp_path, webhook_timeout="200ms") as (fake, receiver, foreman):
        receiver.behave(drip(0.02))
        with fake.hold("a", at="load"):
            job_id = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
            await failed(foreman, job_id)
            (attempt,) = await attempts(foreman, job_id)
        assert (attempt["status"], attempt["error"]) == (200, "no complete reply within 0.2 s")
        assert attempt["milliseconds"] >= 200
        assert set(attempt["reply"]) == {"."}


async def test_one_receiver_has_at_most_four_deliveries_at_a_time(tmp_path):
    gate = asyncio.Event()
    async with telling(tmp_path) as (fake, receiver, foreman), Receiver() as busy:
        busy.default = hold(gate)
        with fake.hold("a", at="load"):
            await submit(foreman, [busy], 10)
            await busy.wait_for(4)
            await others_are_told(foreman, receiver)
            assert busy.connections == 4
            gate.set()
            await settled(foreman)
        assert len(busy.arrivals) == 10


async def test_all_receivers_together_have_so_many_places(tmp_path):
    gate = asyncio.Event()
    async with telling(tmp_path, webhook_concurrency="3") as (fake, _, foreman), AsyncExitStack() as stack:
        held = await receivers(stack, 5, hold(gate))
        with fake.hold("a", at="load"):
            await acquainted(foreman, held)
            jobs = await submit(foreman, held)
            for one in held[:3]:
                await one.wait_for(2)
            await look_again(foreman)
            assert sum(lane(foreman, job_id).taken for job_id in jobs) == 3
            gate.set()
            await settled(foreman)
        assert [len(receiver.arrivals) for receiver in held] == [2] * 5


async def test_receivers_known_as_slow_share_half_of_the_places(tmp_path):
    clock, first, second = HandClock(), asyncio.Event(), asyncio.Event()
    overrides = {"webhook_concurrency": "8"}
    async with telling(tmp_path, clock, **overrides) as (fake, receiver, foreman), AsyncExitStack() as stack:
        dead = await receivers(stack, 8, hold(second))
        with fake.hold("a", at="load"):
            await acquainted(foreman, [*dead, receiver])
            for one in dead:
                one.behave(hold(first, answer(500)))
            jobs = await submit(foreman, dead)
            for one in dead:
                await one.wait_for(2)
            # All places are theirs until it shows that they are slow.
            clock.at += 2 * SECOND
            first.set()
            for job_id in jobs:
                await failed(foreman, job_id)
            clock.at += 2 * SECOND
            await look_again(foreman)
            await others_are_told(foreman, receiver)
            assert sum(lane(foreman, job_id).taken for job_id in jobs) == 4
            assert sum(one.connections for one in dead) <= 8 + 8 + 4
            second.set()
            await settled(foreman)
        assert [len(one.arrivals) for one in dead] == [3] * 8


async def test_forty_new_receivers_that_hang_leave_room_for_one_that_is_well(tmp_path):
    async with telling(tmp_path) as (fake, receiver, foreman), AsyncExitStack() as stack:
        with fake.hold("a", at="load"):
            await acquainted(foreman, [receiver])
            hanging = await receivers(stack, 40, hang())
            jobs = await submit(foreman, hanging)
            for one in hanging[:16]:
                await one.wait_for(1)
            (told,) = await submit(foreman, [receiver])
            await until(foreman, lambda: told not in foreman.foreman.ledger.outbox.lanes)
            assert sum(lane(foreman, job_id).taken for job_id in jobs) == 16
            assert sum(one.connections for one in hanging) == 16


async def test_what_is_given_up_unsent_clears_nobody_of_being_slow(tmp_path):
    clock, gate = HandClock(), asyncio.Event()
    overrides = {"webhook_concurrency": "2"}
    async with telling(tmp_path, clock, **overrides) as (fake, _, foreman), Receiver() as slow:
        slow.default = hold(gate, answer(410))
        with fake.hold("a", at="load"):
            (job_id,) = await submit(foreman, [slow])
            await slow.wait_for(1)
            clock.at += 2 * SECOND
            gate.set()
            await settled(foreman)
            # Its last state is told, and given up at once: that says nothing of the receiver.
            await foreman.client.delete(f"/jobs/{job_id}")
            await settled(foreman)
            assert [item["state"] for item in await on_record(foreman, job_id)] == ["gone", "gone"]
            slow.default = hang()
            jobs = await submit(foreman, [slow], 2)
            await slow.wait_for(2)
            await look_again(foreman)
            assert sum(lane(foreman, one).taken for one in jobs) == 1
