"""Scheduling and residency end to end, as the target sees them: what is loaded, in what order, how much at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from foreman.fsm.job import State
from foreman.scheduling.scheduler import Turn
from tests.fakes.ollama import FakeOllama
from tests.kit import running


@asynccontextmanager
async def held(tmp_path, fake, model="a", **settings):
    """A foreman whose first job, of `model`, holds up all others until the block opens the gate."""
    async with running(tmp_path, fake.url, **settings) as foreman:
        with fake.hold(model) as gate:
            await foreman.submit(model)
            await gate.reached()
            yield foreman, gate


def texts(fake: FakeOllama) -> list[str]:
    return [call.json["messages"][0]["content"] for call in fake.calls_of()]


async def test_resident_model_drains_before_another_is_loaded(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, held(tmp_path, fake) as (foreman, gate):
        jobs = [await foreman.submit(model) for model in "babab"]
        gate.release()
        await foreman.until_finished(*jobs)
        assert [call.model for call in fake.calls_of()] == ["a", "a", "a", "b", "b", "b"]
        assert fake.loaded_models == ["a", "b"]


async def test_blocking_call_overtakes_500_waiting_batch_jobs(tmp_path):
    async with FakeOllama(["a"]) as fake, held(tmp_path, fake) as (foreman, gate):
        body = [{"model": "a", "messages": [{"role": "user", "content": "batch"}]}] * 500
        assert (await foreman.client.post("/jobs", json=body)).status_code == 202
        calling = asyncio.create_task(foreman.chat("a", "chat"))
        await foreman.until(lambda: len(foreman.foreman.ledger.work.queue) == 501)
        gate.release()
        assert (await calling).status_code == 200
        assert texts(fake)[1] == "chat"
        assert len(foreman.foreman.ledger.work.queue) > 400


async def test_one_model_with_two_context_sizes_is_loaded_twice_and_no_more(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, held(tmp_path, fake, "b") as (foreman, gate):
        sizes = [2048, 4096, 2048, 4096.0]
        jobs = [await foreman.submit("a", options={"num_ctx": size}) for size in sizes]
        gate.release()
        await foreman.until_finished(*jobs)
        assert [(key.model, key.num_ctx) for key in fake.loads] == [
            ("b:latest", None),
            ("a:latest", 2048),
            ("a:latest", 4096),
        ]


async def test_spellings_of_one_model_share_a_load(tmp_path):
    async with FakeOllama(["llama3", "b"]) as fake, held(tmp_path, fake, "b") as (foreman, gate):
        names = ["llama3", "llama3:latest", "LLAMA3", "registry.ollama.ai/library/llama3"]
        jobs = [await foreman.submit(name, options={"temperature": number}) for number, name in enumerate(names)]
        gate.release()
        assert {job.state for job in await foreman.until_finished(*jobs)} == {State.DONE}
        assert fake.loaded_models == ["b", "llama3"]


async def test_no_more_than_parallel_jobs_run_and_never_of_two_models(tmp_path):
    async with FakeOllama(["a", "b"], parallel=8, max_loaded=2) as fake:
        with fake.hold("a") as first, fake.hold("b") as second:
            async with running(tmp_path, fake.url, parallel="4") as foreman:
                jobs = [await foreman.submit(model) for model in "aaaaaaabbbbbbb"]
                await first.reached(4)
                first.release()
                await second.reached(4)
                second.release()
                await foreman.until_finished(*jobs)
        assert (fake.max_concurrent, fake.max_concurrent_keys, len(fake.loads)) == (4, 1, 2)


async def test_overdue_job_gets_in_between_a_steady_stream_for_another_model(tmp_path):
    async with FakeOllama(["a", "b"], seconds_per_token=0.01) as fake:
        limits = {"max_wait": "2s", "max_wait_interactive": "2s", "swap_share": "1"}
        async with running(tmp_path, fake.url, **limits) as foreman:
            stream = [asyncio.create_task(_keep_asking(foreman)) for _ in range(2)]
            await fake.wait_for_calls(1, model="a")
            jobs = [await foreman.submit("b"), await foreman.submit("b", **{"class": "interactive"})]
            for job in await foreman.until_finished(*jobs):
                # Its limit, the job that runs then, and room for a slow machine.
                assert 2 <= job.waited_s < 3
            assert not any(task.done() for task in stream)
            for task in stream:
                task.cancel()
            await asyncio.gather(*stream, return_exceptions=True)


async def _keep_asking(foreman) -> None:
    while True:
        assert (await foreman.chat("a", "one two three")).status_code == 200


KEPT = {
    "default": ({}, {}, -1),
    "setting": ({"keep_alive": "15m"}, {}, "15m"),
    "callers-own": ({}, {"keep_alive": "5m"}, "5m"),
    "callers-zero": ({}, {"keep_alive": 0}, 0),
    "setting-zero": ({"keep_alive": "0"}, {}, 0),
}


@pytest.mark.parametrize(("settings", "members", "sent"), KEPT.values(), ids=KEPT)
async def test_keep_alive_is_added_where_the_caller_says_nothing(tmp_path, settings, members, sent):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, **settings) as foreman:
        job_id = await foreman.submit("a", **members)
        await foreman.until_state(job_id, State.DONE)
        load, work = fake.calls_of("load")[0].json, fake.calls_of()[0].json
        assert work["keep_alive"] == sent
        assert type(work["keep_alive"]) is type(sent)
        # A load that asked for zero would unload.
        assert load["keep_alive"] == (sent or 300)


@pytest.mark.parametrize(
    ("settings", "members"), [({}, {"keep_alive": 0}), ({"keep_alive": "0"}, {})], ids=["callers", "setting"]
)
async def test_model_that_its_job_gave_up_is_loaded_again_for_the_next(tmp_path, settings, members):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, **settings) as foreman:
        first = await foreman.submit("a", **members)
        await foreman.until_state(first, State.DONE)
        assert foreman.foreman.residency.key is None
        second = await foreman.submit("a")
        await foreman.until_state(second, State.DONE)
        assert await foreman.types(second) == ["job.queued", "job.loading", "job.working", "job.done"]
        assert len(fake.loads) == 2


async def test_load_is_made_with_the_jobs_own_options_and_asks_nothing(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        options = {"num_ctx": 4096, "num_thread": 2, "temperature": 0.5, "use_mmap": True}
        await foreman.until_state(await foreman.submit("a", options=options), State.DONE)
        (load,) = fake.calls_of("load")
        reloading = {"num_ctx": 4096, "num_thread": 2, "use_mmap": True}
        assert reloading.items() <= load.json["options"].items() <= options.items()
        assert not load.json["messages"]
        assert fake.calls_of()[0].json["options"] == options
        assert len(fake.loads) == 1


async def test_load_nobody_waits_for_any_more_is_given_up(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_state(await foreman.submit("b"), State.DONE)
        with fake.hold("a", at="load") as gate:
            jobs = [await foreman.submit("a"), await foreman.submit("a")]
            await gate.reached()
            (call,) = fake.calls_of("load", "a")
            await foreman.client.delete(f"/jobs/{jobs[0]}")
            # The other one still wants the model, so that load goes on.
            assert not call.aborted
            await foreman.client.delete(f"/jobs/{jobs[1]}")
            await fake.wait_for(lambda: call.aborted, timeout=1)
        # The target evicted b for it.
        job_id = await foreman.submit("b")
        await foreman.until_state(job_id, State.DONE)
        assert "job.loading" in await foreman.types(job_id)


async def test_load_that_another_job_waits_for_outlives_its_own(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as gate:
            jobs = [await foreman.submit("a", text) for text in ("first", "second")]
            await gate.reached()
            await foreman.client.delete(f"/jobs/{jobs[0]}")
        await foreman.until_state(jobs[1], State.DONE)
        assert (len(fake.loads), texts(fake)) == (1, ["second"])
        assert await foreman.types(jobs[1]) == ["job.queued", "job.working", "job.done"]


async def test_cancelled_job_is_never_started(tmp_path):
    async with FakeOllama(["a"]) as fake, held(tmp_path, fake) as (foreman, gate):
        unwanted, wanted = await foreman.submit("a", "unwanted"), await foreman.submit("a", "wanted")
        await foreman.client.delete(f"/jobs/{unwanted}")
        gate.release()
        await foreman.until_state(wanted, State.DONE)
        assert "unwanted" not in texts(fake)


async def test_turn_is_opened_only_by_a_job_that_starts(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        worker, ledger = foreman.foreman.worker, foreman.foreman.ledger
        looked_up = ledger.job

        async def cancelled_while_looked_up(job_id):
            ledger.job = looked_up
            await foreman.client.delete(f"/jobs/{job_id}")
            return await looked_up(job_id)

        ledger.job = cancelled_while_looked_up
        await foreman.until_state(await foreman.submit("a"), State.CANCELLED)
        assert worker.turn == Turn()
