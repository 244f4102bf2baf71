"""Both clients over kill -9 of the daemon: a submission makes one job, and who follows misses nothing.

A proxy stands between them: the client's address stays while the daemon's changes with each of its lives, and an answer
can be swallowed at the moment it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from foreman.client import NewRun, Retry
from tests.client_kit import KINDS, connected
from tests.e2e.audit import Book
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, Process
from tests.proxy import Proxy

TEXT = "one two three four five six"
#: A start of the daemon takes seconds on a slow machine.
PATIENT = Retry(within_s=60, first_s=0.05, most_s=0.2)

pytestmark = pytest.mark.parametrize("kind", KINDS)


class Daemon:
    """A daemon behind a proxy, killed and started anew over the same database."""

    def __init__(self, path: Path, fake: FakeOllama, proxy: Proxy) -> None:
        self._make = lambda: Process(path, fake.url, drain_timeout="10ms")
        self._proxy = proxy
        self.process = self._make()

    async def start(self) -> None:
        self.process = self._make()
        self._proxy.target = await self.process.start()

    async def start_anew(self) -> None:
        await self.process.kill()
        await self.start()


@asynccontextmanager
async def set_up(kind: str, path: Path) -> AsyncIterator[tuple[FakeOllama, Proxy, Daemon, Any]]:
    """A target, a proxy, a daemon behind it, and a client in front of it."""
    async with FakeOllama(["a"]) as fake, Proxy("").open() as proxy:
        daemon = Daemon(path, fake, proxy)
        try:
            await daemon.start()
            async with connected(kind, proxy.url, timeout=PATIENCE_S, retry=PATIENT) as client:
                yield fake, proxy, daemon, client
        finally:
            await daemon.process.kill()


async def test_a_submission_whose_answer_died_with_the_daemon_makes_one_job(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, proxy, daemon, client):
        swallowed = []

        async def die(answer: bytes) -> None:
            swallowed.append(answer)
            await daemon.process.kill()

        proxy.swallow = die
        submitted = asyncio.ensure_future(client.submit(model="a", prompt=TEXT))
        async with asyncio.timeout(PATIENCE_S):
            while not swallowed:
                await asyncio.sleep(0.01)
        await daemon.process.ended()
        await daemon.start()
        job = await submitted
        assert swallowed[0].startswith(b"HTTP/1.1 202")  # it was committed and answered: only the client does not know
        assert job.job_id.encode() in swallowed[0]
        assert (await client.completion(job.job_id, timeout=PATIENCE_S)).text == TEXT
    book = Book(tmp_path / "foreman.db")
    assert book.faults() == []
    assert list(book.jobs) == [job.job_id]


async def test_a_batch_whose_answers_die_with_the_daemon_makes_each_job_once(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, proxy, daemon, client):
        prompts = [f"text {number}" for number in range(60)]
        restarts = []

        async def die(_: bytes) -> None:
            await daemon.process.kill()
            restarts.append(asyncio.create_task(daemon.start()))

        jobs = []
        async for job in client.each("submit_many", [{"model": "a", "prompt": text} for text in prompts], chunk=10):
            jobs.append(job)
            if len(jobs) in {10, 30}:
                proxy.swallow = die
        await asyncio.gather(*restarts)
        answers = [(await client.completion(job.job_id, timeout=PATIENCE_S)).text for job in jobs]
    assert answers == prompts
    assert len(restarts) == 2
    book = Book(tmp_path / "foreman.db")
    assert book.faults() == []
    assert sorted(book.jobs) == sorted(job.job_id for job in jobs)


async def test_a_stream_over_a_restart_loses_and_repeats_no_line(tmp_path, kind):
    async with set_up(kind, tmp_path) as (fake, _, daemon, client):
        with fake.hold("a", after=3) as gate:
            job = await client.submit(model="a", prompt=TEXT)
            await gate.reached()
            items = client.each("stream", job.job_id)
            heard = [await anext(items) for _ in range(3)]
            await daemon.start_anew()
        heard += [item async for item in items]
        kept = (await client.artifact(job.job_id, "stream")).splitlines()
    assert [type(item) for item in heard].count(NewRun) == 1
    start = next(at for at, item in enumerate(heard) if isinstance(item, NewRun))
    assert "".join(item.text for item in heard[:start]) == "one two three"
    assert [item.line for item in heard[start + 1 :]] == kept
    assert [item.number for item in heard[start + 1 :]] == list(range(1, len(kept) + 1))
    assert "".join(item.text for item in heard[start + 1 :]) == TEXT


async def test_a_stream_whose_job_ends_while_its_follower_is_cut_off_goes_on_in_the_same_run(tmp_path, kind):
    async with set_up(kind, tmp_path) as (fake, proxy, daemon, client):
        with fake.hold("a", after=3) as gate:
            job = await client.submit(model="a", prompt=TEXT)
            await gate.reached()
            items = client.each("stream", job.job_id)
            heard = [await anext(items) for _ in range(3)]
            address, proxy.target = proxy.target, "http://127.0.0.1:1"
            proxy.cut()
            gate.release()
            async with connected(kind, address) as other:
                await other.wait(job.job_id, timeout=PATIENCE_S)
        await daemon.start_anew()
        heard += [item async for item in items]
        kept = (await client.artifact(job.job_id, "stream")).splitlines()
    assert [item.line for item in heard] == kept


async def test_events_over_restarts_are_the_log_without_a_gap(tmp_path, kind):
    async with set_up(kind, tmp_path) as (_, _, daemon, client):
        items, heard = client.each("events", after=0), []

        async def until(type_: str) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not heard or heard[-1].type != type_:
                    heard.append(await anext(items))

        for _ in range(3):
            await client.submit(model="a", prompt="x")
            await until("job.done")
            await daemon.start_anew()
            await until("daemon.started")
        await items.aclose()
    book = Book(tmp_path / "foreman.db")
    assert [(event.position, event.type) for event in heard] == [
        (recorded.position, recorded.event.type) for recorded in book.events[: len(heard)]
    ]
    assert len(heard) > 12


async def test_a_job_waited_for_over_a_restart_is_waited_for_to_its_end(tmp_path, kind):
    async with set_up(kind, tmp_path) as (fake, _, daemon, client):
        with fake.hold("a", after=1) as gate:
            job = await client.submit(model="a", prompt=TEXT)
            waited = asyncio.ensure_future(client.wait(job.job_id, timeout=60))
            await gate.reached()
            await daemon.start_anew()
            assert not waited.done()
        assert (await waited).state == "done"
