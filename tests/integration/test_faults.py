"""What goes wrong at the target, one fault at a time: what the job's history says of it and what its caller gets."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from foreman.clock import Micros, SystemClock
from foreman.events.types import JobRequeued, RequeueReason
from foreman.fsm.job import State
from foreman.target.client import LONGEST_ERROR
from tests.fakes.ollama import FakeOllama
from tests.kit import running

TEXT = "one two three"
SPENT = ["job.queued", "job.loading", "job.working", "job.requeued", "job.working", "job.done"]


class Hurried(SystemClock):
    """The machine's clock, but for a job that is put back: it runs ahead to where the job's pause is over."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> Micros:
        return Micros(super().now() + self.ahead)


@asynccontextmanager
async def hurried(path, url, **settings):
    """A foreman in which no pause between attempts takes time."""
    clock = Hurried()
    async with running(path, url, clock=clock, **settings) as foreman:

        def skip_the_pause(recorded) -> None:
            if isinstance(recorded.event, JobRequeued) and recorded.event.not_before is not None:
                clock.ahead += recorded.event.not_before - recorded.at
                foreman.foreman.worker.poke()

        foreman.foreman.ledger.feed.listeners.append(skip_the_pause)
        yield foreman


async def requeued(foreman, job_id) -> list[JobRequeued]:
    events = [recorded.event for recorded in await foreman.events(job_id)]
    return [event for event in events if isinstance(event, JobRequeued)]


async def completion(foreman, job_id) -> str:
    answer = (await foreman.client.get(f"/jobs/{job_id}/artifacts/completion")).json()
    assert answer["done"] is True
    return answer["message"]["content"]


WITHOUT_AN_ANSWER = {
    "reset": {},
    "reset_after": {"after": 1},
    "half_line": {"after": 1},
    "half_line_reset": {"after": 1},
    "garbage": {"after": 1},
    "status": {"status": 503},
}


@pytest.mark.parametrize("kind", WITHOUT_AN_ANSWER)
async def test_job_without_a_whole_answer_is_answered_whole_by_its_next_attempt(tmp_path, kind):
    async with FakeOllama(["a"]) as fake, hurried(tmp_path, fake.url) as foreman:
        fake.inject(kind, **WITHOUT_AN_ANSWER[kind])
        job_id = await foreman.submit("a", TEXT)
        job = await foreman.until_state(job_id, State.DONE)
        assert (job.attempt, await completion(foreman, job_id)) == (2, TEXT)
        assert await foreman.types(job_id) == SPENT
        assert [event.reason for event in await requeued(foreman, job_id)] == [RequeueReason.CONNECTION]


REFUSALS = {
    "bad-request": ("status", {"status": 400}, "target_refused", 400),
    "not-found": ("status", {"status": 404}, "target_refused", 404),
    "internal": ("status", {"status": 500}, "target_refused", 500),
    "error-at-once": ("error_line", {"status": 500}, "target_refused", 500),
    "error-in-the-middle": ("error_line", {"after": 1}, "target_error", None),
}


@pytest.mark.parametrize(("kind", "details", "code", "status"), REFUSALS.values(), ids=REFUSALS)
async def test_error_of_the_target_is_final_for_a_job(tmp_path, kind, details, code, status):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject(kind, **details)
        job = await foreman.until_state(await foreman.submit("a", TEXT), State.FAILED)
        assert (job.error, job.error_code, job.error_status, job.attempt) == ("boom", code, status, 1)
        assert len(fake.calls_of()) == 1


@pytest.mark.parametrize("kind", ["huge_line", "drip"])
async def test_odd_but_whole_answer_is_taken(tmp_path, kind):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject(kind, after=1, seconds=0)
        job_id = await foreman.submit("a", TEXT)
        assert (await foreman.until_state(job_id, State.DONE)).attempt == 1
        middle = "x" * 9_000_000 if kind == "huge_line" else " two"
        assert await completion(foreman, job_id) == f"one{middle} three"


