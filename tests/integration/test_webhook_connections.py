"""What becomes of an attempt's connection: what its reply is worth if it breaks, what is taken in, and that it ends.

Under both event loops: the daemon's own is not the one that tests run on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from foreman.config.networks import Networks
from foreman.destinations import Destinations, parse_url
from foreman.webhooks.sender import Exchange, Sender
from foreman.webhooks.way import LONGEST_WIRE, Way
from tests.core import HandClock
from tests.fakes.misbehaviour import Behaviour, Wire
from tests.fakes.receiver import Receiver, answer, reset_midway, wrong_length
from tests.integration.test_webhooks_addresses import NAME, Names, Shop, told_regardless
from tests.integration.webhook_kit import attempts, failed, telling
from tests.kit import PATIENCE_S

SHORT_S = 0.2
LATE = "no complete reply within 0.2 s"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
Loop = Callable[[], asyncio.AbstractEventLoop]


def on(loop: Loop, test: Coroutine[Any, Any, Any]) -> Any:
    """What the test comes to on such a loop."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(test)


def sender(timeout_s: float = PATIENCE_S, names: Any = None) -> Sender:
    return Sender(Destinations(Networks.parse("lan"), "http://127.0.0.1:1", *([names] if names else [])), timeout_s)


def parts(*pieces: bytes, times: int = 1) -> Behaviour:
    """These bytes, each in a segment of its own, then nothing more until the client has left."""

    async def act(wire: Wire) -> None:
        for piece in pieces * times:
            await wire.send(piece)
            await wire.left(within=0.02 if times == 1 else 0)
        await wire.left()

    return Behaviour(f"parts {pieces!r}"[:40], act)


async def attempt(behaviour: Behaviour, timeout_s: float = PATIENCE_S, body: bytes = b"{}") -> Exchange:
    """One attempt at a receiver that behaves so; nothing of it is left open."""
    async with Receiver() as receiver:
        receiver.default = behaviour
        exchange = await sender(timeout_s).post(receiver.url, {}, body)
        await receiver.until(lambda: receiver.open == 0)
    return exchange


