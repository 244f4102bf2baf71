"""Where an attempt may go: judged each time, whatever was found before; and TLS for the name that was asked for."""

from __future__ import annotations

import signal
import socket
import ssl

import httpx
import pytest
import trustme
from ulid import ULID

from foreman.config.networks import Networks
from foreman.destinations import Destinations
from foreman.events.types import Webhook
from foreman.webhooks.sender import Sender
from tests.core import HandClock, submit
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import Receiver
from tests.integration.webhook_kit import ONLY_QUEUED, attempts, failed, telling
from tests.kit import Process, running

PUBLIC = "93.184.216.34"
NAME = "hook.example"
#: Ways to write 127.0.0.1 that a URL may have, and others that resolvers would take.
SPELLINGS = ("127.0.0.1", "0x7f000001", "[::ffff:127.0.0.1]", "[::1]", "localhost", "localhost.")
NO_URLS = ("2130706433", "0177.0.0.1", "127.1", "0", "①②⑦.0.0.1", "127.0.0.1@93.184.216.34")


class Names:
    """A resolver that gives one answer after the other, the last one for ever; addresses with blanks between them."""

    def __init__(self, *answers: str) -> None:
        self.answers = [answer.split() for answer in answers]

    async def __call__(self, host: str, port: int):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, (address, port)) for address in answer]


async def told_regardless(foreman, url: str) -> str:
    """A job whose URL nobody looked at when it was submitted; its id."""
    command = submit(str(ULID()), webhook=Webhook(url=url))
    await foreman.foreman.ledger.execute(command)
    return command.submissions[0].job_id


@pytest.mark.parametrize("later", ["127.0.0.1", f"{PUBLIC} 127.0.0.1"], ids=["loopback", "mixed"])
async def test_a_name_that_leads_elsewhere_at_the_attempt_is_refused_there(tmp_path, later):
    async with telling(tmp_path, webhook_networks="public") as (fake, receiver, foreman):
        foreman.foreman.destinations._resolve = Names(PUBLIC, later)
        with fake.hold("a", at="load"):
            job_id = await foreman.submit("a", state_webhook_url=receiver.url_for(NAME), **ONLY_QUEUED)
            await failed(foreman, job_id)
            (attempt,) = await attempts(foreman, job_id)
        assert attempt["error"].startswith(f"webhooks are not sent to {NAME}: 127.0.0.1 is a loopback address; ")
        assert (attempt["address"], attempt["status"], receiver.connections) == (None, None, 0)


async def test_public_refuses_loopback_at_submission_however_it_is_spelt(tmp_path):
    async with telling(tmp_path, webhook_networks="public") as (_, _, foreman):
        for host in (*SPELLINGS, *NO_URLS):
            body = {"model": "a", "prompt": "x", "state_webhook_url": f"http://{host}:9/"}
            answer = await foreman.client.post("/jobs", json=body)
            assert (host, answer.status_code) == (host, 400)
        assert await foreman.foreman.database.read("SELECT * FROM jobs") == []


async def test_a_keyed_repeat_is_answered_as_before_though_its_address_is_refused_since(tmp_path):
    key = {"idempotency-key": "k"}
    async with FakeOllama(["a"]) as fake, Receiver() as receiver:
        body = {"model": "a", "prompt": "x", "state_webhook_url": receiver.url}
        async with running(tmp_path, fake.url) as foreman:
            first = await foreman.client.post("/jobs", json=body, headers=key)
        async with running(tmp_path, fake.url, webhook_networks="public") as foreman:
            again = await foreman.client.post("/jobs", json=body, headers=key)
            assert again.status_code in {200, 202}
            assert again.json()["job_id"] == first.json()["job_id"]
            for headers in ({}, {"idempotency-key": "other"}):
                refused = await foreman.client.post("/jobs", json=body, headers=headers)
                assert (refused.status_code, refused.json()["code"]) == (400, "address_refused")
                assert "hint" not in refused.json()


@pytest.mark.parametrize("host", SPELLINGS)
async def test_public_reaches_no_loopback_at_an_attempt_however_it_is_spelt(tmp_path, host):
    async with telling(tmp_path, HandClock(), webhook_networks="public") as (_, receiver, foreman):
        job_id = await told_regardless(foreman, f"http://{host}:{receiver.port}/")
        await failed(foreman, job_id)
        (attempt,) = await attempts(foreman, job_id)
        assert attempt["error"].startswith(f"webhooks are not sent to {host.strip('[]')}: ")
        assert receiver.connections == 0


