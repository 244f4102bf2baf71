"""`/healthz`: what a probe sees when all is well, when the target is away, and when foreman stops."""

from __future__ import annotations

import pytest

from tests.fakes.ollama import FakeOllama
from tests.kit import running
from tests.shim import plugged


async def healthz(foreman) -> dict:
    answer = await foreman.client.get("/healthz")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


async def test_health_tells_what_runs_and_waits(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up is True)
        idle = await healthz(foreman)
        assert (idle["status"], idle["degraded"], idle["degraded_since"]) == ("ok", False, None)
        assert (idle["target"]["reachable"], idle["target"]["error"]) == (True, None)
        assert idle["target"]["last_success"].endswith("Z")
        assert idle["queue"] == {"waiting": 0, "running": 0}
        with fake.hold("a", at="load") as load:
            await foreman.submit("a")
            await foreman.submit("a")
            await load.reached()
            busy = await healthz(foreman)
            assert busy["queue"] == {"waiting": 1, "running": 1}
            assert busy["log_position"] > idle["log_position"]
            assert busy["uptime_seconds"] > idle["uptime_seconds"]


async def test_health_without_the_target_is_degraded_and_still_200(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, poll_interval="20ms") as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.up is True)
        await fake.go_away()
        await foreman.until(lambda: foreman.foreman.inventory.up is False)
        away = await healthz(foreman)
        assert (away["status"], away["degraded"], away["target"]["reachable"]) == ("ok", True, False)
        assert away["target"]["error"]
        assert away["target"]["last_success"] <= away["degraded_since"]
        await fake.come_back()
        await foreman.until(lambda: foreman.foreman.inventory.up is True)
        assert (await healthz(foreman))["degraded"] is False


async def test_health_before_the_first_poll_is_degraded(tmp_path):
    async with FakeOllama(models=["a"]) as fake:
        hanging = fake.inject("hang", on="*", times=None)
        async with running(tmp_path, fake.url) as foreman:
            assert (await healthz(foreman))["degraded"] is True
            hanging.release()


async def test_head_of_health_has_the_headers_and_no_body(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.head("/healthz")
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 100
        assert (await foreman.client.get("/healthz")).status_code == 200


async def test_health_needs_no_token_and_jobs_do(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, token="secret") as foreman:
        assert (await healthz(foreman))["status"] == "ok"
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
            answer = await foreman.client.get("/jobs", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert (await foreman.client.get("/jobs", headers={"authorization": "Bearer secret"})).status_code == 200


@pytest.mark.parametrize("method", ["get", "head"])
async def test_foreman_that_stops_says_so_and_takes_no_job(tmp_path, sanic_client, method):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        client = await plugged(sanic_client, foreman.foreman.desk)
        done = await foreman.submit("a")
        await foreman.until_finished(done)
        foreman.foreman.desk.draining = True
        assert (await getattr(client, method)("/healthz")).status_code == 200
        assert (await client.get("/healthz")).json()["status"] == "stopping"
        for answer in (
            await client.post("/jobs", json={"model": "a", "prompt": "x"}),
            await client.post(f"/jobs/{done}/retry"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
            assert int(answer.headers["retry-after"]) >= 1
        await client.close()
