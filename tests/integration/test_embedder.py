"""The embedding model beside the worker model: warmed when the target comes (back) up, and never taken for it."""

from __future__ import annotations

from foreman.fsm.job import State
from foreman.worker import embedder
from tests.fakes.ollama import FakeOllama
from tests.kit import running


async def look(foreman) -> None:
    """One more poll, from now on; one that is under way does not count."""
    foreman.foreman.inventory.poll_soon()
    await foreman.foreman.inventory.catch_up(5)


async def test_embedder_is_warmed_for_ever_at_the_start(tmp_path):
    async with FakeOllama(["a", "embed"], max_loaded=2) as fake, running(tmp_path, fake.url, embed_model="embed"):
        (call,) = await fake.wait_for_calls(1, on="embed")
        assert call.json == {"model": "embed", "input": "", "keep_alive": -1}
        await fake.wait_for(lambda: call.finished_at)
        assert fake.loaded_models == ["embed"]


async def test_embedder_is_warmed_again_after_every_absence(tmp_path):
    async with FakeOllama(["embed"]) as fake, running(tmp_path, fake.url, embed_model="embed") as foreman:
        await fake.wait_for_calls(1, on="embed")
        for count in (2, 3):
            await fake.go_away()
            await look(foreman)
            assert len(fake.calls_of("embed")) == count - 1
            await fake.come_back()
            await fake.wait_for_calls(count, on="embed")


async def test_warming_that_fails_is_tried_again(tmp_path):
    async with FakeOllama(["embed"]) as fake:
        fake.inject("status", on="embed", status=500)
        async with running(tmp_path, fake.url, embed_model="embed") as foreman:
            await fake.wait_for_calls(2, on="embed")
            await fake.wait_for(lambda: fake.calls_of("embed")[-1].status == 200)
            assert foreman.foreman.inventory.up


async def test_pause_between_warmings_grows_and_ends():
    assert list(embedder.AGAIN_S) == sorted(embedder.AGAIN_S)
    assert embedder.AGAIN_S[-1] >= 60


async def test_embedder_is_never_taken_for_the_resident_model(tmp_path):
    embedder = {"embed_model": "embed"}
    async with FakeOllama(["a", "embed"], max_loaded=2) as fake, running(tmp_path, fake.url, **embedder) as foreman:
        (call,) = await fake.wait_for_calls(1, on="embed")
        await fake.wait_for(lambda: call.finished_at)
        await look(foreman)
        assert foreman.foreman.residency.key is None
        job_id = await foreman.submit("a")
        await foreman.until_state(job_id, State.DONE)
        await look(foreman)
        assert foreman.foreman.residency.key == (await foreman.job(job_id)).load_key
        second = await foreman.submit("a")
        await foreman.until_state(second, State.DONE)
        assert "job.loading" not in await foreman.types(second)


async def test_embedding_is_answered_while_a_generation_runs(tmp_path):
    async with FakeOllama(["a", "embed"], max_loaded=2) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            await foreman.submit("a")
            await gate.reached()
            answer = await foreman.client.post("/api/embed", json={"model": "embed", "input": "hello"})
            assert len(answer.json()["embeddings"]) == 1


async def test_embedding_lost_on_a_kept_connection_is_asked_for_again(tmp_path):
    async with FakeOllama(["embed"]) as fake, running(tmp_path, fake.url) as foreman:
        body = {"model": "embed", "input": "hello"}
        first = await foreman.client.post("/api/embed", json=body)
        fake.inject("reset", on="embed")
        second = await foreman.client.post("/api/embed", json=body)
        assert second.json()["embeddings"] == first.json()["embeddings"]
        fake.inject("reset", on="embed", times=2)
        assert (await foreman.client.post("/api/embed", json=body)).status_code == 502
