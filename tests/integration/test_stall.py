"""A target that takes calls and does not answer, its lists green all along: noticed, told, tried again, waited out."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from foreman.errors import TargetError
from foreman.events.daemon import Stage, TargetDegraded, TargetRecovered, TargetStalled
from foreman.events.types import JobRequeued, RequeueReason
from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.integration.test_faults import TEXT, completion, hurried, requeued
from tests.kit import running

#: Seconds, long for this fake on a slow machine and short for whoever waits.
LIMIT = "300ms"
WEDGED = "Ollama accepts requests but does not answer"
PROBES = "/api/generate"


@asynccontextmanager
async def impatient(path, url, **settings):
    """A foreman that soon calls a call stalled, and without pauses between attempts."""
    defaults = {"stall_after": LIMIT, "stall_between": LIMIT, "poll_interval": "20ms", "max_attempts": "5"}
    async with hurried(path, url, **(defaults | settings)) as foreman:
        yield foreman


async def told(foreman) -> list:
    """What the daemon's stream says of the target, after the first time it was found."""
    kinds = TargetStalled | TargetDegraded | TargetRecovered
    return [item.event for item in await foreman.events("daemon") if isinstance(item.event, kinds)][1:]


async def types(foreman) -> list[str]:
    return [event.type for event in await told(foreman)]


async def health(foreman):
    return (await foreman.client.get("/healthz")).json()


@asynccontextmanager
async def wedged(tmp_path, fake, on="generation", **settings):
    """A foreman that has just found its target wedged by one job; yields the job's id and what hangs."""
    async with impatient(tmp_path, fake.url, **settings) as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up)
        fault = fake.inject("hang", on=on, times=None)
        job_id = await foreman.submit("a", TEXT, options={"num_ctx": 4096, "temperature": 0.5})
        await foreman.until(lambda: not foreman.foreman.inventory.up)
        yield foreman, job_id, fault


STAGES = {
    "load": (Stage.LOADING, "load", ["job.queued", "job.loading", "job.requeued", "job.loading"]),
    "first-byte": (Stage.STARTING, "generation", ["job.queued", "job.loading", "job.working", "job.requeued"]),
}


@pytest.mark.parametrize(("stage", "on", "types_"), STAGES.values(), ids=STAGES)
async def test_call_without_an_answer_is_closed_and_its_job_tried_again(tmp_path, stage, on, types_):
    async with FakeOllama(["a"]) as fake, impatient(tmp_path, fake.url) as foreman:
        fake.inject("hang", on=on)
        job_id = await foreman.submit("a", TEXT)
        job = await foreman.until_state(job_id, State.DONE)
        assert (job.attempt, await completion(foreman, job_id)) == (2, TEXT)
        assert fake.calls_of(on)[0].aborted
        assert await foreman.types(job_id) == [*types_, "job.working", "job.done"]
        assert [event.reason for event in await requeued(foreman, job_id)] == [RequeueReason.CONNECTION]
        (event,) = await told(foreman)
        assert (event.stage, event.model, event.job_id) == (stage, "a", job_id)
        assert 0.3 <= event.silent_s < 5


async def test_stream_that_stands_still_is_closed_and_its_job_tried_again(tmp_path):
    async with FakeOllama(["a"]) as fake, impatient(tmp_path, fake.url, stall_after="0") as foreman:
        with fake.hold("a", after=2) as gate:
            job_id = await foreman.submit("a", TEXT)
            await foreman.until_state(job_id, State.WORKING)
            job = await foreman.until_state(job_id, State.QUEUED)
            assert (job.attempt, "the target's answer stood still for" in job.error) == (1, True)
            gate.release()
        job = await foreman.until_state(job_id, State.DONE)
        assert (job.attempt, await completion(foreman, job_id)) == (2, TEXT)
        (event,) = await told(foreman)
        assert event.stage is Stage.ANSWERING
        assert (await health(foreman))["degraded"] is False


