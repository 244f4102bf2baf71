"""`POST /jobs` with many jobs: all of them in their order, or none."""

from __future__ import annotations

import json

import pytest

from foreman.api.submissions import MOST_JOBS
from tests.fakes.ollama import FakeOllama
from tests.kit import running


def chat(model="a", text="hello", **members):
    return {"model": model, "messages": [{"role": "user", "content": text}], **members}


def ndjson(*jobs) -> dict:
    content = b"\n".join(json.dumps(job).encode() for job in jobs)
    return {"content": content, "headers": {"content-type": "application/x-ndjson"}}


BOTH = pytest.mark.parametrize("form", [lambda *jobs: {"json": list(jobs)}, ndjson], ids=["array", "lines"])


@BOTH
async def test_batch_is_queued_in_its_order_in_one_transaction(tmp_path, form):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold(at="load"):
            answer = await foreman.client.post(
                "/jobs", **form(chat("a", "1"), chat("b", "2"), {"model": "a", "prompt": "3"})
            )
            assert answer.status_code == 202
            assert "location" not in answer.headers
            jobs = answer.json()["jobs"]
            assert [(job["model"], job["endpoint"], job["state"]) for job in jobs] == [
                ("a", "chat", "queued"), ("b", "chat", "queued"), ("a", "generate", "queued")]  # fmt: skip
            queued = [item for item in await foreman.events() if item.event.type == "job.queued"]
            assert [item.stream for item in queued] == [job["job_id"] for job in jobs]
            assert len({item.at for item in queued}) == 1
        for job in await foreman.until_finished(*(job["job_id"] for job in jobs)):
            assert job.state == "done"


@BOTH
async def test_batch_of_one_is_answered_as_a_batch(tmp_path, form):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        assert len((await foreman.client.post("/jobs", **form(chat()))).json()["jobs"]) == 1


@BOTH
@pytest.mark.parametrize(
    ("bad", "status", "named"),
    [
        (chat("nonsense"), 404, "job 2: model 'nonsense' not found"),
        ({"model": "a"}, 400, "job 2: a job needs either 'messages'"),
        ({"messages": [{}]}, 400, "job 2: 'model' is missing"),
        ("text", 400, "job 2: a job must be a JSON object"),
        (chat(state_webhook_url="ftp://x/"), 400, "job 2: 'state_webhook_url': it must begin"),
        (chat(state_webhook_url="http://169.254.169.254/"), 400, "job 2: webhooks are not sent to 169.254.169.254"),
    ],
)
async def test_one_bad_job_refuses_the_batch_by_its_number(tmp_path, form, bad, status, named):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.post("/jobs", **form(chat(), bad, chat()))
        assert answer.status_code == status
        assert named in answer.json()["error"]
        assert (await foreman.client.get("/jobs")).json()["jobs"] == []
        assert all(item.stream == "daemon" for item in await foreman.events())


async def test_line_that_is_cut_short_refuses_the_batch(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        request = ndjson(chat(), chat())
        request["content"] = request["content"][:-5]
        answer = await foreman.client.post("/jobs", **request)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert answer.json()["error"].startswith("job 2: ")
        assert (await foreman.client.get("/jobs")).json()["jobs"] == []


async def test_batch_that_does_not_fit_into_the_queue_is_refused_whole(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, max_queue="5") as foreman:
        with fake.hold("a", at="load") as load:
            await foreman.submit("a")
            await load.reached()
            full = await foreman.client.post("/jobs", json=[chat()] * 6)
            assert (full.status_code, full.json()["code"]) == (503, "queue_full")
            assert int(full.headers["retry-after"]) >= 1
            assert (await foreman.client.post("/jobs", json=[chat()] * 5)).status_code == 202
            assert (await foreman.client.post("/jobs", json=chat())).status_code == 503


async def test_batch_of_many_is_accepted_and_one_more_is_too_many(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load"):
            answer = await foreman.client.post("/jobs", json=[chat(text=str(number)) for number in range(MOST_JOBS)])
            assert len({job["job_id"] for job in answer.json()["jobs"]}) == MOST_JOBS
            too_many = await foreman.client.post("/jobs", json=[chat()] * (MOST_JOBS + 1))
            assert (too_many.status_code, too_many.json()["code"]) == (413, "too_large")
            assert f"{MOST_JOBS:,}" in too_many.json()["error"]


@pytest.mark.parametrize("body", ["[]", " [ ] "])
async def test_empty_batch_is_refused(tmp_path, body):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.post("/jobs", content=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "the batch is empty")
