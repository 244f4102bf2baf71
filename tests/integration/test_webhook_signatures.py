"""Signatures as they arrive: what verifies them, which secret they are made with, and that no secret ever shows."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import httpx
import pytest
import standardwebhooks
from ulid import ULID

from foreman.client import SignatureInvalid, verify_signature
from foreman.commands.types import CancelJob, ExpireJob
from foreman.config.networks import Networks
from foreman.destinations import Destinations
from foreman.events import log
from foreman.events.feed import OUTBOX
from foreman.events.types import CancelledBy, Webhook
from foreman.projections import contents, deliveries
from foreman.signing import Signer
from foreman.webhooks.dispatcher import Dispatcher, Post
from foreman.webhooks.payload import Style
from foreman.webhooks.sender import Sender
from tests.core import Core, HandClock, audit, opened, submit
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver, answer
from tests.integration.webhook_kit import ONLY_QUEUED, failed, look_again, settled, telling
from tests.kit import PATIENCE_S, Process

OURS = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEXT = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
PLAIN = "a.secret.of.the.jobs.own"


def verifies(arrival, secret: str) -> bool:
    """Whether the official package takes it."""
    try:
        standardwebhooks.Webhook(secret).verify(arrival.body, arrival.headers)
    except standardwebhooks.WebhookVerificationError:
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


class ExpiringWhileRead:
    """Reads for a job, of which that of one query finds the job removed a moment before."""

    def __init__(self, core: Core, job_id: str, query: str) -> None:
        self._core, self._query = core, query
        self._command = ExpireJob(job_id=job_id)

    async def __call__(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        if sql == self._query:
            await self._core.ledger.execute(self._command)
        return await self._core.database.read(sql, values)


@pytest.mark.parametrize("query", [deliveries.SELECT_GONE, deliveries.SELECT_SECRET, log.SELECT_STREAM], ids=str.split)
async def test_a_job_that_expires_while_its_delivery_is_prepared_is_never_told_with_the_wrong_secret(tmp_path, query):
    places = Destinations(Networks.parse("lan"), "http://127.0.0.1:1")
    clock = HandClock(round(time.time() * 1_000_000))
    async with opened(tmp_path, clock) as core, Receiver() as receiver:
        first, other = await told(core, receiver.url), await told(core, receiver.url)
        post = Post(
            ledger=core.ledger,
            read=ExpiringWhileRead(core, first, query),
            clock=core.clock,
            sender=Sender(places, PATIENCE_S),
            signer=Signer.of(OURS),
            style=Style(base_url="", inline_limit_bytes=0),
        )
        with core.ledger.feed.watch(OUTBOX) as changed:
            task = asyncio.create_task(Dispatcher(post, 1).run())
            async with asyncio.timeout(PATIENCE_S):
                while core.ledger.outbox.pending:
                    changed.clear()
                    await changed.wait()
        task.cancel()
        await asyncio.wait({task})
        assert [arrival.event for arrival in receiver.arrivals] == [(other, 1), (other, 2)]
        assert all(verifies(arrival, NEXT) for arrival in receiver.arrivals)
        await audit(core)


async def told(core: Core, url: str) -> str:
    """A job with a secret of its own that was cancelled at once; its id."""
    job_id = str(ULID())
    await core.do(submit(job_id, webhook=Webhook(url=url), secret=NEXT))
    await core.do(CancelJob(job_id=job_id, by=CancelledBy.API))
    return job_id


@pytest.mark.parametrize("query", [deliveries.SELECT_SECRET, contents.SELECT])
async def test_a_job_that_expires_while_it_is_retried_is_not_retried_without_its_secret(tmp_path, query):
    async with telling(tmp_path, webhook_secret=OURS) as (_, receiver, foreman):
        job_id = await foreman.submit("a", state_webhook_url=receiver.url, webhook_secret=NEXT)
        await foreman.until_finished(job_id)
        await settled(foreman)
        foreman.foreman.desk.read = ExpiringWhileRead(foreman.foreman, job_id, query)
        answered = await foreman.client.post(f"/jobs/{job_id}/retry")
        assert (answered.status_code, answered.json()["code"]) == (410, "job_expired")
        assert len(receiver.arrivals) == 4
