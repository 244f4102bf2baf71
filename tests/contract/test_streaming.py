"""What a blocking caller gets while an answer is being made: the target's own bytes, as soon as they are there."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.fakes.test_fake_ollama import normalised
from tests.kit import PATIENCE_S, running

PROMPT = "one two three four"


def asked(path: str, **members) -> dict:
    """A request for an answer of as many tokens as the prompt has words."""
    said = {"messages": [{"role": "user", "content": PROMPT}]} if path == "/api/chat" else {"prompt": PROMPT}
    return {"model": "a", **said, **members}


async def lines_so_far(answer: httpx.Response, count: int) -> list[bytes]:
    """So many lines of a running answer; each read must bring whole lines."""
    got = b""
    chunks = answer.aiter_raw()
    async with asyncio.timeout(PATIENCE_S):
        while got.count(b"\n") < count:
            got += await anext(chunks)
    assert got.endswith(b"\n")
    return got.splitlines()


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("tokens", [1, 3])
async def test_tokens_arrive_while_the_target_still_works(tmp_path, path, tokens):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", after=tokens) as gate:
            async with foreman.client.stream("POST", path, json=asked(path)) as answer:
                await gate.reached()
                assert gate.held[0].lines == tokens
                lines = await lines_so_far(answer, tokens)
                assert len(lines) == tokens
                assert not gate.held[0].finished_at
                assert answer.headers["content-type"] == "application/x-ndjson"
                gate.release()


async def test_no_header_is_sent_before_the_first_token(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        request = foreman.client.build_request("POST", "/api/chat", json=asked("/api/chat"))
        with fake.hold("a") as gate:
            begun = asyncio.create_task(foreman.client.send(request, stream=True))
            await gate.reached()
            # What foreman had sent by now would be here before the answer to a later question.
            await foreman.client.get("/healthz")
            assert not begun.done()
        answer = await begun
        assert answer.status_code == 200
        await answer.aclose()


@pytest.mark.parametrize("stream", [True, False, None])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_answer_is_the_targets_byte_for_byte(tmp_path, path, stream):
    said = "<b> &\u2028 \u00e9 \U0001f600 \\ " + "x" * 70_000
    body = {"model": "a", "stream": stream, "prompt": said, "messages": [{"role": "user", "content": said}]}
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman, httpx.AsyncClient() as client:
        through = await foreman.client.post(path, json=body)
        straight = await client.post(f"{fake.url}{path}", json=body)
        assert b"\\u003c" in through.content
        assert normalised(through.content) == normalised(straight.content)


@pytest.mark.parametrize("stream", [True, False])
async def test_error_before_the_first_token_keeps_its_status(tmp_path, stream):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("error_line", status=500, body="llama runner process has terminated")
        answer = await foreman.client.post("/api/chat", json=asked("/api/chat", stream=stream))
        assert answer.status_code == 500
        assert answer.json() == {"error": "llama runner process has terminated"}
        job = await foreman.until_state(answer.headers["x-foreman-job-id"], State.FAILED)
        assert (job.error, job.error_status) == ("llama runner process has terminated", 500)


async def test_error_in_the_middle_is_one_more_line(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("error_line", after=2, body="boom")
        answer = await foreman.client.post("/api/chat", json=asked("/api/chat"))
        assert answer.status_code == 200
        assert answer.content.endswith(b'"done":false}\n{"error":"boom"}\n')
        await foreman.until_state(answer.headers["x-foreman-job-id"], State.FAILED)


@pytest.mark.parametrize("kind", ["reset_after", "half_line_reset"])
async def test_answer_that_breaks_off_ends_in_no_clean_end(tmp_path, kind):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject(kind, after=2)
        async with foreman.client.stream("POST", "/api/chat", json=asked("/api/chat")) as answer:
            lines = answer.aiter_lines()
            assert [json.loads(await anext(lines))["message"]["content"] for _ in range(2)] == ["one", " two"]
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await anext(lines)
        assert len(fake.calls_of()) == 1


async def test_broken_answer_of_which_nothing_was_passed_on_is_asked_for_again(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("reset")
        answer = await foreman.client.post("/api/chat", json=asked("/api/chat", stream=False))
        assert answer.json()["message"]["content"] == PROMPT
        assert len(fake.calls_of()) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_line_of_nine_megabytes_passes(tmp_path, stream):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("huge_line")
        answer = await foreman.client.post("/api/chat", json=asked("/api/chat", stream=stream))
        first = json.loads(answer.content.split(b"\n")[0])
        assert first["message"]["content"] == "x" * 9_000_000


async def test_answer_that_drips_is_put_together(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("drip", seconds=0)
        answer = await foreman.client.post("/api/chat", json=asked("/api/chat"))
        assert [json.loads(line)["done"] for line in answer.text.splitlines()] == [False] * 4 + [True]


@pytest.mark.parametrize("kind", ["no_done", "garbage", "half_line"])
async def test_odd_end_is_passed_on_as_it_is(tmp_path, kind):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject(kind, after=1, times=2)
        async with httpx.AsyncClient() as client:
            straight = await client.post(f"{fake.url}/api/chat", json=asked("/api/chat"))
        answer = await foreman.client.post("/api/chat", json=asked("/api/chat"))
        assert answer.status_code == straight.status_code == 200
        assert answer.text.count("\n") == straight.text.count("\n")
        assert '"done":true' not in answer.text


async def test_streams_of_two_models_do_not_mix(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        bodies = [asked("/api/generate", model="ab"[turn % 2], prompt=f"turn {turn}") for turn in range(12)]
        answers = await asyncio.gather(*(foreman.client.post("/api/generate", json=body) for body in bodies))
        for body, answer in zip(bodies, answers, strict=True):
            lines = [json.loads(line) for line in answer.text.splitlines()]
            assert {line["model"] for line in lines} == {body["model"]}
            assert "".join(line["response"] for line in lines) == body["prompt"]
