"""`/jobs`: what a job says of itself, waiting for it, its artifacts, giving it up and doing it again."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest

from foreman.commands.types import ExpireJob
from foreman.fsm.job import State
from foreman.projections import deliveries
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver
from tests.kit import PATIENCE_S, Running, running
from tests.shim import plugged

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def chat(model="a", text="hello world", **members):
    return {"model": model, "messages": [{"role": "user", "content": text}], **members}


async def test_accepted_job_says_what_it_is_and_where_to_look(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load"):
            answer = await foreman.client.post("/jobs", json=chat())
            job = answer.json()
            assert answer.status_code == 202
            assert answer.headers["content-type"] == "application/json"
            url = f"{foreman.url}/jobs/{job['job_id']}"
            assert answer.headers["location"] == url
            parts = {name: f"{url}/{name}" for name in ("events", "stream", "deliveries")}
            assert job["urls"] == {"get": url, **parts}
            expected = {"state": "queued", "model": "a", "endpoint": "chat", "class": "batch", "source": "async"}
            assert {name: job[name] for name in expected} == expected
            assert (job["attempt"], job["artifacts"]) == (0, [])
            assert RFC3339.fullmatch(job["created_at"])
            assert (await foreman.client.get(url)).json()["job_id"] == job["job_id"]


async def test_finished_job_shows_its_result_and_times_in_order(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a", "hello world")
        job = (await foreman.client.get(f"/jobs/{job_id}", params={"wait": "20s"})).json()
        times = [job[name] for name in ("created_at", "started_at", "completed_at")]
        assert all(RFC3339.fullmatch(time) for time in times)
        assert times == sorted(times)
        assert (job["state"], job["attempt"]) == ("done", 1)
        assert (job["error"], job["queue"], job["not_before"]) == (None, None, None)
        assert (job["result"]["done_reason"], job["result"]["generated_tokens"]) == ("stop", 2)
        recorded = await foreman.events(job_id)
        assert (job["version"], job["log_position"], job["log_hash"]) == (
            len(recorded), recorded[-1].position, recorded[-1].hash.hex())  # fmt: skip


async def test_links_begin_with_the_public_url_if_there_is_one(tmp_path):
    public = "https://queue.example/base"
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, public_url=public) as foreman:
        answer = await foreman.client.post("/jobs", json=chat())
        job_id = answer.json()["job_id"]
        assert answer.headers["location"] == answer.json()["urls"]["get"] == f"{public}/jobs/{job_id}"
        await foreman.until_finished(job_id)
        urls = [artifact["url"] for artifact in (await foreman.client.get(f"/jobs/{job_id}")).json()["artifacts"]]
        assert urls == [f"{public}/jobs/{job_id}/artifacts/{name}" for name in ("completion", "stream")]


async def test_prompt_makes_a_generate_job(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.post("/jobs", json={"model": "a", "prompt": "say this"})
        assert answer.json()["endpoint"] == "generate"
        done = (await foreman.client.get(f"/jobs/{answer.json()['job_id']}?wait=20")).json()
        assert done["artifacts"][0]["data"]["response"] == "say this"
        assert fake.calls_of()[0].path == "/api/generate"


async def test_single_job_reaches_the_target_as_it_was_written(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        written = (
            b'{ "model":"a" ,"messages":[{"role":"user","content":"caf\xc3\xa9 \\u00e9"}], "options":{"seed":1.50} }'
        )
        answer = await foreman.client.post("/jobs", content=written)
        await foreman.until_finished(answer.json()["job_id"])
        assert fake.calls_of()[0].body.startswith(written[:-2])


async def test_interactive_job_overtakes_the_batch_jobs_of_its_model(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as load:
            await foreman.submit("a", "first")
            await load.reached()
            await foreman.submit("a", "batch")
            await foreman.submit("a", "chat", **{"class": "interactive"})
            load.release()
            calls = await fake.wait_for_calls(3)
        assert [call.json["messages"][0]["content"] for call in calls] == ["first", "chat", "batch"]


async def test_history_tells_every_transition_and_outlives_the_contents(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        await foreman.foreman.ledger.execute(ExpireJob(job_id=job_id))
        events = (await foreman.client.get(f"/jobs/{job_id}/events")).json()["events"]
        assert [event["type"] for event in events] == [
            "job.queued", "job.loading", "job.working", "job.done", "job.expired"]  # fmt: skip
        assert [event["version"] for event in events] == [1, 2, 3, 4, 5]
        assert all(event["stream"] == job_id and RFC3339.fullmatch(event["at"]) for event in events)
        for path in ("", "/stream", "/artifacts", "/artifacts/completion"):
            answer = await foreman.client.get(f"/jobs/{job_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (410, "job_expired")


async def test_no_answer_comes_before_the_job_is_in_the_log(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_ids = await asyncio.gather(*(foreman.submit("a", str(number)) for number in range(20)))
        queued = {item.stream: item.position for item in await foreman.events() if item.event.type == "job.queued"}
        assert queued.keys() == set(job_ids)


# Waiting


async def begun(foreman: Running) -> None:
    """Wait until somebody waits for a job."""
    async with asyncio.timeout(PATIENCE_S):
        while not foreman.foreman.desk._waits:
            await asyncio.sleep(0)


SECONDS = {"params": {"wait": "20"}}
DURATION = {"params": {"wait": "20s"}}
PREFERENCE = {"headers": {"prefer": "wait=20"}}


@pytest.mark.parametrize("how", [SECONDS, DURATION, PREFERENCE], ids=["seconds", "duration", "preference"])
async def test_long_poll_returns_as_soon_as_the_job_is_over(tmp_path, how):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            job_id = await foreman.submit("a")
            await gate.reached()
            polling = asyncio.create_task(foreman.client.get(f"/jobs/{job_id}", **how))
            await begun(foreman)
            gate.release()
            async with asyncio.timeout(5):
                answer = await polling
        assert answer.json()["state"] == "done"
        assert answer.headers.get("preference-applied") == ("wait=20" if "headers" in how else None)
        async with asyncio.timeout(5):
            assert (await foreman.client.get(f"/jobs/{job_id}", **how)).json()["state"] == "done"


async def test_long_poll_that_runs_out_shows_the_job_as_it_is(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            job_id = await foreman.submit("a")
            await gate.reached()
            await foreman.until_state(job_id, State.WORKING)
            answer = await foreman.client.get(f"/jobs/{job_id}?wait=10ms")
            assert (answer.status_code, answer.json()["state"]) == (200, "working")
            assert not foreman.foreman.desk._waits


async def test_long_poll_ends_when_foreman_closes(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a") as gate:
            job_id = await foreman.submit("a")
            await gate.reached()
            await foreman.until_state(job_id, State.WORKING)
            polling = asyncio.create_task(foreman.client.get(f"/jobs/{job_id}?wait=20s"))
            await begun(foreman)
            foreman.foreman.desk.close()
            async with asyncio.timeout(5):
                assert (await polling).json()["state"] == "working"


@pytest.mark.parametrize(
    ("header", "applied"),
    [
        ("wait=600", "wait=60"),
        ('respond-async, Wait = "3"; x=y', "wait=3"),
        ("wait=\xb2", None),
        ("wait=-1", None),
        ("waits=3", None),
    ],
)
async def test_preference_is_read_as_its_standard_has_it(tmp_path, header, applied):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        answer = await foreman.client.get(f"/jobs/{job_id}", headers={"prefer": header.encode("latin-1")})
        assert (answer.status_code, answer.headers.get("preference-applied")) == (200, applied)


# Artifacts


async def test_artifacts_have_their_bytes_types_and_digests(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a", "hello world")
        await foreman.until_finished(job_id)
        listed = (await foreman.client.get(f"/jobs/{job_id}/artifacts")).json()["artifacts"]
        assert [(item["name"], item["content_type"]) for item in listed] == [
            ("completion", "application/json"), ("stream", "application/x-ndjson")]  # fmt: skip
        for item in listed:
            answer = await foreman.client.get(item["url"])
            assert answer.headers["content-type"] == item["content_type"]
            assert answer.headers["etag"] == f'"{item["sha256"]}"'
            assert len(answer.content) == item["size"]


@pytest.mark.parametrize("known", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
async def test_artifact_is_not_sent_to_whoever_has_it(tmp_path, known):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        path = f"/jobs/{job_id}/artifacts/completion"
        etag = (await foreman.client.get(path)).headers["etag"]
        answer = await foreman.client.get(path, headers={"if-none-match": known.format(etag=etag)})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert (await foreman.client.get(path, headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize(("limit", "shown"), [("1MiB", True), ("0", False)])
async def test_artifact_is_shown_in_its_job_up_to_the_limit(tmp_path, limit, shown):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, inline_limit=limit) as foreman:
        job_id = await foreman.submit("a", "hello world")
        await foreman.until_finished(job_id)
        completion, stream = (await foreman.client.get(f"/jobs/{job_id}")).json()["artifacts"]
        assert ("data" in completion, "data" in stream) == (shown, False)
        whole = await foreman.client.get(completion["url"])
        assert whole.json()["message"]["content"] == "hello world"
        assert not shown or completion["data"] == whole.json()


# The end


async def test_cancelled_job_is_never_started(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as load:
            first, second = await foreman.submit("a", "first"), await foreman.submit("a", "second")
            await load.reached()
            answers = [await foreman.client.delete(f"/jobs/{second}") for _ in range(2)]
            load.release()
            await foreman.until_finished(first)
        assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(200, "cancelled")] * 2
        assert answers[0].json()["error"] == {"message": "the job was cancelled", "code": "cancelled", "by": "api"}
        assert await foreman.types(second) == ["job.queued", "job.cancelled"]
        assert len(fake.calls_of()) == 1


async def test_cancelling_a_finished_job_changes_nothing(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        answer = await foreman.client.delete(f"/jobs/{job_id}")
        assert (answer.status_code, answer.json()["state"]) == (200, "done")


async def test_failed_job_says_why(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("status", model="a", status=418, body="no coffee")
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        job = (await foreman.client.get(f"/jobs/{job_id}")).json()
        assert job["state"] == "failed"
        assert (job["error"]["code"], job["error"]["status"]) == ("target_refused", 418)
        assert "no coffee" in job["error"]["message"]
        assert job["result"] is None


async def test_attempt_that_broke_is_told_apart_from_a_job_that_failed(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("reset_after", model="a", after=1)
        job_id = await foreman.submit("a")
        await foreman.until(lambda: job_id in foreman.foreman.ledger.work.running)
        await foreman.until(lambda: job_id in foreman.foreman.ledger.work.queue)
        waiting = (await foreman.client.get(f"/jobs/{job_id}")).json()
        assert (waiting["state"], waiting["error"], waiting["attempt"]) == ("queued", None, 1)
        assert "broke off" in waiting["last_attempt_error"]
        assert RFC3339.fullmatch(waiting["not_before"])
        done = (await foreman.client.get(f"/jobs/{job_id}?wait=20s")).json()
        assert (done["state"], done["last_attempt_error"], done["attempt"]) == ("done", None, 2)


# Again


@pytest.mark.parametrize("ending", ["done", "failed", "cancelled"])
async def test_job_that_is_over_can_be_done_again(tmp_path, ending):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        if ending == "failed":
            fake.inject("status", model="a", status=400)
        with fake.hold("a", at="load"):
            old = await foreman.submit("a", "once more", **{"class": "interactive"})
            if ending == "cancelled":
                await foreman.client.delete(f"/jobs/{old}")
        assert (await foreman.until_finished(old))[0].state == ending
        answer = await foreman.client.post(f"/jobs/{old}/retry")
        job = answer.json()
        assert answer.status_code == 202
        assert answer.headers["location"] == job["urls"]["get"]
        assert (job["retry_of"], job["class"], job["attempt"]) == (old, "interactive", 0)
        assert job["job_id"] != old
        done = (await foreman.client.get(f"/jobs/{job['job_id']}?wait=20s")).json()
        assert done["artifacts"][0]["data"]["message"]["content"] == "once more"
        assert (await foreman.job(old)).state == ending


async def test_blocking_call_can_be_done_again_as_a_job(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        old = (await foreman.chat("a", "once more")).headers["x-foreman-job-id"]
        await foreman.until_finished(old)
        job_id = (await foreman.client.post(f"/jobs/{old}/retry")).json()["job_id"]
        done = (await foreman.client.get(f"/jobs/{job_id}?wait=20s")).json()
        assert (done["source"], done["artifacts"][0]["data"]["message"]["content"]) == ("async", "once more")


async def test_job_that_is_not_over_cannot_be_done_again(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with fake.hold("a", at="load") as load:
            job_id = await foreman.submit("a")
            await load.reached()
            answer = await foreman.client.post(f"/jobs/{job_id}/retry")
            assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")
            assert "loading" in answer.json()["error"]


async def test_expired_job_cannot_be_done_again(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        await foreman.foreman.ledger.execute(ExpireJob(job_id=job_id))
        answer = await foreman.client.post(f"/jobs/{job_id}/retry")
        assert (answer.status_code, answer.json()["code"]) == (410, "job_expired")


# Webhooks

#: What no answer may quote.
SECRET = "s3cret-that-nobody-may-read"


async def test_job_shows_its_webhook_and_never_its_secret(tmp_path):
    async with FakeOllama(models=["a"]) as fake, Receiver() as receiver, running(tmp_path, fake.url) as foreman:
        webhook = {"state_webhook_url": receiver.url, "webhook_events": ["done", "done"], "webhook_secret": SECRET}
        answers = [await foreman.client.post("/jobs", json=chat(**webhook))]
        job_id = answers[0].json()["job_id"]
        await foreman.until_finished(job_id)
        await receiver.wait_for(1)
        paths = (f"/jobs/{job_id}", "/jobs", f"/jobs/{job_id}/events", f"/jobs/{job_id}/deliveries", "/deliveries")
        answers += [await foreman.client.get(path) for path in paths]
        assert answers[1].json()["webhook"] == {"url": receiver.url, "events": ["done"]}
        assert not any(SECRET in answer.text for answer in answers)
        assert await deliveries.secret_of(foreman.foreman.database.read, job_id) == SECRET
        assert json.loads(fake.calls_of()[0].body).keys().isdisjoint(webhook)


@pytest.mark.parametrize(
    ("networks", "url"),
    [("lan", "http://169.254.169.254/latest/"), ("public", "http://127.0.0.1:9/"), ("public", "http://[::1]:9/"),
     ("lan", "{foreman}/jobs"), ("lan", "{fake}/api/pull")],
)  # fmt: skip
async def test_webhook_that_foreman_would_never_send_is_refused_and_queues_nothing(tmp_path, networks, url):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, webhook_networks=networks) as foreman:
        bad = chat(state_webhook_url=url.format(foreman=foreman.url, fake=fake.url), webhook_secret=SECRET)
        for body in (bad, [chat(), bad]):
            answer = await foreman.client.post("/jobs", json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "address_refused"), answer.text
            own = url.startswith("{")  # which no setting opens
            assert ("FOREMAN_WEBHOOK_NETWORKS" in answer.json()["error"]) is not own
            assert SECRET not in answer.text
        assert (await foreman.client.get("/jobs")).json()["jobs"] == []
        assert await foreman.foreman.database.read("SELECT * FROM deliveries") == []
        assert await foreman.foreman.database.read("SELECT * FROM webhook_secrets") == []


async def test_repeat_with_the_same_key_tells_nobody_anew(tmp_path):
    async with FakeOllama(models=["a"]) as fake, Receiver() as receiver, running(tmp_path, fake.url) as foreman:

        async def send(url: str, secret: str) -> httpx.Response:
            body = chat(state_webhook_url=url, webhook_secret=secret)
            return await foreman.client.post("/jobs", json=body, headers={"idempotency-key": "k"})

        first, second = [(await send(receiver.url, secret)).json()["job_id"] for secret in (SECRET, "another")]
        assert first == second
        assert (await send(f"{receiver.url}/other", SECRET)).status_code == 422
        await foreman.until_finished(first)
        told = await foreman.foreman.database.read("SELECT job_id, version FROM deliveries ORDER BY position")
        assert told == [(first, version) for version in range(1, len(await foreman.events(first)) + 1)]
        assert await foreman.foreman.database.read("SELECT * FROM webhook_secrets") == [(first, SECRET)]


async def test_job_that_is_done_again_tells_the_same_receiver_of_the_same_with_the_same_secret(tmp_path):
    async with FakeOllama(models=["a"]) as fake, Receiver() as receiver, running(tmp_path, fake.url) as foreman:
        webhook = {"state_webhook_url": receiver.url, "webhook_events": ["working"], "webhook_secret": SECRET}
        old = await foreman.submit("a", **webhook)
        await foreman.until_finished(old)
        new = (await foreman.client.post(f"/jobs/{old}/retry")).json()
        await foreman.until_finished(new["job_id"])
        assert new["webhook"] == {"url": receiver.url, "events": ["working"]}
        assert await deliveries.secret_of(foreman.foreman.database.read, new["job_id"]) == SECRET
        await receiver.wait_for(4)
        assert [state for _, state in receiver.first_arrivals(new["job_id"])] == ["working", "done"]


# Through the pytest-sanic plugin's own client


async def test_job_goes_its_way_through_the_plugins_client(tmp_path, sanic_client):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        client = await plugged(sanic_client, foreman.foreman.desk)
        accepted = await client.post("/jobs", json=chat())
        assert accepted.status_code == 202
        done = await client.get(f"/jobs/{accepted.json()['job_id']}?wait=20s")
        assert done.json()["artifacts"][0]["data"]["message"]["content"] == "hello world"
        assert done.json()["urls"]["get"].startswith(client.make_url("/jobs/"))
        again = await client.post(f"/jobs/{accepted.json()['job_id']}/retry")
        gone = await client.delete(f"/jobs/{again.json()['job_id']}")
        assert (again.status_code, gone.status_code) == (202, 200)
        await client.close()


async def test_unknown_job_is_404_through_the_plugins_client(tmp_path, sanic_client):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        client = await plugged(sanic_client, foreman.foreman.desk)
        for method, path in ((client.get, ""), (client.get, "/events"), (client.get, "/stream"), (client.delete, ""),
                             (client.get, "/artifacts/completion"), (client.post, "/retry")):  # fmt: skip
            answer = await method(f"/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
        await client.close()