BROKEN = {
    "reset": (reset_midway(), b"." * 50),
    "short": (wrong_length(), b"." * 50),
    "no chunk": (parts(CHUNKED + b"Z\r\nab"), b""),
    "no chunk, later": (parts(CHUNKED, b"Z\r\nab"), b""),
    "no second chunk": (parts(CHUNKED + b"2\r\nok\r\nZ\r\n"), b"ok"),
    "no second chunk, later": (parts(CHUNKED, b"2\r\nok\r\n", b"Z\r\n"), b"ok"),
    "too long": (parts(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcdef"), b"ab"),
    "another reply": (parts(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 No\r\n\r\n"), b""),
}


@LOOPS
@pytest.mark.parametrize(("behaviour", "reply"), BROKEN.values(), ids=BROKEN)
def test_a_2xx_is_a_delivery_whatever_is_wrong_with_what_follows_it(loop, behaviour, reply):
    exchange = on(loop, attempt(behaviour))
    assert exchange.status in {200, 204}
    assert (exchange.error, exchange.reply) == (None, reply)


@LOOPS
def test_any_other_status_is_a_failure_whatever_follows_it(loop):
    broken = parts(CHUNKED.replace(b"200 OK", b"503 No") + b"Z\r\n")
    assert on(loop, attempt(broken)).error == "the receiver answered 503"


@LOOPS
def test_a_2xx_whose_body_does_not_end_in_time_is_none(loop):
    exchange = on(loop, attempt(parts(CHUNKED, b"2\r\nok\r\n"), SHORT_S))
    assert (exchange.status, exchange.error, exchange.reply) == (200, LATE, b"ok")


@LOOPS
@pytest.mark.parametrize("head", [b"", CHUNKED], ids=["for a head", "for a chunk"])
def test_what_never_comes_to_the_point_is_cut_once_it_is_too_much(loop, head):
    """Interim replies and chunk extensions are bytes like any others: no limit of the library's is on them."""
    said = b"HTTP/1.1 100 Continue\r\n\r\n" * 100 if not head else b"1;" + b"x" * 1_000 + b"\r\n.\r\n"
    sent = 0

    async def act(wire: Wire) -> None:
        nonlocal sent
        await wire.send(head)
        while True:
            await wire.send(said)
            sent += len(said)
            await asyncio.sleep(0)

    exchange = on(loop, attempt(Behaviour("never", act)))
    assert sent > LONGEST_WIRE
    assert (exchange.status, exchange.error) == (
        (200, None) if head else (None, "the receiver closed the connection without a reply")
    )


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


async def told_one_that_never_reads(reply: bytes) -> tuple[Exchange, int]:
    """An attempt at a receiver that takes in less than there is; and the descriptors left open."""
    loop = asyncio.get_running_loop()
    await attempt(answer())  # a loop opens some at its first use
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        before = descriptors()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        made = asyncio.create_task(sender(SHORT_S).post(url, {}, bytes(20_000_000)))
        accepted, _ = await loop.sock_accept(listener)
        with accepted:
            await loop.sock_sendall(accepted, reply)
            exchange = await made
            await asyncio.sleep(0)  # a loop closes at its next turn
            return exchange, descriptors() - before - 1


@LOOPS
@pytest.mark.parametrize(
    ("reply", "error"),
    [(b"", LATE), (answer_ := b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
     (answer_.replace(b"200 OK", b"500 No"), "the receiver answered 500")],
    ids=["silent", "taken", "refused"],
)  # fmt: skip
def test_nothing_is_left_open_to_a_receiver_that_never_reads(loop, reply, error):
    exchange, left = on(loop, told_one_that_never_reads(reply))
    assert (exchange.error, left) == (error, 0)


async def told_one_that_never_closes(length: int) -> tuple[Exchange, bytes]:
    """An attempt over TLS at a receiver that ends nothing by itself; and what it gets, without TLS, up to the end."""
    shop, loop = Shop(), asyncio.get_running_loop()

    def serve(raw: socket.socket) -> ssl.SSLSocket:
        raw.settimeout(PATIENCE_S)
        served = shop.serving.wrap_socket(raw, server_side=True)
        while b"{}" not in served.recv(65_536):
            pass
        served.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        return served

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made = asyncio.create_task(
            shop.sender(shop.trust, 1.0).post(f"https://{NAME}:{listener.getsockname()[1]}/", {}, b"{}")
        )
        accepted, _ = await loop.sock_accept(listener)
        with await asyncio.to_thread(serve, accepted) as served, socket.socket(fileno=os.dup(served.fileno())) as raw:
            exchange = await made
            raw.setblocking(False)
            got = b""
            async with asyncio.timeout(PATIENCE_S / 4):
                while data := await loop.sock_recv(raw, 65_536):
                    got += data
            return exchange, got


@LOOPS
@pytest.mark.parametrize(("length", "error"), [(0, None), (9, "no complete reply within 1 s")], ids=["whole", "short"])
def test_a_connection_over_tls_waits_for_no_close_of_the_receivers(loop, length, error):
    exchange, _ = on(loop, told_one_that_never_closes(length))
    assert (exchange.status, exchange.error) == (200, error)


@LOOPS
def test_a_handshake_that_hangs_leaves_nothing_open(loop):
    async def hanging() -> tuple[Exchange, bytes]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            made = asyncio.create_task(sender(SHORT_S).post(f"https://127.0.0.1:{listener.getsockname()[1]}/", {}, b""))
            accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            with accepted:
                exchange, got = await made, b""
                async with asyncio.timeout(PATIENCE_S / 4):
                    while data := await asyncio.get_running_loop().sock_recv(accepted, 65_536):
                        got += data
            return exchange, got

    exchange, hello = on(loop, hanging())
    assert (exchange.error, exchange.status, hello[:1]) == (LATE, None, b"\x16")


@LOOPS
@pytest.mark.parametrize("order", ["127.0.0.2 127.0.0.3", "127.0.0.3 127.0.0.2"])
def test_the_address_on_record_is_the_one_that_was_connected(loop, order):
    async def told() -> None:
        async with Receiver(host="127.0.0.3") as receiver:
            exchange = await sender(names=Names(order)).post(receiver.url_for(NAME), {}, b"{}")
            assert (exchange.error, exchange.address) == (None, f"127.0.0.3:{receiver.port}")

    on(loop, told())


def crowded(host: str, port: int = 0) -> tuple[socket.socket, socket.socket]:
    """A listener whose backlog is full, and who fills it: whoever dials it waits until somebody is accepted."""
    listener = socket.create_server((host, port), backlog=0)
    return listener, socket.create_connection(listener.getsockname())


@LOOPS
def test_the_address_on_record_is_not_just_the_one_that_was_dialled_last(loop):
    async def told() -> None:
        first, one = crowded("127.0.0.2")
        port = first.getsockname()[1]
        second, two = crowded("127.0.0.3", port)
        with first, one, second, two:
            judged = Destinations(Networks.parse("lan"), "http://127.0.0.1:1", Names("127.0.0.2 127.0.0.3"))
            way = Way(parse_url(f"http://{NAME}:{port}/"), await judged.places(parse_url(f"http://{NAME}:{port}/")))
            exchange = Exchange()
            made = asyncio.create_task(Sender(judged, PATIENCE_S)._exchange(exchange, way, {}, b"{}"))
            async with asyncio.timeout(PATIENCE_S):
                while way.dialled != f"127.0.0.3:{port}":
                    await asyncio.sleep(0)
            first.accept()[0].close()
            first.setblocking(False)
            accepted, _ = await asyncio.get_running_loop().sock_accept(first)
            with accepted:
                await asyncio.get_running_loop().sock_sendall(accepted, b"HTTP/1.1 204 No Content\r\n\r\n")
                await made
            assert (exchange.status, exchange.address) == (204, f"127.0.0.2:{port}")

    on(loop, told())


async def test_a_port_without_tls_is_said_to_be_one():
    async with Receiver() as receiver:
        said = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        receiver.default = Behaviour("not TLS", lambda wire: wire.send(said), unread=True)
        exchange = await sender().post(receiver.url.replace("http:", "https:"), {}, b"{}")
    assert exchange.error == "there is no TLS at this port; is it http:// that was meant?"
    assert exchange.address == f"127.0.0.1:{receiver.port}"


async def test_what_nobody_foresaw_is_a_failed_attempt_and_a_line_and_not_the_end(tmp_path, capsys):
    async def odd(host: str, port: int):
        raise LookupError("odd")

    async with telling(tmp_path, HandClock()) as (_, receiver, foreman):
        known, foreman.foreman.destinations._resolve = foreman.foreman.destinations._resolve, odd
        job_id = await told_regardless(foreman, receiver.url_for("localhost"))
        await failed(foreman, job_id)
        (made,) = await attempts(foreman, job_id)
        assert made["error"] == "the attempt broke off: LookupError"
        assert "webhook.odd_reply" in capsys.readouterr().out
        foreman.foreman.destinations._resolve = known
        await foreman.submit("a", state_webhook_url=receiver.url)
        await receiver.wait_for(4)
