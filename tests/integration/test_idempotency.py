"""`Idempotency-Key` on `/jobs`: a repeat is answered with what the first request made, whatever happened since."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from foreman.commands.types import ExpireJob
from tests.fakes import names
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, Process, Running, running

JOB = {"model": "a", "messages": [{"role": "user", "content": "hello"}]}


async def post(foreman: Running, key: str, body=JOB, path="/jobs", **more) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await foreman.client.post(path, content=content, headers={"idempotency-key": key, **more})


async def count(foreman: Running) -> int:
    return len((await foreman.client.get("/jobs")).json()["jobs"])


async def test_repeat_gets_the_first_job_in_whatever_state_it_is(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load"):
            first = await post(foreman, "k")
            second = await post(foreman, "k")
        assert (first.status_code, second.status_code) == (202, 202)
        job_id = first.json()["job_id"]
        assert second.json()["job_id"] == job_id
        assert second.headers["location"] == first.headers["location"]
        await foreman.until_finished(job_id)
        third = await post(foreman, "k")
        assert (third.json()["job_id"], third.json()["state"]) == (job_id, "done")
        assert await count(foreman) == 1


async def test_racing_repeats_make_one_job(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answers = await asyncio.gather(*(post(foreman, "k") for _ in range(20)))
        assert len({answer.json()["job_id"] for answer in answers}) == 1
        assert await count(foreman) == 1


async def test_key_with_another_body_is_422_and_changes_nothing(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await post(foreman, "k")
        answer = await post(foreman, "k", {**JOB, "options": {"seed": 1}})
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
        assert await count(foreman) == 1


async def test_body_that_means_the_same_is_the_same(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        first = await post(foreman, "k", b'{"model":"a","messages":[{"role":"user","content":"x"}]}')
        again = await post(foreman, "k", b' {"messages": [{"content": "x", "role": "user"}],\n "model": "a"}')
        assert first.json()["job_id"] == again.json()["job_id"]


async def test_key_may_be_quoted_or_bare(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        assert (await post(foreman, '"k"')).json()["job_id"] == (await post(foreman, "k")).json()["job_id"]


@pytest.mark.parametrize("key", ["", '""', "k" * 256, b"caf\xc3\xa9", "tab\there"])
async def test_impossible_key_is_refused(tmp_path, key):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await post(foreman, key)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert "Idempotency-Key" in answer.json()["error"]
        assert await count(foreman) == 0


async def test_refused_request_does_not_use_its_key_up(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        assert (await post(foreman, "k", {**JOB, "model": "b"})).status_code == 404
        assert (await post(foreman, "k", {"model": "a"})).status_code == 400
        assert (await post(foreman, "k")).status_code == 202


async def test_repeat_of_a_batch_gets_its_jobs_in_their_order(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        batch = [{**JOB, "options": {"seed": number}} for number in range(12)]
        first, second = await post(foreman, "k", batch), await post(foreman, "k", batch)
        ids = [[job["job_id"] for job in answer.json()["jobs"]] for answer in (first, second)]
        assert ids[0] == ids[1]
        assert await count(foreman) == 12


async def test_key_of_a_full_queue_still_finds_its_job(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, max_queue="1") as foreman:
        with fake.hold("a", at="load") as load:
            await foreman.submit("a")
            await load.reached()
            first = await post(foreman, "k")
            assert (await post(foreman, "other")).status_code == 503
            assert (await post(foreman, "k")).json()["job_id"] == first.json()["job_id"]


async def test_repeat_is_answered_though_its_model_has_gone(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        first = await post(foreman, "k")
        await foreman.until_finished(first.json()["job_id"])
        fake.store.remove(names.parse("a"))
        await foreman.foreman.inventory.refresh()
        assert (await post(foreman, "other")).status_code == 404
        assert (await post(foreman, "k")).json()["job_id"] == first.json()["job_id"]
        assert (await post(foreman, "k", {**JOB, "options": {}})).status_code == 422


async def test_key_is_forgotten_with_the_contents_of_its_job(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        first = (await post(foreman, "k")).json()["job_id"]
        await foreman.until_finished(first)
        await foreman.foreman.ledger.execute(ExpireJob(job_id=first))
        assert (await post(foreman, "k")).json()["job_id"] != first


async def test_retry_with_a_key_is_done_once(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        old = (await post(foreman, "k")).json()["job_id"]
        await foreman.until_finished(old)
        again = [(await post(foreman, "k", b"", f"/jobs/{old}/retry")).json()["job_id"] for _ in range(2)]
        assert again[0] == again[1] != old
        assert await count(foreman) == 2


async def test_key_holds_after_a_crash(tmp_path):
    async with FakeOllama(models=["a"]) as fake:
        foreman = Process(tmp_path, fake.url)
        try:
            found = []
            for _ in range(2):
                async with httpx.AsyncClient(base_url=await foreman.start(), timeout=PATIENCE_S) as client:
                    answer = await client.post("/jobs", json=JOB, headers={"idempotency-key": "k"})
                    found.append((answer.status_code, answer.json()["job_id"]))
                await foreman.kill()
            assert found[0] == found[1]
        finally:
            await foreman.kill()
