"""Deliveries over a stop, a crash and a full disk: what is on record is taken up again, what is not is made again."""

from __future__ import annotations

import asyncio
import time

import pytest

from foreman.app import DELIVER_WITHIN_S, TaskDied
from foreman.fsm.job import State
from tests.core import HandClock
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer, hang, hold
from tests.integration.test_faults_storage import LONG, full_disk
from tests.integration.webhook_kit import ONLY_QUEUED, failed, lane, look_again, on_record, settled, telling
from tests.kit import PATIENCE_S, running

SECOND = 1_000_000


async def test_failures_and_due_times_outlast_a_stop(tmp_path):
    clock = HandClock()
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        receiver.behave(answer(500), answer(500))
        with fake.hold("a", at="load"):
            async with running(tmp_path, fake.url, clock=clock) as foreman:
                job_id = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
                await failed(foreman, job_id)
                due = lane(foreman, job_id).head.due
            async with running(tmp_path, fake.url, clock=clock) as foreman:
                await look_again(foreman)
                waiting = lane(foreman, job_id)
                assert (waiting.head.due, waiting.head.failures, waiting.taken) == (due, 1, False)
                clock.at = due
                await look_again(foreman)
                await failed(foreman, job_id, 2)
                assert lane(foreman, job_id).head.due - clock.at >= 2 * SECOND
                clock.at += 3 * SECOND
                await look_again(foreman)
                await settled(foreman)
                # The stop put the job back in the queue, which is told too.
                first, *_ = await on_record(foreman, job_id)
                assert (first["state"], first["attempt_count"]) == ("delivered", 3)
        assert [arrival.id for arrival in receiver.arrivals[:3]] == [f"{job_id}-1"] * 3


async def test_what_a_crash_left_pending_is_delivered_by_the_next_start(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        receiver.default = hang()
        async with running(tmp_path, fake.url) as foreman:
            job_id = await foreman.submit("a", state_webhook_url=receiver.url)
            await foreman.until_finished(job_id)
            await receiver.wait_for(1)
            foreman.foreman._tasks["ledger"].cancel()
            with pytest.raises(TaskDied):
                await foreman.foreman.wait()
        await receiver.until(lambda: receiver.open == 0)
        receiver.default = answer()
        async with running(tmp_path, fake.url) as foreman:
            await settled(foreman)
            assert [item["state"] for item in await on_record(foreman, job_id)] == ["delivered"] * 4
        assert [arrival.event[1] for arrival in receiver.arrivals] == [1, 1, 2, 3, 4]
        assert receiver.ids_are_consistent() == []


async def test_a_stop_waits_for_what_is_under_way_and_begins_nothing_more(tmp_path):
    gate = asyncio.Event()
    async with telling(tmp_path) as (fake, receiver, foreman):
        receiver.behave(hold(gate))
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        await foreman.until_finished(job_id)
        await receiver.wait_for(1)
        stopping = asyncio.create_task(foreman.foreman.stop())
        async with asyncio.timeout(PATIENCE_S):
            while not foreman.foreman.dispatcher._draining:
                await asyncio.sleep(0)
        gate.set()
        await stopping
        assert len(receiver.arrivals) == 1
        async with running(tmp_path, fake.url) as again:
            await settled(again)
        assert [arrival.event[1] for arrival in receiver.arrivals] == [1, 2, 3, 4]


async def test_a_stop_cuts_short_what_hangs_and_the_next_start_makes_it_again(tmp_path):
    async with telling(tmp_path) as (fake, receiver, foreman):
        receiver.behave(hang())
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        await foreman.until_finished(job_id)
        await receiver.wait_for(1)
        began = time.monotonic()
        await foreman.foreman.stop()
        assert DELIVER_WITHIN_S <= time.monotonic() - began < DELIVER_WITHIN_S + 3
        await receiver.until(lambda: receiver.open == 0)
        assert [task.get_name() for task in asyncio.all_tasks() if "delivery" in task.get_name()] == []
        async with running(tmp_path, fake.url) as again:
            await settled(again)
        assert [arrival.event[1] for arrival in receiver.arrivals] == [1, 1, 2, 3, 4]
        assert receiver.ids_are_consistent() == []


async def test_on_a_full_disk_a_delivery_is_sent_once_and_recorded_when_there_is_room(tmp_path):
    gate = asyncio.Event()
    async with telling(tmp_path) as (fake, receiver, foreman):
        # Replies that need more pages than the file has to spare.
        receiver.default = hold(gate, answer(200, b"x" * 1_024))
        with fake.hold("a", at="load"):
            told = {"state_webhook_url": receiver.url, **ONLY_QUEUED}
            jobs = [await foreman.submit("a", **told) for _ in range(12)]
            async with full_disk(foreman):
                gate.set()
                await receiver.until(lambda: len(receiver.arrivals) == 4 and receiver.open == 0)
                # The ledger takes one after the other: those recordings have been refused before this is.
                refused = await foreman.client.post("/jobs", json={"model": "a", "prompt": LONG})
                assert refused.json()["code"] == "storage_full"
                assert foreman.foreman.ledger.outbox.pending == 12
                await look_again(foreman)
            await settled(foreman)
        assert sorted(arrival.event[0] for arrival in receiver.arrivals) == sorted(jobs)
        assert [item["attempt_count"] for item in await on_record(foreman, jobs[0])] == [1]
        assert (await foreman.job(jobs[0])).state is not State.FAILED