async def test_lan_never_reaches_link_local_addresses_nor_foreman_nor_its_target(tmp_path):
    async with telling(tmp_path, HandClock()) as (fake, _, foreman):
        ours = foreman.foreman.http.addresses[0][1]
        places = {
            "http://169.254.169.254/latest/meta-data/": "link-local",
            "http://[fe80::1]/": "link-local",
            f"http://127.0.0.1:{ours}/jobs": "foreman itself",
            f"http://localhost:{ours}/jobs": "foreman itself",
            f"http://127.0.0.2:{fake.port}/api/chat": "the Ollama server",
        }
        jobs = {await told_regardless(foreman, url): words for url, words in places.items()}
        for job_id, words in jobs.items():
            await failed(foreman, job_id)
            (attempt,) = await attempts(foreman, job_id)
            assert words in attempt["error"]
            assert attempt["address"] is None
        assert [call.path for call in fake.calls_of("*") if call.header("webhook-id")] == []


async def test_a_name_is_resolved_once_and_that_address_is_dialled_under_its_name(tmp_path):
    async with telling(tmp_path) as (_, receiver, foreman):
        # Whoever asked a second time would be led to where nobody listens.
        foreman.foreman.destinations._resolve = Names("127.0.0.1", "127.0.0.1", "127.0.0.9")
        await foreman.submit("a", state_webhook_url=receiver.url_for(NAME))
        (arrival, *_) = await receiver.wait_for(1)
        assert arrival.headers["host"] == f"{NAME}:{receiver.port}"


class Shop:
    """A receiver's certificate for `NAME`, who trusts it, and the names that clients asked for."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.asked: list[str | None] = []
        self.serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(NAME).configure_cert(self.serving)
        self.serving.sni_callback = lambda _, name, context: self.asked.append(name)
        self.trust = ssl.create_default_context()
        self.ca.configure_trust(self.trust)

    def sender(self, trust: ssl.SSLContext | None, timeout_s: float = 10.0) -> Sender:
        """A sender to which every name leads to loopback."""
        return Sender(Destinations(Networks.parse("lan"), "http://127.0.0.1:1", Names("127.0.0.1")), timeout_s, trust)


async def test_tls_is_verified_for_the_name_while_the_judged_address_is_dialled():
    shop = Shop()
    async with Receiver(ssl=shop.serving) as receiver:
        exchange = await shop.sender(shop.trust).post(receiver.url_for(NAME), {}, b"{}")
        assert (exchange.status, exchange.error) == (200, None)
        assert exchange.address == f"127.0.0.1:{receiver.port}"
        assert shop.asked == [NAME]
        assert receiver.arrivals[0].headers["host"] == f"{NAME}:{receiver.port}"


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
async def test_a_certificate_for_another_name_is_refused(host):
    shop = Shop()
    async with Receiver(ssl=shop.serving) as receiver:
        exchange = await shop.sender(shop.trust).post(receiver.url_for(host), {}, b"{}")
        assert f"certificate is not valid for '{host}'" in exchange.error
        assert (exchange.status, receiver.arrivals) == (None, [])


async def test_a_certificate_of_an_unknown_authority_is_refused():
    shop = Shop()
    async with Receiver(ssl=shop.serving) as receiver:
        exchange = await shop.sender(None).post(receiver.url_for(NAME), {}, b"{}")
        assert "certificate verify failed: unable to get local issuer certificate" in exchange.error
        assert (exchange.status, receiver.arrivals) == (None, [])


async def test_the_machines_trust_decides_in_the_real_program(tmp_path):
    ca, serving = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(serving)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with FakeOllama(["a"]) as fake, Receiver(ssl=serving) as receiver:
        foreman = Process(tmp_path, fake.url)
        url = await foreman.start(extra={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
        try:
            hook = receiver.url_for("localhost")
            body = {"model": "a", "messages": [{"role": "user", "content": "x"}], "state_webhook_url": hook}
            async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
                assert (await client.post(f"{url}/jobs", json=body)).status_code == 202
            assert [arrival.payload["state"] for arrival in await receiver.wait_for(4)][-1] == "done"
            foreman.signal(signal.SIGTERM)
            assert await foreman.ended() == 0
        finally:
            await foreman.kill()