async def test_caller_whose_answer_had_begun_is_broken_off(tmp_path):
    async with FakeOllama(["a"]) as fake, impatient(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=1):
            body = {"model": "a", "messages": [{"role": "user", "content": TEXT}]}
            with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012  (the error may come with any line)
                async with foreman.client.stream("POST", "/api/chat", json=body) as response:
                    async for line in response.aiter_lines():
                        assert json.loads(line)["message"]["content"] == "one"
        job = await foreman.until_state(response.headers["x-foreman-job-id"], State.FAILED)
        assert (job.error_code, job.attempt, len(fake.calls_of())) == ("target_broke", 1, 1)


async def test_target_that_is_slow_but_alive_is_let(tmp_path):
    async with FakeOllama(["a"]) as fake, impatient(tmp_path, fake.url) as foreman:
        fake.inject("drip", seconds=0.05)
        job = await foreman.until_state(await foreman.submit("a", TEXT), State.DONE)
        assert job.attempt == 1
        assert job.metrics.run_s > 3 * 0.3
        assert await told(foreman) == []


OUT_OF_SIGHT = {
    "not-streamed": {"stream": False},
    "with-tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
}


@pytest.mark.parametrize("members", OUT_OF_SIGHT.values(), ids=OUT_OF_SIGHT)
async def test_answer_that_is_made_out_of_sight_has_longer(tmp_path, members):
    async with FakeOllama(["a"], seconds_per_token=0.8) as fake, impatient(tmp_path, fake.url) as foreman:
        body = {"model": "a", "messages": [{"role": "user", "content": "one"}], **members}
        answer = await foreman.client.post("/api/chat", json=body)
        job = await foreman.until_state(answer.headers["x-foreman-job-id"], State.DONE)
        assert (job.attempt, await told(foreman)) == (1, [])
        assert job.metrics.run_s > 2 * 0.3


async def test_answer_out_of_sight_stalls_in_the_end(tmp_path):
    async with FakeOllama(["a"]) as fake, impatient(tmp_path, fake.url) as foreman:
        await foreman.until_state(await foreman.submit("a"), State.DONE)
        fake.inject("hang")
        answer = await foreman.chat("a", TEXT)
        assert answer.json()["message"]["content"] == TEXT
        (event,) = await told(foreman)
        assert event.silent_s >= 12 * 0.3
        job = await foreman.until_state(answer.headers["x-foreman-job-id"], State.DONE)
        assert job.attempt == 2


ZEROS = {"first-byte": ["stall_after"], "between": ["stall_between"], "both": ["stall_after", "stall_between"]}


@pytest.mark.parametrize("zeros", ZEROS.values(), ids=ZEROS)
async def test_limit_of_zero_means_never(tmp_path, zeros):
    limits = {"stall_after": "10s", "stall_between": "10s"} | dict.fromkeys(zeros, "0")
    async with FakeOllama(["a"], seconds_per_token=0.2) as fake, impatient(tmp_path, fake.url, **limits) as foreman:
        job = await foreman.until_state(await foreman.submit("a", "one two"), State.DONE)
        assert (job.attempt, await told(foreman)) == (1, [])


@pytest.mark.parametrize("on", ["load", "generation"])
async def test_second_stall_in_a_row_degrades_the_target_and_jobs_wait(tmp_path, on):
    async with FakeOllama(["a", "b"]) as fake, wedged(tmp_path, fake, "*" if on == "load" else on) as parts:
        foreman, job_id, _ = parts
        await foreman.until_state(job_id, State.QUEUED)
        assert await types(foreman) == ["target.stalled", "target.stalled", "target.degraded"]
        other = await foreman.submit("b")
        job = await foreman.job(job_id)
        # Nothing starts any more, though its pause is over.
        assert (job.state, job.attempt, (await foreman.job(other)).attempt) == (State.QUEUED, 2, 0)
        shown = await health(foreman)
        assert (shown["degraded"], shown["target"]["reachable"]) == (True, False)
        assert shown["stalled"] <= shown["degraded_since"]
        assert shown["target"]["error"].startswith(WEDGED)
        fake.release()


