"""The sender against hostile receivers: each attempt ends in time, with what is known of it, and nothing is raised."""

from __future__ import annotations

import asyncio
import signal
import socket

import httpx
import pytest

from foreman import __version__
from foreman.config.networks import Networks
from foreman.destinations import Destinations, Place, parse_url
from foreman.errors import AddressRefused
from foreman.webhooks.sender import KEPT_REPLY, LONGEST_ERROR, Exchange, Sender, Way
from tests.fakes.misbehaviour import Behaviour, Wire
from tests.fakes.ollama import FakeOllama
from tests.fakes.receiver import (
    Receiver,
    answer,
    close_at_once,
    drip,
    drip_header,
    endless,
    garbage,
    gzip_bomb,
    hang,
    refuse_reading,
    reset,
    set_cookie,
)
from tests.kit import Process

#: So long may an attempt take here that is to run into it.
SHORT_S = 0.2
LATE = "no complete reply within 0.2 s"


def sender(timeout_s: float = 10.0) -> Sender:
    return Sender(Destinations(Networks.parse("lan"), "http://127.0.0.1:1"), timeout_s)


def raw(reply: bytes) -> Behaviour:
    """These bytes, then the end."""

    async def act(wire: Wire) -> None:
        await wire.send(reply)

    return Behaviour(f"raw {reply[:40]!r}", act)


async def attempt(behaviour: Behaviour, timeout_s: float = 10.0, body: bytes = b"{}") -> Exchange:
    """One attempt at a receiver that behaves so."""
    async with Receiver() as receiver:
        receiver.default = behaviour
        exchange = await sender(timeout_s).post(receiver.url, {}, body)
        assert exchange.address == f"127.0.0.1:{receiver.port}"
        await receiver.until(lambda: receiver.open == 0 or behaviour == refuse_reading())
    return exchange


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_a_delivery(status):
    exchange = await attempt(answer(status))
    assert (exchange.status, exchange.error) == (status, None)


@pytest.mark.parametrize("status", [300, 304, 400, 404, 410, 429, 500, 503, 999])
async def test_any_other_answer_is_a_failure(status):
    exchange = await attempt(answer(status))
    assert (exchange.status, exchange.error) == (status, f"the receiver answered {status}")


@pytest.mark.parametrize("line", [b"101 Switching Protocols", b"000 Nothing"], ids=["switching", "zero"])
async def test_a_status_below_200_is_no_delivery(line):
    exchange = await attempt(raw(b"HTTP/1.1 " + line + b"\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), SHORT_S)
    assert exchange.error == f"the receiver answered {int(line[:3])}"


@pytest.mark.parametrize(
    "behaviour", [hang(), drip(0.02), drip_header(0.02), refuse_reading()], ids=lambda behaviour: behaviour.name
)
async def test_what_takes_too_long_in_all_is_cut(behaviour):
    # More than the sockets hold, for the one that never reads.
    assert (await attempt(behaviour, SHORT_S, bytes(20_000_000))).error == LATE


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (reset(), "Connection reset by peer"),
        (close_at_once(), "the receiver closed the connection without a reply"),
        (garbage(), "the reply is no HTTP that foreman reads: "),
        (raw(b""), "the receiver closed the connection without a reply"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "Invalid character in Content-Length"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), "Duplicate Content-Length"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 100_000), "Too many headers"),
        (raw(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000), "Got more than 8190 bytes"),
        (raw(b"\x15\x03\x03\x00\x02\x02\x46"), "the reply is no HTTP that foreman reads: "),
    ],
    ids=lambda value: value.name[:30] if isinstance(value, Behaviour) else "",
)
async def test_a_reply_without_a_head_is_a_failure_with_its_reason(behaviour, words):
    exchange = await attempt(behaviour)
    assert words in exchange.error
    assert exchange.status is None
    assert len(exchange.error) <= LONGEST_ERROR
    assert "127.0.0.1" not in exchange.error
    assert "\n" not in exchange.error


