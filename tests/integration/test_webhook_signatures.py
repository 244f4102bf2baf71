"""Signatures as they arrive: what verifies them, which secret they are made with, and that no secret ever shows."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import closing

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from foreman.client import SignatureInvalid, verify_signature
from tests.core import HandClock
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer
from tests.integration.webhook_kit import ONLY_QUEUED, failed, look_again, settled, telling
from tests.kit import Process

OURS = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEXT = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
PLAIN = "a.secret.of.the.jobs.own"


def verifies(arrival, secret: str) -> bool:
    """Whether the official package takes it."""
    try:
        Webhook(secret).verify(arrival.body, arrival.headers)
    except WebhookVerificationError:
        return False
    return True


async def test_official_package_and_client_verify_what_arrives(tmp_path):
    async with telling(tmp_path, webhook_secret=OURS) as (_, receiver, foreman):
        await foreman.submit("a", state_webhook_url=receiver.url)
        for arrival in await receiver.wait_for(4):
            assert verifies(arrival, OURS)
            verify_signature(arrival.body, arrival.headers, OURS)
            with pytest.raises(SignatureInvalid):
                verify_signature(arrival.body + b" ", arrival.headers, OURS)


async def test_either_of_two_secrets_verifies(tmp_path):
    async with telling(tmp_path, webhook_secret=f"{NEXT},{OURS}") as (_, receiver, foreman):
        await foreman.submit("a", state_webhook_url=receiver.url)
        for arrival in await receiver.wait_for(4):
            assert verifies(arrival, OURS)
            assert verifies(arrival, NEXT)


async def test_a_jobs_own_secret_takes_the_place_of_the_daemons(tmp_path):
    async with telling(tmp_path, webhook_secret=OURS) as (_, receiver, foreman):
        await foreman.submit("a", state_webhook_url=receiver.url, webhook_secret=NEXT, **ONLY_QUEUED)
        (arrival, _) = await receiver.wait_for(2)
        assert (verifies(arrival, NEXT), verifies(arrival, OURS)) == (True, False)
        with pytest.raises(SignatureInvalid):
            verify_signature(arrival.body, arrival.headers, OURS)


async def test_a_plain_secret_signs_the_body_alone(tmp_path):
    async with telling(tmp_path, webhook_secret=PLAIN) as (_, receiver, foreman):
        await foreman.submit("a", state_webhook_url=receiver.url)
        arrival = (await receiver.wait_for(1))[0]
        verify_signature(arrival.body, arrival.headers, PLAIN)
        assert "webhook-signature" not in arrival.headers


async def test_without_a_secret_nothing_is_signed(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        job_id = await foreman.submit("a", state_webhook_url=receiver.url)
        arrival = (await receiver.wait_for(1))[0]
        assert [name for name in arrival.headers if "signature" in name] == []
        assert arrival.id == f"{job_id}-1"


async def test_a_repeat_has_the_same_id_and_body_and_a_time_and_signature_of_its_own(tmp_path):
    clock = HandClock(time.time_ns() // 1_000)
    async with telling(tmp_path, clock, webhook_secret=OURS) as (fake, receiver, foreman):
        with fake.hold("a", at="load"):
            receiver.behave(answer(500))
            job_id = await foreman.submit("a", state_webhook_url=receiver.url, **ONLY_QUEUED)
            await failed(foreman, job_id)
            clock.at += 2_000_000
            await look_again(foreman)
            first, second = await receiver.wait_for(2)
        assert (first.id, first.body) == (second.id, second.body)
        times = [int(arrival.headers["webhook-timestamp"]) for arrival in (first, second)]
        assert times[1] - times[0] == 2
        assert verifies(first, OURS)
        assert verifies(second, OURS)


async def test_no_secret_shows_in_any_answer_log_line_or_event(tmp_path):
    secrets = (OURS, NEXT, PLAIN)
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        receiver.behave(answer(500))
        foreman = Process(tmp_path, fake.url, webhook_secret=OURS, log_level="debug")
        url = await foreman.start()
        try:
            own = {"state_webhook_url": receiver.url, "webhook_secret": f"{NEXT},{PLAIN}"}
            body = {"model": "a", "messages": [{"role": "user", "content": "hello"}], **own}
            async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
                accepted = await client.post("/jobs", json=body)
                refused = await client.post("/jobs", json=[body, {**body, "webhook_secret": f"{PLAIN},whsec_"}])
                await receiver.wait_for(5)
                paths = ("", "/events", "/deliveries", "/artifacts", "/artifacts/request", "/stream")
                job = f"/jobs/{accepted.json()['job_id']}"
                shown = [accepted, refused, *[await client.get(job + path) for path in paths]]
                shown += [await client.get(path) for path in ("/jobs", "/events", "/deliveries", "/queue", "/healthz")]
            foreman.signal(signal.SIGTERM)
            assert await foreman.ended() == 0
        finally:
            await foreman.kill()
        assert (accepted.status_code, refused.status_code) == (202, 400)
        texts = [item.text for item in shown] + [json.dumps(foreman.lines)]
        texts += [call.body.decode() for call in fake.calls] + [arrival.body.decode() for arrival in receiver.arrivals]
        texts += stored(tmp_path / "foreman.db")
        assert [text for text in texts if any(secret in text for secret in secrets)] == []


def stored(path) -> list[str]:
    """Every row of every table but the one that is for secrets."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        kept = database.execute("SELECT secret FROM webhook_secrets").fetchall()
        assert kept == [(f"{NEXT},{PLAIN}",)]
        others = sorted(tables - {"webhook_secrets"})
        return [repr(row) for table in others for row in database.execute(f"SELECT * FROM {table}")]


async def test_a_retried_job_is_signed_as_the_first_was(tmp_path):
    async with telling(tmp_path, webhook_secret=OURS) as (_, receiver, foreman):
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, webhook_secret=NEXT)
        await foreman.until_finished(job_id)
        again = await foreman.client.post(f"/jobs/{job_id}/retry")
        await foreman.until_finished(again.json()["job_id"])
        await settled(foreman)
        assert len(receiver.arrivals) == 7  # it was resident the second time
        assert all(verifies(arrival, NEXT) for arrival in receiver.arrivals)
