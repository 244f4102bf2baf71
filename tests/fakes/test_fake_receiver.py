"""The fake receiver: what a client sees of each behaviour, what is recorded, and that the audit finds faults."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import gzip
import json
import ssl
import sys
import termios
import time
from collections import Counter
from pathlib import Path
from random import Random

import aiohttp
import pytest
import trustme

from tests.fakes.receiver import (
    HOSTILE,
    Behaviour,
    Receiver,
    answer,
    close_at_once,
    drip,
    drip_header,
    endless,
    garbage,
    gone,
    gzip_bomb,
    hang,
    hold,
    redirect,
    refuse_reading,
    reset,
    reset_midway,
    set_cookie,
    too_many,
    wrong_length,
)

REPOSITORY = Path(__file__).parents[2]


def session(**options: object) -> aiohttp.ClientSession:
    """A client that does nothing on its own: no cookies, no decompression."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, **options)


async def post(receiver: Receiver, body: bytes = b"{}", **options: object) -> aiohttp.ClientResponse:
    """Deliver once, on a connection of its own, and read the whole answer."""
    async with session() as client, client.post(receiver.url, data=body, allow_redirects=False, **options) as response:
        await response.read()
        return response


async def tell(receiver: Receiver, job_id: str, version: int, state: str = "queued", known: str | None = None) -> None:
    """Deliver one event of a job as foreman would."""
    payload = {"job_id": job_id, "version": version, "state": state}
    headers = {"webhook-id": known} if known else {}
    await post(receiver, json.dumps(payload).encode(), headers=headers)


async def raw(
    receiver: Receiver, request: bytes, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send bytes as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port, ssl=tls)
    writer.write(request)
    return reader, writer


