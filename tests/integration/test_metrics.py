"""`/metrics` over HTTP: what the log gives survives a kill and a rebuild, and gauges say how things stand."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing

import httpx
from prometheus_client.parser import text_string_to_metric_families

from foreman.commands.types import ExpireJob
from foreman.events.types import Webhook
from tests import reckoning
from tests.core import HandClock, submit
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import answer, gone, reset
from tests.integration.webhook_kit import failed, lane, look_again, settled, telling, until
from tests.kit import PATIENCE_S, Process, Running, running


async def scrape(client: httpx.AsyncClient) -> str:
    """What a scraper is told."""
    response = await client.get("/metrics")
    assert response.status_code == 200, response.text
    return response.text


def value(text: str, name: str, **labels: str) -> float:
    """One number of a scrape."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    (found,) = [sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()]
    return found


async def load(client: httpx.AsyncClient, fake: FakeOllama) -> None:
    """Jobs, blocking ones and others, of which some are answered, some refused and some cut off at first."""
    fake.inject("reset_after", model="a", after=1)
    fake.inject("status", model="b", status=400)
    chats = [client.post("/api/chat", json={"model": model, "messages": [], "stream": False}) for model in "abab"]
    jobs = [client.post("/jobs", json={"model": model, "prompt": "x"}) for model in "abbab" * 3]
    ids = [answered.json().get("job_id") for answered in await asyncio.gather(*jobs, *chats)]
    await finished(client, [job_id for job_id in ids if job_id])


async def leave_in_the_middle(client: httpx.AsyncClient) -> None:
    """Three jobs of a model that is held: one that has its first token, one that waits, one that is cancelled."""
    ids = [(await client.post("/jobs", json={"model": "a", "prompt": "x"})).json()["job_id"] for _ in range(3)]
    await client.delete(f"/jobs/{ids[2]}")
    async with client.stream("GET", f"/jobs/{ids[0]}/stream") as stream:
        await anext(stream.aiter_lines())


async def finished(client: httpx.AsyncClient, ids: list[str]) -> None:
    """Wait until these jobs are over."""
    for job_id in ids:
        job = (await client.get(f"/jobs/{job_id}?wait=20s")).json()
        assert job["state"] in {"done", "failed", "cancelled"}


async def test_every_metric_of_the_log_survives_a_kill_a_restart_and_a_rebuild(tmp_path):
    database = tmp_path / "foreman.db"
    async with FakeOllama(models=["a", "b"]) as fake:
        process = Process(tmp_path, fake.url)
        try:
            async with httpx.AsyncClient(base_url=await process.start(), timeout=PATIENCE_S) as client:
                await load(client, fake)
                with fake.hold("a", after=1):
                    await leave_in_the_middle(client)
                    await process.kill()
            async with httpx.AsyncClient(base_url=await process.start(), timeout=PATIENCE_S) as client:
                waiting = (await client.get("/jobs?state=queued,loading,working")).json()["jobs"]
                await finished(client, [job["job_id"] for job in waiting])
                numbers = reckoning.of_text(await scrape(client))
            reckoning.assert_equal(numbers, reckoning.of_file(database))
            assert numbers["foreman_starts_total"] == {(): (2,)}
            assert numbers["foreman_job_requeues_total"].keys() == {("connection",), ("interrupted",)}
            assert {outcome for _, outcome in numbers["foreman_jobs_finished_total"]} == {"done", "failed", "cancelled"}
            process.signal(signal.SIGTERM)
            await process.ended()
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("DELETE FROM snapshots")
                connection.commit()
            async with httpx.AsyncClient(base_url=await process.start(), timeout=PATIENCE_S) as client:
                rebuilt = reckoning.of_text(await scrape(client))
            reckoning.assert_equal(rebuilt, reckoning.of_file(database))
            reckoning.assert_equal(rebuilt, {**numbers, "foreman_starts_total": {(): (3,)}})
        finally:
            await process.kill()


async def test_gauges_say_how_things_stand_at_the_scrape(tmp_path):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url, poll_interval="20ms") as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up is True)
        with fake.hold("a", at="load") as loading:
            first = await foreman.submit("a")
            second = await foreman.submit("b")
            await foreman.submit("b")
            await loading.reached()
            text = await scrape(foreman.client)
            assert value(text, "foreman_jobs_running") == 1
            assert value(text, "foreman_jobs_queued", model="a:latest", **{"class": "batch"}) == 0
            assert value(text, "foreman_jobs_queued", model="b:latest", **{"class": "batch"}) == 2
            oldest = (await foreman.job(second)).created_at / 1_000_000
            assert value(text, "foreman_oldest_job_timestamp_seconds") == oldest
        await foreman.until(lambda: not foreman.foreman.ledger.work.queue and not foreman.foreman.ledger.work.running)
        text = await scrape(foreman.client)
        assert value(text, "foreman_oldest_job_timestamp_seconds") == 0
        assert value(text, "foreman_model_resident", model="b:latest") == 1
        assert value(text, "foreman_target_up") == 1
        assert value(text, "foreman_log_position") == len(await foreman.events())
        assert value(text, "foreman_database_bytes", file="database") > 0
        assert value(text, "foreman_disk_free_bytes") < value(text, "foreman_disk_bytes")
        assert value(text, "foreman_commit_seconds_count") > 0
        assert (await foreman.job(first)).finished


