"""Requests and answers that no client and no Ollama should send: each may fail its own job, none may end the daemon."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from foreman.api.blocking import _repeat
from foreman.errors import StorageFull
from foreman.events.types import RequeueReason
from foreman.fsm.job import State
from foreman.worker import attempt
from tests.fakes.ollama import FakeOllama
from tests.kit import running

TEXT = "one two three"


@pytest.mark.parametrize("agent", ["café".encode(), b"\x01", b"a\tb"], ids=["latin", "control", "tab"])
async def test_header_that_http_cannot_carry_is_left_out(tmp_path, agent):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        body = json.dumps({"model": "a", "messages": [{"role": "user", "content": TEXT}], "stream": False}).encode()
        address = foreman.foreman.http.addresses[0]
        reader, writer = await asyncio.open_connection(*address)
        writer.write(
            b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUser-Agent: " + agent
            + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
        )  # fmt: skip
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200")
        assert (await foreman.chat("a", TEXT)).status_code == 200


async def one_answer(reader, writer, answer: bytes) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"GET /api/tags" in head:
        body = b'{"models":[{"name":"a","digest":"d"}]}'
    elif b"GET /api/ps" in head:
        body = b'{"models":[]}'
    elif b"GET /api/version" in head:
        body = b'{"version":"0.33.0"}'
    else:
        writer.write(answer)
        await writer.drain()
        writer.close()
        return
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


def plain(*lines: bytes) -> bytes:
    body = b"\n".join(lines)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body) + body


DEEP = b'{"message":{"content":"","tool_calls":[{"a":' + b"[" * 400 + b"]" * 400 + b"}]}}"
ODD = {
    "reason that is no UTF-8": b"HTTP/1.1 200 \xff\r\nContent-Length: 2\r\n\r\n{}",
    "deep nesting": plain(DEEP, b'{"message":{"content":""},"done":true}'),
    "deep error": plain(b'{"error":' + b"[" * 900 + b"]" * 900 + b"}"),
    "no HTTP": b"hello\r\n\r\n",
    "numbers beyond 63 bits": plain(b'{"message":{"content":"x"},"done":true,"eval_count":18446744073709551615}'),
    "numbers beyond 64 bits": plain(b'{"message":{"content":"x"},"done":true,"eval_count":1' + b"0" * 30 + b"}"),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
async def test_odd_answer_ends_its_own_job_and_nothing_else(tmp_path, answer):
    async with await asyncio.start_server(lambda r, w: one_answer(r, w, answer), "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with running(tmp_path, url, max_attempts="1") as foreman:
            job_id = await foreman.submit("a", TEXT)
            await foreman.until_state(job_id, State.DONE, State.FAILED)
            other = await foreman.submit("a", TEXT)
            await foreman.until_state(other, State.DONE, State.FAILED)


async def test_answer_without_end_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(attempt, "LONGEST_ANSWER", 1_000_000)
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("huge_line", after=1)
        job = await foreman.until_state(await foreman.submit("a", TEXT), State.FAILED)
        assert job.error_code == "answer_too_large"
        assert await foreman.until_state(await foreman.submit("a", TEXT), State.DONE)


async def test_listing_asked_for_as_a_poll_ends_does_not_freeze(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        inventory = foreman.foreman.inventory
        await inventory.refresh()
        over = asyncio.create_task(asyncio.sleep(0))
        await over
        inventory._polling = over  # a poll that is over and not put away yet
        inventory.poll_soon()
        await asyncio.wait_for(inventory.catch_up(5), 10)
        assert inventory._listed == inventory._changes


async def test_runs_that_cost_nothing_are_spaced_once_they_pile_up(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job = (await foreman.until_finished(await foreman.submit("a", TEXT)))[0]
        bench = foreman.foreman.worker.bench
        pauses = []
        for runs in (1, 3, 4, 5, 30):
            again = attempt.Attempt(bench, replace(job, run=runs, attempt=1), swaps=False, on_change=lambda _: None)
            before, command = bench.clock.now(), again._unreached("away")
            assert command.reason is RequeueReason.UNREACHABLE
            pauses.append(0 if command.not_before is None else round((command.not_before - before) / 1e6))
        bench.tails.close(job.job_id)
        assert pauses == [0, 0, 4, 8, 30]


async def test_keyed_repeat_with_an_outdated_view_is_answered_at_once(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        (job,) = await foreman.until_finished(await foreman.submit("a", TEXT))
        outdated = replace(job, state=State.WORKING)
        async with asyncio.timeout(5):
            answer = await _repeat(None, foreman.foreman.desk, outdated, stream=False)
        assert json.loads(answer.body)["message"]["content"] == TEXT
        assert len(foreman.foreman.tails) == 0


async def test_stop_on_a_full_disk_is_still_an_orderly_one(tmp_path, monkeypatch):
    async with FakeOllama(["a"]) as fake:
        with fake.hold("a"):
            async with running(tmp_path, fake.url) as foreman:
                callers = [asyncio.create_task(foreman.chat("a", TEXT)) for _ in range(2)]
                await foreman.until(lambda: len(foreman.foreman.ledger.work.queue) == 1)

                async def full(statements) -> None:
                    raise StorageFull

                monkeypatch.setattr(foreman.foreman.database, "transact", full)
                async with asyncio.timeout(15):
                    await foreman.foreman.stop()
                assert {task.get_name() for task in asyncio.all_tasks()}.isdisjoint({"worker", "inventory", "ledger"})
                await asyncio.gather(*callers, return_exceptions=True)