def certified() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a receiver, and for a client that trusts it."""
    authority = trustme.CA()
    mine, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(mine)
    authority.configure_trust(theirs)
    return mine, theirs


async def closed(writer: asyncio.StreamWriter) -> None:
    """Leave."""
    writer.close()
    await writer.wait_closed()


REQUEST = b"POST /hook HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"


async def test_a_request_is_recorded_as_it_came() -> None:
    async with Receiver() as receiver:
        before = time.monotonic()
        await post(receiver, b'{"job_id": "J"}', headers={"Webhook-Id": "msg_1", "X-Some": "a"})
        (arrival,) = receiver.arrivals
        assert (arrival.number, arrival.method, arrival.path) == (1, "POST", "/hook")
        assert (arrival.body, arrival.payload, arrival.id) == (b'{"job_id": "J"}', {"job_id": "J"}, "msg_1")
        assert (arrival.headers["x-some"], arrival.behaviour) == ("a", answer())
        assert before <= arrival.at <= time.monotonic()


async def test_a_chunked_request_and_a_repeated_header_are_read() -> None:
    head = b"POST /other HTTP/1.1\r\nHost: here\r\nX-A: 1\r\nX-A: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Receiver() as receiver:
        reader, writer = await raw(receiver, head + b"3\r\nabc\r\nb\r\ndefghijklmn\r\n0\r\nX-Trailer: 1\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        await closed(writer)
        (arrival,) = receiver.arrivals
        assert (arrival.path, arrival.headers["x-a"], arrival.body) == ("/other", "1, 2", b"abcdefghijklmn")


async def test_a_request_that_is_no_http_is_answered_400_and_not_recorded() -> None:
    async with Receiver() as receiver:
        reader, writer = await raw(receiver, b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        await closed(writer)
        assert receiver.arrivals == []


async def test_a_request_that_breaks_off_is_not_recorded() -> None:
    async with Receiver() as receiver:
        _, writer = await raw(receiver, REQUEST[:-1])
        await receiver.until(lambda: receiver.open)
        await closed(writer)
        await receiver.until(lambda: not receiver.open)
        assert receiver.arrivals == []


async def test_a_connection_serves_one_request_after_another() -> None:
    async with Receiver() as receiver, session() as client:
        for _ in range(3):
            async with client.post(receiver.url, data=b"{}") as response:
                assert response.status == 200
        assert (len(receiver.arrivals), receiver.connections, receiver.open, receiver.most_open) == (3, 1, 1, 1)
        _, writer = await raw(receiver, b"")
        await receiver.until(lambda: receiver.open == 2)
        await closed(writer)
        await receiver.until(lambda: receiver.open == 1)
        assert (receiver.connections, receiver.most_open) == (2, 2)


@pytest.mark.parametrize(
    ("behaviour", "status", "header"),
    [
        (answer(503, b"busy", {"X-Why": "load"}), 503, ("X-Why", "load")),
        (answer(204), 204, ("X-None", None)),
        (redirect("http://169.254.169.254/"), 302, ("Location", "http://169.254.169.254/")),
        (too_many(7), 429, ("Retry-After", "7")),
        (too_many("Wed, 21 Oct 2026 07:28:00 GMT"), 429, ("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")),
        (gone(), 410, ("Content-Length", "0")),
        (set_cookie(), 200, ("Set-Cookie", "session=1; Path=/")),
    ],
    ids=lambda value: value.name if isinstance(value, Behaviour) else "",
)
async def test_a_proper_answer_has_its_status_and_headers(behaviour, status, header) -> None:
    async with Receiver() as receiver:
        receiver.behave(behaviour)
        response = await post(receiver)
        assert (response.status, response.headers.get(header[0])) == (status, header[1])
        assert receiver.arrivals[0].behaviour == behaviour


async def test_a_gzip_bomb_is_small_until_it_is_inflated() -> None:
    async with Receiver() as receiver, session() as client:
        receiver.behave(gzip_bomb())
        async with client.post(receiver.url) as response:
            body = await response.read()
        assert response.headers["Content-Encoding"] == "gzip"
        assert len(body) < 300_000
        assert len(gzip.decompress(body)) == 256 << 20


@pytest.mark.parametrize(
    ("behaviour", "fault"),
    [
        (reset(), aiohttp.ClientOSError),
        (reset_midway(), aiohttp.ClientPayloadError),
        (wrong_length(), aiohttp.ClientPayloadError),
        (garbage(), aiohttp.ClientResponseError),
        (close_at_once(), aiohttp.ClientConnectionError),
    ],
    ids=lambda value: value.name if isinstance(value, Behaviour) else "",
)
async def test_a_broken_answer_is_an_error_to_the_client(behaviour, fault) -> None:
    async with Receiver() as receiver:
        receiver.behave(behaviour)
        with pytest.raises(fault):
            await post(receiver)
        assert [arrival.behaviour for arrival in receiver.arrivals] == ([] if behaviour.unread else [behaviour])
        assert (await post(receiver)).status == 200


@pytest.mark.parametrize(("behaviour", "first"), [(reset(), b""), (reset_midway(), b"HTTP/1.1 200 OK\r\n")])
async def test_a_reset_is_one_at_the_socket(behaviour, first) -> None:
    async with Receiver() as receiver:
        receiver.behave(behaviour)
        reader, writer = await raw(receiver, REQUEST)
        if first:
            assert await reader.readline() == first
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_connection_closed_at_once_ends_without_a_request() -> None:
    async with Receiver() as receiver:
        receiver.behave(close_at_once())
        reader, writer = await raw(receiver, b"")
        assert await reader.read() == b""
        await closed(writer)
        await receiver.until(lambda: not receiver.open)
        assert (receiver.connections, receiver.arrivals) == (1, [])


async def test_an_idle_connection_is_closed_only_when_its_next_request_begins() -> None:
    async with Receiver() as receiver:
        receiver.behave(answer(), close_at_once())
        reader, writer = await raw(receiver, REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        assert receiver.open == 1
        writer.write(REQUEST)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        await receiver.until(lambda: not receiver.open)
        assert len(receiver.arrivals) == 1


@pytest.mark.parametrize("behaviour", [hang(), drip(0.01), drip_header(0.01), endless(), refuse_reading()], ids=str)
async def test_a_client_without_patience_gives_up(behaviour) -> None:
    async with Receiver() as receiver:
        receiver.behave(behaviour)
        with pytest.raises(TimeoutError):
            await post(receiver, timeout=aiohttp.ClientTimeout(total=0.2))
        assert [arrival.behaviour for arrival in receiver.arrivals] == ([] if behaviour.unread else [behaviour])
        if not behaviour.unread:
            await receiver.until(lambda: not receiver.open)


async def test_a_request_is_recorded_before_the_receiver_hangs() -> None:
    async with Receiver() as receiver:
        receiver.behave(hang())
        _, writer = await raw(receiver, REQUEST)
        await receiver.wait_for(1)
        assert (receiver.arrivals[0].behaviour, receiver.open) == (hang(), 1)
        await closed(writer)
        await receiver.until(lambda: not receiver.open)


async def test_a_receiver_that_refuses_reading_leaves_the_request_in_the_socket() -> None:
    async with Receiver() as receiver:
        receiver.default = refuse_reading()
        _, writer = await raw(receiver, REQUEST)
        await receiver.until(lambda: receiver.open)
        await asyncio.sleep(0.1)
        (wire,) = receiver._wires.values()
        unread = fcntl.ioctl(wire.socket, termios.FIONREAD, bytes(4))
        assert int.from_bytes(unread, sys.byteorder) == len(REQUEST)
        await closed(writer)
        assert (receiver.open, receiver.arrivals) == (1, [])


async def test_a_large_request_to_a_receiver_that_refuses_reading_cannot_be_sent() -> None:
    async with Receiver() as receiver:
        receiver.default = refuse_reading()
        _, writer = await raw(receiver, b"." * 40_000_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await writer.drain()
        writer.transport.abort()


@pytest.mark.parametrize(
    ("behaviour", "head"),
    [
        (drip(0.05), b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        (drip_header(0.05), b"HTTP/1.1 200 OK\r\nX-Drip: "),
    ],
    ids=["body", "header"],
)
async def test_a_drip_sends_a_byte_at_a_time(behaviour, head) -> None:
    async with Receiver() as receiver:
        receiver.behave(behaviour)
        reader, writer = await raw(receiver, REQUEST)
        await reader.readexactly(len(head))
        began = time.monotonic()
        assert [await reader.read(1000) for _ in range(4)] == [b"."] * 4
        assert time.monotonic() - began >= 0.15
        await closed(writer)


async def test_an_endless_body_goes_on_as_long_as_it_is_read() -> None:
    async with Receiver() as receiver, session() as client:
        receiver.behave(endless(b"ab" * 1000))
        async with client.post(receiver.url) as response:
            assert (await response.content.readexactly(10_000_000))[-2:] == b"ab"
            response.close()
        await receiver.until(lambda: not receiver.open)


async def test_a_held_answer_comes_when_the_gate_opens() -> None:
    gate = asyncio.Event()
    async with Receiver() as receiver:
        receiver.behave(hold(gate, answer(201)))
        delivery = asyncio.create_task(post(receiver))
        await receiver.wait_for(1)
        assert not delivery.done()
        gate.set()
        assert (await delivery).status == 201


async def test_behaviours_are_used_in_order_and_then_the_default() -> None:
    async with Receiver() as receiver:
        receiver.default = answer(202)
        receiver.behave(answer(500), answer(501))
        assert [(await post(receiver)).status for _ in range(4)] == [500, 501, 202, 202]


async def test_a_job_can_be_given_a_behaviour_of_its_own() -> None:
    async with Receiver() as receiver:
        receiver.by_job("J", gone())
        receiver.behave(answer(500))
        bodies = [b'{"job_id": "J"}', b'{"job_id": "K"}', b"[]", b"no JSON", b'{"job_id": "J"}']
        assert [(await post(receiver, body)).status for body in bodies] == [410, 500, 200, 200, 410]


async def test_random_behaviours_come_by_their_weights_and_repeat_with_the_seed() -> None:
    async def drawn(seed: int) -> list[str]:
        async with Receiver() as receiver:
            receiver.at_random(Random(seed), {answer(): 0.6, answer(500): 0.2, too_many(1): 0.2, reset(): 0})
            for _ in range(100):
                await post(receiver)
            return [arrival.behaviour.name for arrival in receiver.arrivals]

    first, again, other = [await drawn(seed) for seed in (1, 1, 2)]
    assert first == again != other
    count = Counter(first)
    assert count["answer 200"] > count["answer 500"] > 5
    assert set(count) == {"answer 200", "answer 500", too_many(1).name}


async def test_a_hostile_receiver_does_everything_it_may() -> None:
    async with Receiver() as receiver:
        receiver.at_random(Random(7))
        writers = [(await raw(receiver, REQUEST))[1] for _ in range(200)]
        await receiver.wait_for(200)
        assert {arrival.behaviour for arrival in receiver.arrivals} == set(HOSTILE)
        for writer in writers:
            writer.transport.abort()


async def test_a_receiver_that_went_away_refuses_and_comes_back_on_its_port() -> None:
    async with Receiver() as receiver:
        url = receiver.url
        receiver.default = hang()
        reader, writer = await raw(receiver, REQUEST)
        await receiver.wait_for(1)
        await receiver.go_away()
        assert await reader.read() == b""  # the open connection has been broken
        await closed(writer)
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(receiver)
        receiver.default = answer()
        await receiver.come_back()
        assert (await post(receiver)).status == 200
        assert (receiver.url, len(receiver.arrivals)) == (url, 2)


async def test_a_receiver_with_hung_connections_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with Receiver() as receiver:
        receiver.behave(hang(), drip(), endless(), hold(asyncio.Event()), refuse_reading())
        writers = []
        for count in range(1, 6):
            writers.append((await raw(receiver, REQUEST))[1])
            await receiver.wait_for(min(count, 4))
        await receiver.until(lambda: receiver.connections == 5)
        assert receiver.open == 5
    assert (receiver.open, asyncio.all_tasks()) == (0, before)
    for writer in writers:
        writer.transport.abort()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_going_away_while_clients_connect_leaves_no_socket_behind(tls) -> None:
    mine, theirs = certified() if tls else (None, None)
    async with Receiver(ssl=mine) as receiver:
        receiver.default = hang()
        for turns in range(60):
            clients = [asyncio.create_task(raw(receiver, REQUEST, theirs)) for _ in range(4)]
            for _ in range(turns % 12):  # so that each step of accepting is interrupted
                await asyncio.sleep(0)
            await receiver.go_away()
            for outcome in await asyncio.gather(*clients, return_exceptions=True):
                if not isinstance(outcome, ConnectionError):
                    outcome[1].transport.abort()
            await receiver.come_back()
        assert 0 < receiver.connections < 240
        await asyncio.sleep(0)
    gc.collect()  # an unclosed socket warns when it is collected, and a warning is an error


async def test_a_receiver_listens_on_ipv6_too() -> None:
    async with Receiver(host="::1") as receiver:
        assert receiver.url == f"http://[::1]:{receiver.port}/hook"
        assert (await post(receiver)).status == 200


async def test_a_fault_of_the_receiver_itself_is_raised_at_its_end() -> None:
    async def act(_: object) -> None:
        raise LookupError("a bug")

    receiver = Receiver()
    await receiver.come_back()
    receiver.behave(Behaviour("faulty", act))
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await post(receiver)
    with pytest.raises(LookupError, match="a bug"):
        await receiver.__aexit__(None, None, None)


async def test_waiting_ends_with_the_arrival_waited_for() -> None:
    async with Receiver() as receiver:
        waiting = asyncio.create_task(receiver.wait_for(2))
        await post(receiver)
        assert not waiting.done()
        await post(receiver)
        assert await waiting == receiver.arrivals


async def test_a_receiver_over_tls_resets_and_answers() -> None:
    mine, theirs = certified()
    async with Receiver(ssl=mine) as receiver, session() as client:
        assert receiver.url_for("localhost") == f"https://localhost:{receiver.port}/hook"
        receiver.behave(reset(), close_at_once())
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.post(receiver.url_for("localhost"), ssl=theirs)
        async with client.post(receiver.url, ssl=theirs) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.post(receiver.url)


async def test_first_arrivals_and_repeats_tell_order_from_repetition() -> None:
    async with Receiver() as receiver:
        for version, state in [(1, "queued"), (2, "working"), (1, "queued"), (3, "done"), (2, "working")]:
            await tell(receiver, "J", version, state, known=f"msg_{version}")
        await tell(receiver, "K", 1, known="msg_K")
        assert receiver.first_arrivals("J") == [(1, "queued"), (2, "working"), (3, "done")]
        assert receiver.first_arrivals("K") == [(1, "queued")]
        assert [arrival.number for arrival in receiver.repeats()] == [3, 5]
        assert receiver.ids_are_consistent() == []


async def test_an_event_out_of_order_shows_in_the_first_arrivals() -> None:
    async with Receiver() as receiver:
        await tell(receiver, "J", 2, "working")
        await tell(receiver, "J", 1, "queued")
        await tell(receiver, "J", 1, "done")
        assert receiver.first_arrivals("J") == [(2, "working"), (1, "queued"), (1, "done")]


@pytest.mark.parametrize(
    ("arrivals", "fault"),
    [
        ([("J", 1, "m"), ("J", 2, "m")], "m is the id of ('J', 1) and of ('J', 2)"),
        ([("J", 1, "m"), ("K", 1, "m")], "m is the id of ('J', 1) and of ('K', 1)"),
        ([("J", 1, "m"), ("J", 1, "n")], "('J', 1) has the ids m and n"),
        ([("J", 1, "m"), ("J", 1, None)], "arrival 2 has no webhook-id"),
    ],
    ids=["one id for two versions", "one id for two jobs", "two ids for one event", "no id"],
)
async def test_the_audit_finds_a_planted_fault_in_the_ids(arrivals, fault) -> None:
    async with Receiver() as receiver:
        for job_id, version, known in arrivals:
            await tell(receiver, job_id, version, known=known)
        assert receiver.ids_are_consistent() == [fault]


@pytest.mark.parametrize(("behaviour", "said"), [("gone", b"HTTP/1.1 410 Gone\r\n"), ("garbage", b"\x00\xff\x16")])
async def test_receiver_in_another_process_serves_until_its_stdin_closes(behaviour, said) -> None:
    command = [sys.executable, "-m", "tests.fakes.receiver", "--behaviour", behaviour]
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY, **pipes)
    try:
        url = (await process.stdout.readline()).decode().strip()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].removesuffix("/hook")))
        writer.write(REQUEST)
        assert await reader.readexactly(len(said)) == said
        await closed(writer)
    finally:
        process.stdin.close()
        assert await process.wait() == 0
