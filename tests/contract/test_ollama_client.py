"""Ollama's own Python client, pointed at foreman in front of a real model: it must not notice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import ollama
import pytest

from foreman.embedded import launch
from tests.kit import running

MODEL, OTHER, EMBEDDER = "smollm2:135m", "smollm2-concise:135m", "all-minilm:latest"
HELLO = [{"role": "user", "content": "Say hello."}]
SHORT = {"num_predict": 8, "seed": 1, "temperature": 0}


async def serve(cache: Path, path: Path, urls: Future[tuple[str, str]], stopped: asyncio.Event) -> None:
    """The model and foreman before it, until told to stop."""
    async with AsyncExitStack() as stack:
        try:
            target = await stack.enter_async_context(launch(cache=cache, embeddings=True, max_loaded=2))
            foreman = await stack.enter_async_context(running(path, target))
        except BaseException as error:
            urls.set_exception(error)
            raise
        urls.set_result((foreman.url, target))
        await stopped.wait()


@pytest.fixture(scope="module")
def urls(request, tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Where foreman is and where its target is; both run in a loop of their own, for the client here blocks."""
    cache = request.config.cache.mkdir("embedded-model")  # the one that the embedded server's own tests fill
    ready: Future[tuple[str, str]] = Future()
    with asyncio.Runner() as runner:
        loop, stopped = runner.get_loop(), asyncio.Event()
        work = serve(cache, tmp_path_factory.mktemp("foreman"), ready, stopped)
        thread = threading.Thread(target=runner.run, args=(work,))
        thread.start()
        try:
            yield ready.result(timeout=600)
        finally:
            loop.call_soon_threadsafe(stopped.set)
            thread.join()


@pytest.fixture
def client(urls) -> Iterator[ollama.Client]:
    with ollama.Client(urls[0]) as client:
        yield client


@pytest.fixture
def direct(urls) -> Iterator[ollama.Client]:
    """The same client at the target itself."""
    with ollama.Client(urls[1]) as client:
        yield client


def test_list_is_the_targets(client, direct):
    assert {model.model for model in client.list().models} >= {MODEL, OTHER, EMBEDDER}
    assert client.list() == direct.list()


@pytest.mark.parametrize("name", [MODEL, "library/SmolLM2:135M", EMBEDDER])
def test_show_is_the_targets(client, direct, name):
    assert client.show(name) == direct.show(name)
    assert client.show(name).modelinfo


def test_chat_is_whole_without_a_stream(client, direct):
    answer = client.chat(MODEL, HELLO, options=SHORT)
    assert (answer.done, answer.done_reason, answer.eval_count) == (True, "length", 8)
    assert answer.message.content == direct.chat(MODEL, HELLO, options=SHORT).message.content
    assert 0 < answer.eval_duration < answer.total_duration


def test_chat_comes_in_pieces_with_a_stream(client, direct):
    parts = list(client.chat(MODEL, HELLO, stream=True, options=SHORT))
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 4
    said = "".join(part.message.content for part in parts)
    assert said == direct.chat(MODEL, HELLO, options=SHORT).message.content
    assert parts[-1].eval_count == 8


def test_generate_is_whole_without_a_stream(client, direct):
    answer = client.generate(MODEL, "Once upon a time", options=SHORT)
    assert answer.response == direct.generate(MODEL, "Once upon a time", options=SHORT).response
    assert (answer.done, len(answer.context) > 8) == (True, True)


def test_generate_comes_in_pieces_with_a_stream(client):
    parts = list(client.generate(MODEL, "Once upon a time", stream=True, options=SHORT))
    assert (
        "".join(part.response for part in parts) == client.generate(MODEL, "Once upon a time", options=SHORT).response
    )
    assert [part.done for part in parts].count(True) == 1


def test_format_and_options_reach_the_model(client):
    answer = client.chat(MODEL, HELLO, format="json", options={"num_predict": 40, "seed": 1})
    assert answer.message.content.lstrip().startswith("{")
    assert client.generate(MODEL, "x", options={"num_predict": 1}).eval_count == 1


def test_embed_gives_the_targets_vectors(client, direct):
    texts = ["A man is eating food.", "A girl is carrying a baby."]
    answer = client.embed(EMBEDDER, texts)
    assert [len(vector) for vector in answer.embeddings] == [384, 384]
    assert answer.embeddings == direct.embed(EMBEDDER, texts).embeddings
    assert client.embeddings(EMBEDDER, texts[0]).embedding == direct.embeddings(EMBEDDER, texts[0]).embedding


def test_load_and_unload_show_in_ps_at_once(client, direct):
    for name in (MODEL, OTHER):
        assert client.generate(name, "").done_reason == "load"
        assert name in [model.model for model in client.ps().models]
        assert {model.digest for model in client.ps().models} == {model.digest for model in direct.ps().models}
        assert client.chat(name, [], keep_alive="0s").done_reason == "unload"
        assert name not in [model.model for model in client.ps().models]


def test_ps_tells_that_the_model_stays(client):
    client.chat(MODEL, HELLO, options=SHORT)
    (loaded,) = [model for model in client.ps().models if model.model == MODEL]
    assert loaded.expires_at.year > 2200  # foreman's keep_alive of -1, in Ollama's way of saying for ever
    client.chat(MODEL, HELLO, options=SHORT, keep_alive="5m")
    assert loaded.size > 50_000_000


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda client: client.chat("nope", HELLO), "model 'nope' not found"),
        (lambda client: list(client.chat("nope", HELLO, stream=True)), "model 'nope' not found"),
        (lambda client: client.generate("nope", "x"), "model 'nope' not found"),
        (lambda client: client.show("nope"), "model 'nope(:latest)?' not found"),
        (lambda client: client.embeddings("nope", "x"), 'model "nope" not found, try pulling it first'),
    ],
    ids=["chat", "stream", "generate", "show", "embeddings"],
)
def test_unknown_model_is_a_response_error_in_ollamas_words(client, call, said):
    with pytest.raises(ollama.ResponseError, match=said) as caught:
        call(client)
    assert caught.value.status_code == 404


def test_refused_request_is_a_response_error_in_the_targets_words(client, direct):
    refused = []
    for one in (client, direct):
        with pytest.raises(ollama.ResponseError) as caught:
            one.chat(MODEL, HELLO, options={"num_ctx": "x"})
        refused.append((caught.value.status_code, caught.value.error))
    assert refused[0] == refused[1]


def test_asynchronous_client_streams_several_chats_side_by_side(urls):
    async def chat(client: ollama.AsyncClient, model: str) -> list[bool]:
        return [part.done async for part in await client.chat(model, HELLO, stream=True, options=SHORT)]

    async def all_of_them() -> list[list[bool]]:
        async with ollama.AsyncClient(urls[0]) as client:
            return await asyncio.gather(*(chat(client, model) for model in (MODEL, OTHER, MODEL, OTHER)))

    assert [done[-1] for done in asyncio.run(all_of_them())] == [True] * 4


def test_job_is_answered_like_a_call(urls, direct):
    with httpx.Client(base_url=urls[0], timeout=60) as http:
        job_id = http.post("/jobs", json={"model": MODEL, "messages": HELLO, "options": SHORT}).json()["job_id"]
        job = http.get(f"/jobs/{job_id}", params={"wait": "60s"}).json()
    said = job["artifacts"][0]["data"]["message"]["content"]
    assert said == direct.chat(MODEL, HELLO, options=SHORT).message.content
