"""What the fake can be made to do: loads, slots, gates and faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import ollama
import pytest

from tests.fakes.faults import Kind
from tests.fakes.machine import FakeModel
from tests.fakes.ollama import FakeOllama


def chat(model: str, said: str = "one two three", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": said}], **fields}


async def ask(fake: FakeOllama, body: dict[str, Any], path: str = "/api/chat") -> httpx.Response:
    """Send a request on a connection of its own and read the whole answer."""
    async with httpx.AsyncClient(base_url=fake.url, timeout=10) as client:
        return await client.post(path, json=body)


def spoken(answer: httpx.Response) -> str:
    """The content of a streamed chat answer."""
    return "".join(json.loads(line)["message"]["content"] for line in answer.text.splitlines())


def asking(fake: FakeOllama, body: dict[str, Any]) -> asyncio.Task[httpx.Response]:
    """Send a request in the background."""
    return asyncio.create_task(ask(fake, body))


async def left(task: asyncio.Task[httpx.Response]) -> None:
    """Make the client of a request go away."""
    task.cancel()
    await asyncio.wait([task])


async def test_official_client_finds_nothing_odd() -> None:
    async with FakeOllama(["a", "embedder"]) as fake, ollama.AsyncClient(host=fake.url) as client:
        assert [model.model for model in (await client.list()).models] == ["a:latest", "embedder:latest"]
        parts = await client.chat("a", [{"role": "user", "content": "x y"}], stream=True)
        assert [part.message.content async for part in parts] == ["x", " y", ""]
        assert (await client.generate("a", "x y")).response == "x y"
        assert (await client.ps()).models[0].model == "a:latest"
        assert (await client.show("a")).capabilities == ["completion", "tools", "thinking"]
        assert len((await client.embed("embedder", ["x", "y"])).embeddings) == 2
        assert [step.status async for step in await client.pull("new", stream=True)][-1] == "success"
        with pytest.raises(ollama.ResponseError, match="model 'b' not found"):
            await client.chat("b")


async def test_official_client_gets_thinking_and_tool_calls_on_demand() -> None:
    async with FakeOllama(["a"]) as fake, ollama.AsyncClient(host=fake.url) as client:
        thought = await client.generate("a", "<think> hm </think> yes")
        assert (thought.thinking, thought.response) == ("hm ", "yes")
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
        said = '<tool_call> {"name": "f", "arguments": {"n": 1}} </tool_call>'
        called = await client.chat("a", [{"role": "user", "content": said}], tools=tools)
        assert called.message.tool_calls is not None
        assert called.message.tool_calls[0].function.arguments == {"n": 1}


async def test_only_one_model_is_resident_at_a_time() -> None:
    async with FakeOllama(["a", "b"]) as fake:
        for model in ("a", "a", "b", "a:latest", "A"):
            await ask(fake, chat(model))
        assert fake.loaded_models == ["a", "b", "a"]


async def test_changed_load_options_load_again_and_others_do_not() -> None:
    async with FakeOllama(["a"]) as fake:
        for options in ({}, {"temperature": 1}, {"num_ctx": 99}, {"num_ctx": 99, "seed": 1}, {}):
            await ask(fake, chat("a", options=options))
        assert [key.num_ctx for key in fake.loads] == [None, 99, None]


async def test_copied_model_shares_the_load_of_its_original() -> None:
    async with FakeOllama(["a"]) as fake:
        await ask(fake, {"source": "a", "destination": "twin"}, "/api/copy")
        await ask(fake, chat("a"))
        await ask(fake, chat("twin"))
        assert fake.loaded_models == ["a"]


async def test_model_leaves_when_its_keep_alive_is_over() -> None:
    async with FakeOllama(["a"]) as fake:
        await ask(fake, chat("a", keep_alive="20ms"))
        await fake.wait_for(lambda: not fake.machine.resident)
        await ask(fake, chat("a", keep_alive=0))
        assert fake.machine.resident == []


async def test_unload_waits_for_the_answer_in_progress() -> None:
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a") as gate:
            running = asking(fake, chat("a"))
            await gate.reached()
            assert (await ask(fake, {"model": "a", "keep_alive": 0})).json()["done_reason"] == "unload"
            assert len(fake.machine.resident) == 1
        assert spoken(await running) == "one two three"
        assert fake.machine.resident == []


@pytest.mark.parametrize("parallel", [1, 3])
async def test_answers_are_made_side_by_side_only_in_slots(parallel: int) -> None:
    async with FakeOllama(["a"], parallel=parallel) as fake:
        with fake.hold() as gate:
            running = [asking(fake, chat("a")) for _ in range(5)]
            await fake.wait_for_calls(5)
            await gate.reached(parallel)
        await asyncio.gather(*running)
        assert (fake.max_concurrent, fake.max_concurrent_keys) == (parallel, 1)


async def test_time_per_load_and_token_is_spent() -> None:
    async with FakeOllama(["a"], load_seconds=0.1, seconds_per_token=0.02, tokens=5) as fake:
        last = json.loads((await ask(fake, chat("a"))).text.splitlines()[-1])
        assert last["load_duration"] >= 100_000_000
        assert last["total_duration"] >= 200_000_000
        assert last["eval_count"] == 5


async def test_gate_holds_after_the_tokens_asked_for() -> None:
    async with FakeOllama(["a", "b"], max_loaded=2) as fake:
        with fake.hold("a", after=2) as gate:
            running = asking(fake, chat("a"))
            await gate.reached()
            assert gate.held[0].lines == 2
            assert spoken(await ask(fake, chat("b"))) == "one two three"
        assert spoken(await running) == "one two three"


async def test_client_that_leaves_is_recorded_and_frees_its_slot() -> None:
    async with FakeOllama(["a"]) as fake:
        gate = fake.hold("a", after=1)
        running = asking(fake, chat("a"))
        await gate.reached()
        await left(running)
        await fake.wait_for(lambda: fake.calls[0].aborted and not fake.machine.running)
        fake.release()
        assert spoken(await ask(fake, chat("a"))) == "one two three"


async def test_client_that_leaves_during_the_load_aborts_it() -> None:
    async with FakeOllama(["a"]) as fake:
        gate = fake.hold("a", at="load")
        running = asking(fake, chat("a"))
        await gate.reached()
        await left(running)
        await fake.wait_for(lambda: fake.machine.aborted_loads)
        assert fake.machine.resident == []


async def test_full_load_queue_is_refused_as_ollama_refuses() -> None:
    async with FakeOllama(["a", "b"], max_queue=1) as fake:
        with fake.hold("a", at="load") as gate:
            running = asking(fake, chat("a"))
            await gate.reached()
            refused = await ask(fake, chat("b"))
        assert refused.status_code == 503
        assert refused.json()["error"].endswith("maximum pending requests exceeded")
        assert (await running).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["reset", "reset_after", "half_line_reset"])
async def test_broken_connection_reaches_the_client_as_such(kind: Kind, stream: bool) -> None:
    async with FakeOllama(["a"]) as fake:
        fault = fake.inject(kind, after=1)
        with pytest.raises(httpx.ReadError):
            await ask(fake, chat("a", stream=stream))
        assert (await ask(fake, chat("a"))).status_code == 200
        assert (fault.hit, fake.calls[0].aborted) == ([fake.calls[0]], False)


async def test_reset_within_a_stream_delivers_the_lines_before_it() -> None:
    async with FakeOllama(["a"]) as fake, httpx.AsyncClient() as client:
        fake.inject("reset_after", after=2)
        async with client.stream("POST", f"{fake.url}/api/chat", json=chat("a")) as answer:
            lines = answer.aiter_lines()
            got = [json.loads(await anext(lines))["message"]["content"] for _ in range(2)]
            with pytest.raises(httpx.ReadError):
                await anext(lines)
        assert got == ["one", " two"]


#: What the client reads when the answer to "one two three" is spoilt after its first line.
SPOILT: dict[str, Callable[[list[str]], bool]] = {
    "half_line": lambda lines: len(lines) == 2 and not lines[1].endswith("}"),
    "garbage": lambda lines: lines[1:] == ["boom"],
    "error_line": lambda lines: lines[1:] == ['{"error":"boom"}'],
    "huge_line": lambda lines: len(lines) == 4 and len(lines[1]) > 9_000_000,
    "no_done": lambda lines: len(lines) == 3 and not json.loads(lines[-1])["done"],
    "drip": lambda lines: len(lines) == 4 and json.loads(lines[-1])["done"],
}


@pytest.mark.parametrize("kind", SPOILT)
async def test_spoilt_stream_is_spoilt_as_asked(kind: Kind) -> None:
    async with FakeOllama(["a"]) as fake:
        fake.inject(kind, after=1, seconds=0)
        answer = await ask(fake, chat("a"))
        assert answer.status_code == 200
        assert SPOILT[kind](answer.text.splitlines())


async def test_error_before_the_first_line_keeps_its_status() -> None:
    async with FakeOllama(["a"]) as fake:
        fake.inject("error_line", status=500, body="llama died")
        fake.inject("status", status=503, body="busy")
        first, second = await ask(fake, chat("a")), await ask(fake, chat("a"))
        assert (first.status_code, first.text) == (500, '{"error":"llama died"}')
        assert first.headers["content-type"] == "application/json"
        assert (second.status_code, second.text) == (503, '{"error":"busy"}')


async def test_hanging_call_is_answered_once_released() -> None:
    async with FakeOllama(["a"]) as fake:
        fault = fake.inject("hang", on="/api/ps")
        async with httpx.AsyncClient() as client:
            running = asyncio.create_task(client.get(f"{fake.url}/api/ps"))
            await fake.wait_for(lambda: fault.hit)
            assert not fake.calls[0].finished_at
            fault.release()
            assert (await running).json() == {"models": []}


async def test_faults_meet_only_the_calls_they_are_meant_for() -> None:
    async with FakeOllama(["a", "b"]) as fake:
        fake.inject("status", model="b", skip=1, times=2)
        statuses = [(await ask(fake, chat(model))).status_code for model in ("a", "b", "b", "a", "b", "b")]
        assert statuses == [200, 200, 500, 200, 500, 200]
        fake.inject("status", on="load", status=418, times=None)
        assert (await ask(fake, {"model": "a"})).status_code == 418
        fake.release()
        assert (await ask(fake, {"model": "a"})).status_code == 200


async def test_fake_that_went_away_refuses_and_comes_back_on_its_port() -> None:
    async with FakeOllama(["a"]) as fake:
        url = fake.url
        fake.hold("a")
        running = asking(fake, chat("a"))
        await fake.wait_for_calls(1)
        await fake.go_away()
        with pytest.raises(httpx.TransportError):
            await running
        with pytest.raises(httpx.ConnectError):
            await ask(fake, chat("a"))
        fake.release()
        await fake.come_back()
        assert fake.url == url
        assert (await ask(fake, chat("a"))).status_code == 200
        assert not fake.calls[0].aborted


async def test_foreign_host_is_refused_unless_the_check_is_off() -> None:
    async with FakeOllama() as fake, httpx.AsyncClient(headers={"Host": "evil.example"}) as client:
        assert (await client.get(f"{fake.url}/api/tags")).status_code == 403
        fake.behaviour.change(check_host=False)
        assert (await client.get(f"{fake.url}/api/tags")).status_code == 200


async def test_calls_are_recorded_as_they_came() -> None:
    async with FakeOllama(["a"]) as fake, httpx.AsyncClient() as client:
        await client.post(f"{fake.url}/api/chat?x=1", content=b' {"MODEL":"a"}', headers={"X-Odd-Name": "1"})
        call = fake.calls[0]
        assert (call.method, call.path, call.body, call.kind, call.model) == (
            "POST",
            "/api/chat",
            b' {"MODEL":"a"}',
            "load",
            "a",
        )
        assert ("X-Odd-Name", "1") in call.headers
        assert call.started_at < call.finished_at
        assert (call.status, call.aborted) == (200, False)


async def test_embedding_depends_on_the_text_alone() -> None:
    async with FakeOllama([FakeModel("embedder", embedding_length=4)]) as fake:
        both = (await ask(fake, {"model": "embedder", "input": ["x", "y"]}, "/api/embed")).json()["embeddings"]
        again = (await ask(fake, {"model": "embedder", "prompt": "x"}, "/api/embeddings")).json()["embedding"]
        assert again == both[0] != both[1]
        assert sum(value * value for value in again) == pytest.approx(1)