async def test_a_receiver_that_is_not_there_is_a_failure():
    async with Receiver() as receiver:
        await receiver.go_away()
        exchange = await sender().post(receiver.url, {}, b"{}")
    assert (exchange.status, exchange.error) == (None, "Connection refused")
    assert exchange.address == f"127.0.0.1:{receiver.port}"


async def test_an_endless_reply_is_taken_for_what_its_status_says():
    exchange = await attempt(endless())
    assert (exchange.status, exchange.error) == (200, None)
    assert exchange.reply == b"." * KEPT_REPLY


async def test_a_compressed_reply_is_not_inflated():
    exchange = await attempt(gzip_bomb())
    assert (exchange.status, exchange.error) == (200, None)
    assert exchange.reply.startswith(b"\x1f\x8b")


async def test_a_location_that_is_no_text_can_still_be_recorded():
    reply = b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe/" + b"x" * 1_000 + b"\r\nContent-Length: 0\r\n\r\n"
    error = (await attempt(raw(reply))).error
    assert error.encode().startswith(b"the receiver answered 302; redirects are not followed (to http://??/xxx")
    assert len(error) == LONGEST_ERROR


async def test_a_cookie_is_neither_kept_nor_sent():
    async with Receiver() as receiver:
        receiver.default = set_cookie()
        post = sender()
        for _ in range(2):
            assert (await post.post(receiver.url, {}, b"{}")).error is None
        assert [arrival.headers.get("cookie") for arrival in receiver.arrivals] == [None, None]
        assert receiver.connections == 2


async def test_a_request_says_what_it_is_and_asks_for_plain_text():
    async with Receiver() as receiver:
        url = receiver.url_for("localhost", "/a%2Fb?to=%7Cme&x")
        await sender().post(url, {"webhook-id": "J-1"}, b'{"a":1}')
        (arrival,) = receiver.arrivals
        assert (arrival.method, arrival.path, arrival.body) == ("POST", "/a%2Fb?to=%7Cme&x", b'{"a":1}')
        assert arrival.headers == {
            "host": f"localhost:{receiver.port}",
            "webhook-id": "J-1",
            "content-type": "application/json",
            "user-agent": f"foreman/{__version__}",
            "accept-encoding": "identity",
            "accept": "*/*",
            "connection": "close",
            "content-length": "7",
        }


async def test_only_judged_addresses_are_dialled():
    async with Receiver() as receiver:
        destination = parse_url(receiver.url)
        judged = Place(socket.AF_INET, ("127.0.0.2", receiver.port))
        way = Way(destination, [judged])
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.1 is none of the addresses of 127\.0\.0\.1"):
            # The library takes an address in the URL for itself and asks no resolver.
            await sender()._exchange(Exchange(), way, {}, b"{}")
        assert (receiver.connections, way.dialled) == (0, None)
        info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", receiver.port + 1))
        with pytest.raises(AddressRefused):
            way.socket(info)


async def test_an_attempt_that_is_called_off_leaves_no_connection():
    async with Receiver() as receiver:
        receiver.default = hang()
        task = asyncio.create_task(sender().post(receiver.url, {}, b"{}"))
        await receiver.wait_for(1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await receiver.until(lambda: receiver.open == 0)


async def test_proxy_variables_are_ignored(tmp_path):
    async with FakeOllama(["a"]) as fake, Receiver() as receiver, Receiver() as proxy:
        foreman = Process(tmp_path, fake.url)
        names = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
        url = await foreman.start(extra=dict.fromkeys(names, proxy.url))
        try:
            body = {"model": "a", "messages": [{"role": "user", "content": "x"}], "state_webhook_url": receiver.url}
            async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
                assert (await client.post(f"{url}/jobs", json=body)).status_code == 202
            await receiver.wait_for(4)
            foreman.signal(signal.SIGTERM)
            assert await foreman.ended() == 0
        finally:
            await foreman.kill()
        assert proxy.connections == 0