async def test_a_target_that_is_away_shows_since_when(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, poll_interval="20ms") as foreman:
        await foreman.until_finished(await foreman.submit("a"))
        await fake.go_away()
        await foreman.until(lambda: foreman.foreman.inventory.up is False)
        text = await scrape(foreman.client)
        since = foreman.foreman.inventory.health.away_since / 1_000_000
        assert value(text, "foreman_target_degraded_timestamp_seconds") == since
        assert value(text, "foreman_target_up") == value(text, "foreman_model_resident", model="a:latest") == 0
        assert value(text, "foreman_target_outages_total") == 1
        assert value(text, "foreman_target_stalled_timestamp_seconds") == 0


async def told(foreman: Running, url: str) -> str:
    """A job that is done, of which the receiver is still to hear; its id."""
    job_id = await foreman.submit("a", state_webhook_url=url, webhook_events=["done"])
    await foreman.until_finished(job_id)
    return job_id


async def test_attempts_of_webhooks_are_counted_by_what_came_of_them_and_for_good(tmp_path):
    clock = HandClock(1_700_000_000_000_000)
    async with telling(tmp_path, clock) as (_, receiver, foreman):
        receiver.behave(answer(204), answer(500), reset(), gone())
        first = await told(foreman, receiver.url)
        await settled(foreman)
        second = await told(foreman, receiver.url)
        for times in (1, 2):
            await failed(foreman, second, times)
            clock.at = lane(foreman, second).head.due
            await look_again(foreman)
        await settled(foreman)
        # Past the door, where it would have been refused.
        forbidden = submit(webhook=Webhook(url="http://169.254.1.1/", events=("done",)))
        third = (await foreman.foreman.ledger.execute(forbidden)).jobs[0].job_id
        await foreman.until_finished(third)
        await failed(foreman, third)
        text = await scrape(foreman.client)
        results = ("delivered", "failed", "gone", "not_sent")
        assert [value(text, "foreman_webhook_attempts_total", result=result) for result in results] == [1, 2, 1, 1]
        kept = await foreman.foreman.database.read("SELECT count(*) FROM delivery_attempts")
        assert kept == [(5,)]
        assert value(text, "foreman_webhooks_pending") == 1
        for job_id in (first, second):
            await foreman.foreman.ledger.execute(ExpireJob(job_id=job_id))
        text = await scrape(foreman.client)
        assert [value(text, "foreman_webhook_attempts_total", result=result) for result in results] == [1, 2, 1, 1]


async def test_dead_webhooks_are_those_that_may_be_asked_for_again(tmp_path):
    clock = HandClock(1_700_000_000_000_000)
    async with telling(tmp_path, clock) as (_, receiver, foreman):
        receiver.behave(*[answer(500)] * 12)
        job_id = await told(foreman, receiver.url)
        for times in range(1, 12):
            await failed(foreman, job_id, times)
            clock.at = lane(foreman, job_id).head.due
            await look_again(foreman)
        await settled(foreman)
        assert value(await scrape(foreman.client), "foreman_webhooks_dead") == 1
        await foreman.client.post(f"/jobs/{job_id}/deliveries/redeliver")
        await until(foreman, lambda: not foreman.foreman.ledger.outbox.pending)
        text = await scrape(foreman.client)
        assert (value(text, "foreman_webhooks_dead"), value(text, "foreman_webhooks_pending")) == (0, 0)
        assert value(text, "foreman_webhook_attempts_total", result="failed") == 12


async def test_no_path_that_somebody_makes_up_makes_a_series(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        before = await scrape(foreman.client)
        for number in range(5):
            await foreman.client.get(f"/nothing/{number}")
            await foreman.client.request("PATCH", "/jobs")
            await foreman.client.get(f"/jobs/J{number}")
        after = await scrape(foreman.client)
        assert len(after.splitlines()) == len(before.splitlines())
        labels = {"route": "other", "method": "other", "status": "4xx"}
        assert value(after, "foreman_http_requests_total", **labels) == 10
        labels = {"route": "/jobs/{job_id}", "method": "GET", "status": "4xx"}
        assert value(after, "foreman_http_requests_total", **labels) == 5
        assert value(after, "foreman_http_request_seconds_count", api="foreman") >= 6


async def test_metrics_need_the_token_when_one_is_set(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, token="secret") as foreman:
        refused = await foreman.client.get("/metrics")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        answered = await foreman.client.get("/metrics", headers={"authorization": "Bearer secret"})
        assert value(answered.text, "foreman_http_requests_total", route="other", method="other", status="4xx") == 1
