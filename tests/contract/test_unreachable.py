"""What callers are told while the target is away, from the start or later, or hangs."""

from __future__ import annotations

import asyncio

import pytest

from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.kit import running

HELLO = [{"role": "user", "content": "hi"}]
#: Every route that needs the target, with a request that is right.
ROUTES = {
    "tags": ("GET", "/api/tags", None),
    "ps": ("GET", "/api/ps", None),
    "version": ("GET", "/api/version", None),
    "status": ("GET", "/api/status", None),
    "show": ("POST", "/api/show", {"model": "a"}),
    "chat": ("POST", "/api/chat", {"model": "a", "messages": HELLO}),
    "generate": ("POST", "/api/generate", {"model": "a", "prompt": "hi"}),
    "unload": ("POST", "/api/generate", {"model": "a", "keep_alive": 0}),
    "embed": ("POST", "/api/embed", {"model": "embedder", "input": "x"}),
    "embeddings": ("POST", "/api/embeddings", {"model": "embedder", "prompt": "x"}),
    "pull": ("POST", "/api/pull", {"model": "x"}),
}
NEEDS_IT_NOW = ("status", "show", "unload", "embed", "embeddings", "pull")


@pytest.mark.parametrize("route", ROUTES)
async def test_target_that_was_never_seen_is_unreachable_and_not_empty(tmp_path, route):
    method, path, body = ROUTES[route]
    async with FakeOllama(["a", "embedder"]) as fake:
        await fake.go_away()
        async with running(tmp_path, fake.url, management="on") as foreman:
            answer = await foreman.client.request(method, path, json=body)
            assert answer.status_code == 503
            assert answer.json()["error"].startswith("target unreachable")
            assert answer.json()["code"] == "target_unreachable"
            assert int(answer.headers["retry-after"]) >= 1
            await fake.come_back()
            await foreman.foreman.inventory.refresh()
            assert (await foreman.client.request(method, path, json=body)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_root_answers_while_the_target_is_away(tmp_path, method):
    async with FakeOllama() as fake:
        await fake.go_away()
        async with running(tmp_path, fake.url) as foreman:
            answer = await foreman.client.request(method, "/")
            assert (answer.status_code, answer.headers["content-length"]) == (200, "17")
            assert answer.text == ("" if method == "HEAD" else "Ollama is running")


async def test_last_lists_stay_when_the_target_goes_away(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.chat()
        lists = {path: (await foreman.client.get(path)).content for path in ("/api/tags", "/api/ps", "/api/version")}
        assert b'"a:latest"' in lists["/api/ps"]
        await fake.go_away()
        await foreman.foreman.inventory.refresh()
        for path, before in lists.items():
            answer = await foreman.client.get(path)
            assert (answer.status_code, answer.content) == (200, before)


@pytest.mark.parametrize("route", NEEDS_IT_NOW)
async def test_call_that_cannot_be_queued_says_that_the_target_is_away(tmp_path, route):
    method, path, body = ROUTES[route]
    async with FakeOllama(["a", "embedder"]) as fake, running(tmp_path, fake.url, management="on") as foreman:
        await foreman.client.request(method, path, json=body)
        await fake.go_away()
        answer = await foreman.client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "target_unreachable")
        assert (await foreman.client.get("/healthz")).json()["degraded"] is True


async def test_call_that_can_be_queued_waits_for_the_target_to_return(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.foreman.inventory.refresh()
        await fake.go_away()
        waiting = asyncio.create_task(foreman.chat("a", "still here"))
        await foreman.until(lambda: not foreman.foreman.inventory.up)
        assert not waiting.done()
        await fake.come_back()
        answer = await waiting
        assert answer.json()["message"]["content"] == "still here"
        assert (await foreman.until_state(answer.headers["x-foreman-job-id"], State.DONE)).attempt == 1


async def test_unknown_model_is_a_404_while_the_target_is_away(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.foreman.inventory.refresh()
        await fake.go_away()
        await foreman.foreman.inventory.refresh()
        answer = await foreman.chat("absent")
        assert (answer.status_code, answer.json()) == (404, {"error": "model 'absent' not found"})


async def test_lists_are_answered_while_the_target_hangs(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, poll_interval="10ms") as foreman:
        await foreman.client.get("/api/tags")
        fault = fake.inject("hang", on="*", times=None)
        await fake.wait_for(lambda: fault.hit)
        async with asyncio.timeout(0.4):
            for path in ("/api/tags", "/api/ps", "/api/version", "/"):
                assert (await foreman.client.get(path)).status_code == 200
        # With a change that the lists do not show yet they are waited for, but not for as long as the target hangs.
        foreman.foreman.inventory.poll_soon()
        async with asyncio.timeout(2):
            assert (await foreman.client.get("/api/ps")).status_code == 200
        fake.release()


async def test_target_that_breaks_a_passed_on_call_is_a_502(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, management="on") as foreman:
        fake.inject("reset", on="/api/pull", times=None)
        answer = await foreman.client.post("/api/pull", json={"model": "x"})
        assert (answer.status_code, answer.json()["code"]) == (502, "target_broke")
