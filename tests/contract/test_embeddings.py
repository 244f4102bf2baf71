"""Embedding calls go beside the queue: at once, some at a time, and over connections that are kept."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.ollama import FakeOllama
from tests.kit import running

EMBED = {"model": "embedder", "input": "one two"}


def embedding(foreman) -> asyncio.Task:
    """An embedding call in the background."""
    return asyncio.create_task(foreman.client.post("/api/embed", json=EMBED))


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
async def test_embedding_does_not_wait_for_a_generation(tmp_path, path):
    async with FakeOllama(["a", "embedder"], max_loaded=2) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            call = asyncio.create_task(foreman.chat())
            await gate.reached()
            jobs = [await foreman.submit() for _ in range(3)]
            answer = await foreman.client.post(path, json=EMBED | {"prompt": "one two"})
            assert answer.status_code == 200
            assert not call.done()
        assert (await call).status_code == 200
        await foreman.until_finished(*jobs)


async def test_embedding_leaves_no_trace_in_the_log(tmp_path):
    async with FakeOllama(["embedder"]) as fake, running(tmp_path, fake.url) as foreman:
        assert (await foreman.client.post("/api/embed", json=EMBED)).status_code == 200
        assert {item.stream for item in await foreman.events()} == {"daemon"}


async def test_only_so_many_embeddings_are_at_the_target_at_once(tmp_path):
    async with FakeOllama(["embedder"]) as fake, running(tmp_path, fake.url, embed_concurrency="3") as foreman:
        with fake.hold("embedder", on="embed", at="load") as gate:
            calls = [embedding(foreman) for _ in range(10)]
            await gate.reached()
            await fake.wait_for_calls(3, on="embed")
            # What else foreman had sent by now would have arrived before this.
            assert (await foreman.client.post("/api/show", json={"model": "embedder"})).status_code == 200
            assert len(fake.calls_of("embed")) == 3
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
        assert len(fake.calls_of("embed")) == 10


async def test_embedding_whose_caller_left_makes_room_for_another(tmp_path):
    async with FakeOllama(["embedder"]) as fake, running(tmp_path, fake.url, embed_concurrency="1") as foreman:
        with fake.hold("embedder", on="embed") as gate:
            first, waiting = embedding(foreman), embedding(foreman)
            await gate.reached()
            first.cancel()
            await fake.wait_for(lambda: fake.calls_of("embed")[0].aborted)
            await fake.wait_for_calls(2, on="embed")
        assert (await waiting).status_code == 200


@pytest.mark.parametrize("how", ["restart", "reset"])
async def test_dead_kept_connection_does_not_reach_the_caller(tmp_path, how):
    async with FakeOllama(["embedder"]) as fake, running(tmp_path, fake.url) as foreman:
        assert (await foreman.client.post("/api/embed", json=EMBED)).status_code == 200
        if how == "restart":
            await fake.go_away()
            await fake.come_back()
        else:  # the connection dies with the request already on its way
            fake.inject("reset", on="embed")
        answer = await foreman.client.post("/api/embed", json=EMBED)
        assert (answer.status_code, len(answer.json()["embeddings"])) == (200, 1)


async def test_large_answer_passes_whole(tmp_path):
    async with FakeOllama(["embedder"]) as fake, running(tmp_path, fake.url) as foreman:
        texts = [f"text {number}" for number in range(20_000)]
        answer = await foreman.client.post("/api/embed", json={"model": "embedder", "input": texts})
        assert len(answer.content) > 1024 * 1024
        assert len(answer.json()["embeddings"]) == 20_000
