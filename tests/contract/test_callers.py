"""Blocking callers that leave, and those that come back with the same Idempotency-Key."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from foreman.events.types import CancelledBy
from foreman.fsm.job import State
from tests.fakes import names
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, Running, running

KEY = {"idempotency-key": "order-66"}


def asked(said: str = "one two three", *, stream: bool = False) -> dict[str, Any]:
    """A chat that is answered with what was said."""
    return {"model": "a", "messages": [{"role": "user", "content": said}], "stream": stream}


async def ask(foreman: Running, said: str = "one two three", *, stream: bool = False, key: bool = False):
    """Send it on a connection of its own, so that cancelling the call closes the connection."""
    async with httpx.AsyncClient(base_url=foreman.url, timeout=PATIENCE_S) as client:
        return await client.post("/api/chat", json=asked(said, stream=stream), headers=KEY if key else {})


async def leave(call: asyncio.Task[httpx.Response]) -> None:
    """Close the caller's connection."""
    call.cancel()
    await asyncio.wait({call})


async def begun(foreman: Running, call: Coroutine[Any, Any, httpx.Response]) -> tuple[asyncio.Task, str]:
    """Start a call and wait for its job: the call and the job's id."""
    queued: list[str] = []
    heard = foreman.foreman.ledger.feed.listeners
    heard.append(lambda item: queued.append(item.stream) if item.event.type == "job.queued" else None)
    task = asyncio.create_task(call)
    await foreman.until(lambda: bool(queued))
    return task, queued[0]


async def test_job_of_a_caller_that_leaves_the_queue_is_never_sent(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            first = asyncio.create_task(ask(foreman))
            await gate.reached()
            second, job_id = await begun(foreman, ask(foreman, "never"))
            await leave(second)
            job = await foreman.until_state(job_id, State.CANCELLED)
        assert job.cancelled_by is CancelledBy.CALLER_LEFT
        assert (await first).status_code == 200
        assert [call.json["messages"][0]["content"] for call in fake.calls_of()] == ["one two three"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tokens", [0, 2])
async def test_answer_nobody_waits_for_is_stopped_at_the_target(tmp_path, stream, tokens):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        gate = fake.hold("a", after=tokens)
        call, job_id = await begun(foreman, ask(foreman, stream=stream))
        await gate.reached()
        left_at = time.monotonic()
        await leave(call)
        await fake.wait_for(lambda: fake.calls_of()[0].aborted)
        assert time.monotonic() - left_at < 1
        assert (await foreman.until_state(job_id, State.CANCELLED)).cancelled_by is CancelledBy.CALLER_LEFT
        gate.release()
        assert (await foreman.chat()).status_code == 200


async def test_caller_that_leaves_is_no_error_of_foremans(tmp_path, capsys):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            call, job_id = await begun(foreman, ask(foreman))
            await gate.reached()
            await leave(call)
            await foreman.until_state(job_id, State.CANCELLED)
    logged = capsys.readouterr().out
    assert "caller_left" in logged
    assert "error" not in logged.lower()


async def test_load_nobody_waits_for_is_given_up(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        gate = fake.hold("a", at="load")
        call = asyncio.create_task(ask(foreman))
        await gate.reached()
        await leave(call)
        await fake.wait_for(lambda: fake.machine.aborted_loads)
        assert (await foreman.chat("b")).status_code == 200
        assert fake.calls_of(model="a") == []


async def test_load_others_wait_for_is_let_finish(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as gate:
            call = asyncio.create_task(ask(foreman, "gone"))
            await gate.reached()
            other = await foreman.submit("a", "still here")
            await leave(call)
            await foreman.until(lambda: len(foreman.foreman.ledger.work.running) == 0)
        await foreman.until_state(other, State.DONE)
        assert (fake.loaded_models, fake.machine.aborted_loads) == (["a"], [])
        assert [call.json["messages"][0]["content"] for call in fake.calls_of()] == ["still here"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tokens", [0, 2])
async def test_repeat_with_the_key_attaches_to_the_job_that_runs(tmp_path, stream, tokens):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, keepalive_after="10ms") as foreman:
        with fake.hold("a", after=tokens) as gate:
            call, job_id = await begun(foreman, ask(foreman, stream=stream, key=True))
            await gate.reached()
            await leave(call)
            body = asked(stream=stream)
            async with foreman.client.stream("POST", "/api/chat", json=body, headers=KEY) as answer:
                # It has a status: of what was said so far, or of a keepalive.
                assert answer.headers["x-foreman-job-id"] == job_id
                gate.release()
                text = (await answer.aread()).decode()
        assert "".join(json.loads(line)["message"]["content"] for line in text.splitlines()) == "one two three"
        assert [call.aborted for call in fake.calls_of()] == [False]


@pytest.mark.parametrize("stream", [True, False])
async def test_repeat_of_a_finished_call_gets_the_same_answer(tmp_path, stream):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        first = await ask(foreman, stream=stream, key=True)
        await foreman.until_state(first.headers["x-foreman-job-id"], State.DONE)
        again = await ask(foreman, stream=stream, key=True)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        for name in ("content-type", "x-foreman-job-id"):
            assert again.headers[name] == first.headers[name]
        assert len(fake.calls_of()) == 1


async def test_repeat_of_a_keyed_load_is_the_same_plain_object(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        first = await foreman.client.post("/api/generate", json={"model": "a"}, headers=KEY)
        await foreman.until_state(first.headers["x-foreman-job-id"], State.DONE)
        again = await foreman.client.post("/api/generate", json={"model": "a"}, headers=KEY)
        assert (again.content, again.headers["content-type"]) == (first.content, first.headers["content-type"])


async def test_repeat_of_a_refused_call_is_refused_alike(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("status", status=400, body="no such thing")
        first = await ask(foreman, key=True)
        await foreman.until_state(first.headers["x-foreman-job-id"], State.FAILED)
        again = await ask(foreman, key=True)
        assert (
            (again.status_code, again.json()) == (first.status_code, first.json()) == (400, {"error": "no such thing"})
        )


async def test_repeat_is_answered_even_if_its_model_has_gone(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        first = await ask(foreman, key=True)
        await foreman.until_state(first.headers["x-foreman-job-id"], State.DONE)
        fake.store.remove(names.parse("a"))
        await foreman.foreman.inventory.refresh()
        assert (await ask(foreman)).status_code == 404
        assert (await ask(foreman, key=True)).content == first.content


async def test_two_callers_with_one_key_share_one_answer(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=1) as gate:
            calls = [asyncio.create_task(ask(foreman, stream=True, key=True)) for _ in range(2)]
            await gate.reached()
        one, other = await asyncio.gather(*calls)
        assert one.content == other.content
        assert len(fake.calls_of()) == 1


async def test_key_used_with_another_request_is_refused(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        assert (await ask(foreman, key=True)).status_code == 200
        answer = await ask(foreman, "something else", key=True)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
        assert len(fake.calls_of()) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"])
async def test_key_that_is_none_is_refused(tmp_path, key):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        headers = [(b"idempotency-key", key.encode())]
        answer = await foreman.client.post("/api/chat", json=asked(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert fake.calls_of() == []