async def test_probe_and_not_the_lists_brings_it_back(tmp_path):
    async with FakeOllama(["a"]) as fake, wedged(tmp_path, fake) as (foreman, job_id, _):
        probes = await fake.wait_for_calls(3, on=PROBES)
        # Each of them hung too, while the lists were given every time.
        assert (await health(foreman))["degraded"] is True
        polls = [call for call in fake.calls_of("/api/tags") if call.started_at > probes[0].started_at]
        assert {call.status for call in polls if call.finished_at} == {200}
        caller = asyncio.create_task(foreman.chat("a", "still here"))
        await foreman.until(lambda: len(foreman.foreman.ledger.work.queue) == 2)
        fake.release()
        job = await foreman.until_state(job_id, State.DONE)
        assert (job.attempt, await completion(foreman, job_id)) == (3, TEXT)
        assert (await caller).json()["message"]["content"] == "still here"
        *_, degraded, recovered = await told(foreman)
        assert degraded.error.startswith(WEDGED)
        assert recovered.away_s > 0
        assert (await health(foreman))["stalled"] is None
        assert [event.attempt for event in await requeued(foreman, job_id)] == [1, 2]


async def test_probe_asks_for_one_token_and_leaves_the_rest_as_it_is(tmp_path):
    async with FakeOllama(["a"]) as fake, wedged(tmp_path, fake) as (foreman, _, _):
        probe = (await fake.wait_for_calls(1, on=PROBES))[0]
        assert (probe.json["model"], probe.json["options"]) == ("a", {"num_ctx": 4096, "num_predict": 1})
        assert "keep_alive" not in probe.json
        fake.release()
        await foreman.until(lambda: foreman.foreman.inventory.up)
        assert len(fake.loads) == 1


