"""A caller that waits for long is sent spaces, which every Ollama client skips, and then the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import ollama
import pytest

from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, running

SOON = "20ms"
HELLO = [{"role": "user", "content": "one two"}]
CHAT = {"model": "a", "messages": HELLO}


async def spaces(chunks: AsyncIterator[bytes], count: int) -> None:
    """Read so many keepalives and nothing else."""
    got = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(got) < count:
            got += await anext(chunks)
    assert got.strip(b" ") == b""


async def rest(chunks: AsyncIterator[bytes]) -> bytes:
    """What comes after that."""
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("stream", [True, False])
async def test_waiting_caller_gets_spaces_then_the_answer(tmp_path, stream):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, keepalive_after=SOON) as foreman:
        with fake.hold("a") as gate:
            async with foreman.client.stream("POST", "/api/chat", json=CHAT | {"stream": stream}) as answer:
                assert answer.status_code == 200
                kind = "application/x-ndjson" if stream else "application/json; charset=utf-8"
                assert answer.headers["content-type"] == kind
                chunks = answer.aiter_raw()
                await spaces(chunks, 3)
                gate.release()
                body = await rest(chunks)
        assert body.count(b"\n") == (3 if stream else 0)
        assert json.loads(body.splitlines()[-1])["done"] is True


async def test_no_space_comes_once_the_answer_has_begun(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, keepalive_after=SOON) as foreman:
        with fake.hold("a", after=1) as gate:
            async with foreman.client.stream("POST", "/api/chat", json=CHAT) as answer:
                lines = answer.aiter_lines()
                first = await anext(lines)
                second = asyncio.create_task(anext(lines))
                await asyncio.wait({second}, timeout=0.1)
                assert not second.done()
                gate.release()
                assert [json.loads(line.lstrip(" "))["done"] for line in (first, await second)] == [False, False]


async def test_zero_sends_no_keepalive(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, keepalive_after="0") as foreman:
        fake.behaviour.change(load_seconds=0.1)
        assert (await foreman.client.post("/api/chat", json=CHAT)).content[:1] == b"{"


@pytest.mark.parametrize("stream", [True, False])
async def test_official_client_reads_the_answer_after_keepalives(tmp_path, stream):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, keepalive_after=SOON) as foreman:
        fake.behaviour.change(load_seconds=0.15)
        async with ollama.AsyncClient(foreman.url) as client:
            answer = await client.chat("a", HELLO, stream=stream)
            said = [part.message.content async for part in answer] if stream else [answer.message.content]
        assert "".join(said) == "one two"


async def refused_while_waiting(foreman, fake, members) -> tuple[httpx.Response, bytes]:
    """Let the caller wait for a load, then have the target refuse its request."""
    fake.inject("status", status=500, body="no luck")
    with fake.hold("a", at="load") as gate:
        async with foreman.client.stream("POST", "/api/chat", json=CHAT | members) as answer:
            chunks = answer.aiter_raw()
            await spaces(chunks, 1)
            gate.release()
            return answer, await rest(chunks)


@pytest.mark.parametrize("stream", [True, False])
async def test_refusal_after_a_keepalive_is_in_band(tmp_path, stream):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, keepalive_after=SOON) as foreman:
        answer, body = await refused_while_waiting(foreman, fake, {"stream": stream})
        assert (answer.status_code, json.loads(body)) == (200, {"error": "no luck"})


async def test_official_client_raises_what_went_wrong_after_a_keepalive(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, keepalive_after=SOON) as foreman:
        fake.inject("status", status=500, body="no luck")
        fake.behaviour.change(load_seconds=0.15)
        async with ollama.AsyncClient(foreman.url) as client:
            parts = await client.chat("a", HELLO, stream=True)
            with pytest.raises(ollama.ResponseError, match="no luck"):
                await anext(parts)


async def test_cancelled_job_ends_its_callers_wait_in_band(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, keepalive_after=SOON) as foreman:
        with fake.hold("a", at="load"):
            async with foreman.client.stream("POST", "/api/chat", json=CHAT) as answer:
                chunks = answer.aiter_raw()
                await spaces(chunks, 1)
                job_id = answer.headers["x-foreman-job-id"]
                assert (await foreman.client.delete(f"/jobs/{job_id}")).status_code == 200
                body = await rest(chunks)
        assert json.loads(body)["error"] == "request canceled"
        assert (await foreman.job(job_id)).state is State.CANCELLED