async def test_long_error_text_does_not_make_a_large_event(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("status", status=400, body="x" * 1_000_000)
        answer = await foreman.chat("a", TEXT)
        assert len(answer.content) > 1_000_000
        job = await foreman.until_state(answer.headers["x-foreman-job-id"], State.FAILED)
        assert job.error == "x" * LONGEST_ERROR


async def test_stream_that_ends_without_done_is_an_answer(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("no_done")
        job = await foreman.until_state(await foreman.submit("a", TEXT), State.DONE)
        assert (job.attempt, job.metrics.done_reason) == (1, None)


async def test_pause_between_attempts_doubles_up_to_half_a_minute(tmp_path):
    async with FakeOllama(["a"]) as fake, hurried(tmp_path, fake.url, max_attempts="8") as foreman:
        fake.inject("reset", times=None)
        job_id = await foreman.submit("a", TEXT)
        job = await foreman.until_state(job_id, State.FAILED)
        history = [recorded for recorded in await foreman.events(job_id) if isinstance(recorded.event, JobRequeued)]
        pauses_s = [(recorded.event.not_before - recorded.at) / 1e6 for recorded in history]
        assert pauses_s == pytest.approx([1, 2, 4, 8, 16, 30, 30], abs=0.5)
        assert [recorded.event.attempt for recorded in history] == [1, 2, 3, 4, 5, 6, 7]
        assert (job.error_code, job.attempt, len(fake.calls_of())) == ("attempts_exhausted", 8, 8)
        assert job.error.endswith("(attempt 8 of 8)")


async def test_job_is_not_started_before_its_pause_is_over(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("reset")
        job_id = await foreman.submit("a", TEXT)
        await foreman.until_state(job_id, State.DONE)
        (event,) = await requeued(foreman, job_id)
        assert (await foreman.events(job_id))[-2].at >= event.not_before


async def test_target_that_dies_in_the_middle_costs_one_attempt(tmp_path):
    async with FakeOllama(["a"]) as fake, hurried(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=2) as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            await fake.go_away()
        job = await foreman.until_state(job_id, State.QUEUED)
        assert job.attempt == 1
        await fake.come_back()
        job = await foreman.until_state(job_id, State.DONE)
        assert (job.attempt, await completion(foreman, job_id)) == (2, TEXT)


async def test_target_that_goes_while_idle_costs_no_attempt(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_state(await foreman.submit("a"), State.DONE)
        await fake.go_away()
        job_id = await foreman.submit("a", TEXT)
        await foreman.until(lambda: not foreman.foreman.inventory.up)
        job = await foreman.until_state(job_id, State.QUEUED)
        assert (job.attempt, job.not_before) == (0, None)
        await fake.come_back()
        job = await foreman.until_state(job_id, State.DONE)
        assert (job.attempt, await completion(foreman, job_id)) == (1, TEXT)
        assert [event.reason for event in await requeued(foreman, job_id)] == [RequeueReason.UNREACHABLE]


async def test_job_that_waits_for_an_absent_target_has_no_history(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up)
        await fake.go_away()
        await foreman.foreman.inventory.refresh()
        job_id = await foreman.submit("a", TEXT)
        await fake.come_back()
        await foreman.until_state(job_id, State.DONE)
        assert await foreman.types(job_id) == ["job.queued", "job.loading", "job.working", "job.done"]


async def test_target_that_goes_during_a_load_costs_no_attempt(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as gate:
            job_id = await foreman.submit("a", TEXT)
            await gate.reached()
            await fake.go_away()
        job = await foreman.until_state(job_id, State.QUEUED)
        assert job.attempt == 0
        await fake.come_back()
        job = await foreman.until_state(job_id, State.DONE)
        assert (job.attempt, await completion(foreman, job_id)) == (1, TEXT)


async def test_load_that_breaks_at_a_target_that_is_there_costs_an_attempt(tmp_path):
    async with FakeOllama(["a"]) as fake, hurried(tmp_path, fake.url) as foreman:
        fake.inject("reset", on="load")
        job = await foreman.until_state(await foreman.submit("a", TEXT), State.DONE)
        assert job.attempt == 2


async def test_load_that_takes_the_target_down_each_time_is_given_up(tmp_path):
    async with FakeOllama(["a"]) as fake, hurried(tmp_path, fake.url, poll_interval="10ms") as foreman:
        with fake.hold("a", at="load") as gate:
            job_id = await foreman.submit("a", TEXT)
            for _ in range(13):
                await gate.reached()
                await fake.go_away()
                await foreman.until_state(job_id, State.QUEUED, State.FAILED)
                await fake.come_back()
            job = await foreman.until_state(job_id, State.FAILED)
        assert (job.error_code, job.attempt) == ("attempts_exhausted", 3)


@asynccontextmanager
async def streaming(foreman, **members):
    """A blocking call whose answer is still to come."""
    body = {"model": "a", "messages": [{"role": "user", "content": TEXT}], **members}
    async with foreman.client.stream("POST", "/api/chat", json=body) as response:
        yield response


async def test_caller_who_has_seen_half_an_answer_is_cut_off(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=2) as gate:
            async with streaming(foreman) as response:
                lines = response.aiter_lines()
                assert [json.loads(await anext(lines))["message"]["content"] for _ in range(2)] == ["one", " two"]
                await gate.reached()
                await fake.go_away()
                with pytest.raises(httpx.TransportError):
                    await anext(lines)
        job = await foreman.until_state(response.headers["x-foreman-job-id"], State.FAILED)
        assert (job.error_code, job.attempt) == ("target_broke", 1)


async def test_caller_who_has_seen_nothing_gets_the_next_attempts_answer(tmp_path):
    async with FakeOllama(["a"]) as fake, hurried(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            calling = asyncio.create_task(foreman.chat("a", TEXT, stream=True))
            await gate.reached()
            await fake.go_away()
        await fake.come_back()
        lines = [json.loads(line) for line in (await calling).text.splitlines()]
        assert "".join(line["message"]["content"] for line in lines) == TEXT
        assert lines[-1]["done"] is True


@pytest.mark.parametrize("kind", ["reset", "reset_after", "half_line_reset"])
async def test_caller_without_a_stream_gets_a_whole_answer_after_a_break(tmp_path, kind):
    async with FakeOllama(["a"]) as fake, hurried(tmp_path, fake.url) as foreman:
        fake.inject(kind)
        answer = await foreman.chat("a", TEXT)
        assert (answer.status_code, answer.json()["message"]["content"]) == (200, TEXT)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [400, 404, 429, 500, 502])
async def test_caller_gets_the_targets_own_error(tmp_path, status, stream):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("status", status=status, body="no such luck", times=2)
        body = {"model": "a", "messages": [{"role": "user", "content": TEXT}], "stream": stream}
        async with httpx.AsyncClient() as client:
            direct = await client.post(f"{fake.url}/api/chat", json=body)
        answer = await foreman.client.post("/api/chat", json=body)
        assert (answer.status_code, answer.content) == (direct.status_code, direct.content)
        assert answer.headers["content-type"] == direct.headers["content-type"]
        job = await foreman.until_state(answer.headers["x-foreman-job-id"], State.FAILED)
        assert job.error_status == status


SPOILT = {
    "half_line": lambda lines: len(lines) == 2 and lines[1].startswith('{"model"') and not lines[1].endswith("}"),
    "garbage": lambda lines: lines[1:] == ["boom"],
    "error_line": lambda lines: lines[1:] == ['{"error":"boom"}'],
}


@pytest.mark.parametrize("kind", SPOILT)
async def test_caller_sees_a_spoilt_stream_as_the_target_spoilt_it(tmp_path, kind):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject(kind, after=1)
        answer = await foreman.chat("a", TEXT, stream=True)
        assert answer.status_code == 200
        assert SPOILT[kind](answer.text.splitlines())
        job = await foreman.until_state(answer.headers["x-foreman-job-id"], State.FAILED)
        assert (job.error_code, len(fake.calls_of())) == ("target_error", 1)


async def test_busy_target_is_asked_again(tmp_path):
    async with FakeOllama(["a"]) as fake, hurried(tmp_path, fake.url) as foreman:
        fake.inject("status", on="load", status=503)
        fake.inject("status", status=503)
        answer = await foreman.chat("a", TEXT)
        assert answer.json()["message"]["content"] == TEXT
        assert (await foreman.until_state(answer.headers["x-foreman-job-id"], State.DONE)).attempt == 3


async def test_hanging_job_is_ended_by_cancelling_it(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("hang")
        job_id = await foreman.submit("a", TEXT)
        (call,) = await fake.wait_for_calls(1)
        assert (await foreman.client.delete(f"/jobs/{job_id}")).json()["state"] == "cancelled"
        await fake.wait_for(lambda: call.aborted, timeout=1)
        assert (await foreman.chat("a", TEXT)).status_code == 200


async def test_caller_who_leaves_ends_the_call_at_the_target(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=1) as gate:
            async with streaming(foreman) as response:
                await anext(response.aiter_lines())
                await gate.reached()
            await fake.wait_for(lambda: fake.calls_of()[0].aborted, timeout=1)
        job = await foreman.until_state(response.headers["x-foreman-job-id"], State.CANCELLED)
        assert job.cancelled_by == "caller_left"