async def test_model_that_never_loads_does_not_keep_others_waiting(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, impatient(tmp_path, fake.url, max_attempts="3") as foreman:
        fake.inject("hang", on="*", model="a", times=None)
        poisoned = await foreman.submit("a", TEXT)
        await foreman.until(lambda: foreman.foreman.inventory.health.stalled_since)
        await foreman.until_state(await foreman.submit("b", TEXT), State.DONE)
        job = await foreman.until_state(poisoned, State.FAILED)
        assert (job.error_code, job.attempt) == ("attempts_exhausted", 3)
        assert {call.model for call in fake.calls_of(PROBES)} == {"a", "b:latest"}


async def test_busy_target_is_still_wedged_and_one_without_the_model_is_not(tmp_path):
    async with FakeOllama(["a"]) as fake, impatient(tmp_path, fake.url) as foreman:
        fake.inject("hang", times=2)
        fake.inject("status", on=PROBES, status=503, times=2)
        fake.inject("status", on=PROBES, status=404)
        job_id = await foreman.submit("a", TEXT)
        assert (await foreman.until_state(job_id, State.DONE)).attempt == 3
        assert [call.status for call in fake.calls_of(PROBES)] == [503, 503, 404]
        assert await types(foreman) == ["target.stalled", "target.stalled", "target.degraded", "target.recovered"]


async def test_target_that_goes_away_while_wedged_is_probed_when_it_is_back(tmp_path):
    async with FakeOllama(["a"]) as fake, wedged(tmp_path, fake) as (foreman, job_id, _):
        await fake.go_away()
        # A call or a poll that came through before does not count.
        with pytest.raises(TargetError):
            await foreman.foreman.target.fetch("GET", "/api/tags", within_s=1)
        inventory = foreman.foreman.inventory
        await inventory.refresh()
        await inventory.refresh()
        assert (inventory.up, inventory.health.error.startswith(WEDGED)) == (False, False)
        fake.release()
        before = len(fake.calls_of(PROBES))
        await fake.come_back()
        await foreman.until_state(job_id, State.DONE)
        assert len(fake.calls_of(PROBES)) > before
        assert (await types(foreman))[2:] == ["target.degraded", "target.recovered"]


async def test_job_behind_one_that_is_answered_has_longer_as_it_may_stand_in_the_targets_own_queue(tmp_path):
    # foreman is told two, the target does one at a time: the second call hears nothing until the first has ended.
    slow = FakeOllama(["a"], parallel=1, seconds_per_token=0.05)
    async with slow as fake, impatient(tmp_path, fake.url, parallel="2") as foreman:
        talking = await foreman.submit("a", "word " * 30)
        await fake.wait_for_calls(1)
        behind = await foreman.submit("a", TEXT)
        jobs = await foreman.until_finished(talking, behind)
        assert [(job.state, job.attempt) for job in jobs] == [(State.DONE, 1)] * 2
        assert await types(foreman) == []


async def test_jobs_that_stall_side_by_side_each_lose_one_attempt(tmp_path):
    async with FakeOllama(["a"], parallel=2) as fake, impatient(tmp_path, fake.url, parallel="2") as foreman:
        fault = fake.inject("hang", times=2)
        job_ids = [await foreman.submit("a", TEXT) for _ in range(2)]
        await fake.wait_for(lambda: len(fault.hit) == 2)
        assert [job.attempt for job in await foreman.until_finished(*job_ids)] == [2, 2]
        assert [len(await requeued(foreman, job_id)) for job_id in job_ids] == [1, 1]
        assert (await types(foreman))[:2] == ["target.stalled"] * 2


async def test_job_that_stalls_each_time_fails_in_the_end(tmp_path):
    async with FakeOllama(["a"]) as fake, impatient(tmp_path, fake.url, max_attempts="2") as foreman:
        with fake.hold("a", after=1):
            job = await foreman.until_state(await foreman.submit("a", TEXT), State.FAILED)
            assert (job.error_code, job.attempt, len(fake.calls_of())) == ("attempts_exhausted", 2, 2)
            # There were bytes each time, so the target is not what is wrong.
            assert await types(foreman) == ["target.stalled"] * 2


async def test_job_that_is_cancelled_while_nothing_comes_is_not_tried_again(tmp_path):
    async with FakeOllama(["a"]) as fake, impatient(tmp_path, fake.url, stall_after="1h") as foreman:
        fake.inject("hang")
        job_id = await foreman.submit("a", TEXT)
        (call,) = await fake.wait_for_calls(1)
        await foreman.client.delete(f"/jobs/{job_id}")
        await fake.wait_for(lambda: call.aborted, timeout=1)
        assert await told(foreman) == []


@pytest.mark.parametrize("when", ["stalling", "probing"])
async def test_stop_does_not_wait_for_a_target_that_says_nothing(tmp_path, when):
    async with FakeOllama(["a"]) as fake:
        limit = "1h" if when == "stalling" else LIMIT
        async with asyncio.timeout(15), impatient(tmp_path, fake.url, stall_after=limit) as foreman:
            fake.inject("hang", times=None)
            job_id = await foreman.submit("a", TEXT)
            await fake.wait_for_calls(1, on="generation" if when == "stalling" else PROBES)
            began = foreman.foreman.clock.monotonic()
        assert foreman.foreman.clock.monotonic() - began < 3
        fake.release()
        async with running(tmp_path, fake.url) as foreman:
            job = await foreman.until_state(job_id, State.DONE)
            events = [item.event for item in await foreman.events(job_id)]
            spent = [event for event in events if isinstance(event, JobRequeued) and event.reason == "connection"]
            assert job.attempt == len(spent) + 1 == (1 if when == "stalling" else 3)
