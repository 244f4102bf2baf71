"""Stopping: what runs finishes or goes back, who waits is told, `daemon.stopped` is last; and dying of a fault."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from foreman.app import Foreman, TaskDied
from foreman.errors import ConfigError
from foreman.events.daemon import DaemonStarted
from foreman.events.types import RequeueReason
from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.kit import Running, running, settings


@asynccontextmanager
async def stopping(foreman: Running):
    """The block runs while the daemon stops; at its end the stop is waited for."""
    task = asyncio.create_task(foreman.foreman.stop())
    await asyncio.sleep(0)
    assert foreman.foreman.desk.draining
    yield
    await task


async def history(tmp_path, url, stream=None):
    """The log, read by a later daemon; without what that one wrote at its own start."""
    async with running(tmp_path, url) as foreman:
        recorded = await foreman.events(stream)
    starts = [number for number, item in enumerate(recorded) if isinstance(item.event, DaemonStarted)]
    return recorded[: starts[-1]] if starts else recorded


async def test_running_job_that_finishes_in_time_is_done(tmp_path):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a") as gate:
            async with running(tmp_path, fake.url, drain_timeout="10s") as foreman:
                job_id = await foreman.submit("a")
                await gate.reached()
                async with stopping(foreman):
                    gate.release()
        types = [item.event.type for item in await history(tmp_path, fake.url, job_id)]
        assert types == ["job.queued", "job.loading", "job.working", "job.done"]


async def test_running_job_that_takes_longer_goes_back_without_losing_an_attempt(tmp_path):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a") as gate:
            async with running(tmp_path, fake.url) as foreman:
                job_id = await foreman.submit("a")
                await gate.reached()
        assert fake.calls_of()[0].aborted
        async with running(tmp_path, fake.url) as foreman:
            job = await foreman.until_state(job_id, State.DONE)
            event = (await foreman.events(job_id))[3].event
            assert (event.type, event.reason, event.attempt) == ("job.requeued", RequeueReason.INTERRUPTED, 0)
            assert (job.attempt, job.interruptions) == (1, 1)
            assert (await foreman.events("daemon"))[-1].event.type != "daemon.stopped"


async def test_load_in_progress_is_put_back_too(tmp_path):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a", at="load") as gate:
            async with running(tmp_path, fake.url) as foreman:
                job_id = await foreman.submit("a")
                await gate.reached()
        async with running(tmp_path, fake.url) as foreman:
            assert (await foreman.until_state(job_id, State.DONE)).attempt == 1


async def test_job_whose_outcome_was_recorded_first_is_not_put_back(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job = await foreman.until_state(await foreman.submit("a"), State.DONE)
        await foreman.foreman.worker._put_back(job)
        assert (await foreman.job(job.job_id)) == job


async def test_waiting_callers_are_told_at_once_and_waiting_jobs_stay(tmp_path):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a") as gate:
            async with running(tmp_path, fake.url, drain_timeout="10s") as foreman:
                running_call = asyncio.create_task(foreman.chat("a"))
                await gate.reached()
                job_id = await foreman.submit("a")
                calls = [asyncio.create_task(foreman.chat("a", stream=stream)) for stream in (True, False)]
                await foreman.until(lambda: len(foreman.foreman.ledger.work.queue) == 3)
                async with stopping(foreman):
                    answers = await asyncio.gather(*calls)
                    assert not running_call.done()
                    gate.release()
                    assert (await running_call).status_code == 200
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
        assert [item.event.type for item in await history(tmp_path, fake.url, job_id)] == ["job.queued"]


async def test_new_work_is_refused_while_stopping(tmp_path):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a") as gate:
            async with running(tmp_path, fake.url, drain_timeout="10s") as foreman:
                await foreman.submit("a")
                await gate.reached()
                async with stopping(foreman):
                    body = {"model": "a", "messages": [{"role": "user", "content": "too late"}]}
                    for path in ("/jobs", "/api/chat"):
                        answer = await foreman.client.post(path, json=body)
                        assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
                    assert (await foreman.client.get("/healthz")).json()["status"] == "stopping"
                    gate.release()


@pytest.mark.parametrize("seen", [0, 1])
async def test_caller_whose_call_takes_too_long_is_told_or_cut_off(tmp_path, seen):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a", after=seen) as gate:
            async with running(tmp_path, fake.url) as foreman:
                body = {"model": "a", "messages": [{"role": "user", "content": "one two"}]}
                call = asyncio.create_task(foreman.client.post("/api/chat", json=body))
                await gate.reached()
                await foreman.foreman.stop()
                if seen:
                    with pytest.raises(httpx.TransportError):
                        await call
                else:
                    assert (await call).status_code == 503


async def test_caller_with_a_key_finds_its_answer_after_the_restart(tmp_path):
    async with FakeOllama(["a"]) as fake:
        body = {"model": "a", "messages": [{"role": "user", "content": "one two"}], "stream": False}
        headers = {"idempotency-key": "once"}
        with fake.hold("a") as gate:
            async with running(tmp_path, fake.url) as foreman:
                call = asyncio.create_task(foreman.client.post("/api/chat", json=body, headers=headers))
                await gate.reached()
                await foreman.foreman.stop()
                await asyncio.gather(call, return_exceptions=True)
        async with running(tmp_path, fake.url) as foreman:
            answer = await foreman.client.post("/api/chat", json=body, headers=headers)
            assert answer.json()["message"]["content"] == "one two"
            job_id = answer.headers["x-foreman-job-id"]
            await foreman.until_state(job_id, State.DONE)
            before = ["job.queued", "job.loading", "job.working", "job.requeued"]
            assert await foreman.types(job_id) == [*before, "job.working", "job.done"]


async def test_nothing_follows_the_daemons_last_event(tmp_path):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a") as gate:
            async with running(tmp_path, fake.url) as foreman:
                call = asyncio.create_task(foreman.chat("a"))
                await foreman.submit("a")
                await gate.reached()
                await foreman.foreman.stop()
                assert (await call).status_code == 503
        events = await history(tmp_path, fake.url)
        assert [item.event.type for item in events].index("daemon.stopped") == len(events) - 1
        assert events[-1].event.waiting == 1


async def test_stopping_twice_and_without_a_start_is_harmless(tmp_path):
    async with FakeOllama(["a"]) as fake:
        await Foreman(settings(tmp_path, fake.url)).stop()
        async with running(tmp_path, fake.url) as foreman:
            await foreman.foreman.start()
            await foreman.foreman.stop()
            await foreman.foreman.stop()
        stops = [item for item in await history(tmp_path, fake.url) if item.event.type == "daemon.stopped"]
        assert len(stops) == 1


async def test_start_that_fails_leaves_the_database_free(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as first:
        host, port = first.foreman.http.addresses[0]
        (tmp_path / "other").mkdir()
        second = Foreman(settings(tmp_path / "other", fake.url, addr=f"{host}:{port}"))
        with pytest.raises(ConfigError, match=r"cannot listen on .*: Address already in use"):
            await second.start()
        await second.stop()
        async with running(tmp_path / "other", fake.url) as third:
            assert (await third.client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("name", ["ledger", "worker", "inventory", "sweeper", "embedder"])
async def test_death_of_any_part_is_noticed_and_named(tmp_path, name):
    async with FakeOllama(["a", "embed"]) as fake, running(tmp_path, fake.url, embed_model="embed") as foreman:
        foreman.foreman._tasks[name].cancel()
        with pytest.raises(TaskDied, match=f"the {name} stopped working"):
            async with asyncio.timeout(5):
                await foreman.foreman.wait()


def broken(*_):
    raise ZeroDivisionError("a broken part")


async def test_fault_in_a_callback_stops_the_part_that_called_it(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        foreman.foreman.inventory.on_listing.append(broken)
        foreman.foreman.inventory.poll_soon()
        with pytest.raises(TaskDied, match="the inventory stopped working: a broken part"):
            async with asyncio.timeout(5):
                await foreman.foreman.wait()


async def test_death_of_the_ledger_is_not_followed_by_a_long_farewell(tmp_path):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a") as gate:
            async with running(tmp_path, fake.url, drain_timeout="1h") as foreman:
                job_id = await foreman.submit("a")
                await gate.reached()
                await foreman.until_state(job_id, State.WORKING)
                foreman.foreman.ledger.feed.listeners.append(broken)
                call = asyncio.create_task(foreman.chat("a"))
                with pytest.raises(TaskDied, match="the ledger stopped working"):
                    await foreman.foreman.wait()
                async with asyncio.timeout(15):
                    await foreman.foreman.stop()
                assert (await call).status_code == 500
        async with running(tmp_path, fake.url) as foreman:
            await foreman.until_state(job_id, State.DONE)
