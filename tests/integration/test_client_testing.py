"""`WebhookReceiver`, as the tests of a program that takes webhooks use it."""

from __future__ import annotations

import json

import httpx
import pytest

from foreman.client import AsyncClient, Webhook
from foreman.client.testing import WebhookReceiver
from foreman.signing import Signer
from tests.fakes.ollama import FakeOllama
from tests.kit import running

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLjSw"


def post(receiver, body=b"", *, secret=SECRET, message_id="msg_1", **headers):
    signed = Signer.of(secret).headers(message_id, 1, body)
    return httpx.post(receiver.url, content=body, headers={**signed, **headers}, trust_env=False).status_code


def told(state="done", version=1, job_id="J"):
    return json.dumps({"job_id": job_id, "state": state, "version": version}).encode()


async def test_every_state_that_foreman_tells_arrives_signed_and_in_order(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with WebhookReceiver(SECRET) as receiver:
            async with AsyncClient(foreman.url) as client:
                webhook = Webhook(url=receiver.url, secret=SECRET)
                job = await client.submit(model="a", prompt="one two", webhook=webhook)
                done = await receiver.arrival(job.job_id, "done")
            assert [item.state for item in receiver.deliveries] == ["queued", "loading", "working", "done"]
            assert done.payload["artifacts"][0]["name"] == "completion"
            assert done.id == done.headers["webhook-id"]
            assert receiver.refused == []


async def test_a_job_told_with_another_secret_is_refused(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        with WebhookReceiver(SECRET) as receiver:
            async with AsyncClient(foreman.url) as client:
                job = await client.submit(model="a", prompt="x", webhook=Webhook(url=receiver.url, secret="other"))
                await client.wait(job.job_id)
                with pytest.raises(TimeoutError, match=r"told: nothing; refused: .*webhook-signature"):
                    await receiver.arrival(job.job_id, "done", timeout=0.5)


def test_a_repeat_is_answered_and_kept_once():
    with WebhookReceiver() as receiver:
        assert [post(receiver, told()), post(receiver, told()), post(receiver, told(version=2), message_id="m2")] == [
            200
        ] * 3
        assert [item.version for item in receiver.deliveries] == [1, 2]
        assert receiver.wait_for("J", "done", timeout=0).version == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"job_id": 1', b"\xff", b"null"])
def test_what_is_no_webhook_is_refused_and_said(body):
    with WebhookReceiver() as receiver:
        assert post(receiver, body) == 400
        assert receiver.deliveries == []
        assert len(receiver.refused) == 1


def test_a_receiver_says_what_did_come_instead():
    with WebhookReceiver() as receiver:
        post(receiver, told("queued"))
        with pytest.raises(TimeoutError, match="that J is done; it told: queued"):
            receiver.wait_for("J", "done", timeout=0.01)


def test_a_closed_receiver_listens_no_more_and_may_be_closed_again():
    receiver = WebhookReceiver()
    with receiver:
        url = receiver.url
    receiver.close()
    with pytest.raises(httpx.ConnectError):
        httpx.post(url, trust_env=False)
    with pytest.raises(RuntimeError, match="not open"):
        _ = receiver.url
