"""What survives kill -9: everything that was answered with 202, once, and a log that fits together.

`TEST_KILLS` sets the number of kills, `TEST_SEED` repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import httpx

from foreman.fsm.job import State
from tests.e2e.audit import Book
from tests.fakes.ollama import FakeOllama
from tests.kit import Process
from tests.rebuilding import assert_rebuilds

KILLS = int(os.environ.get("TEST_KILLS", "50"))
SEED = int(os.environ.get("TEST_SEED") or time.time_ns() % 1_000_000)
CUSTOMERS = 5


class Customers:
    """Callers who go on whatever happens to foreman, and remember what it promised."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.texts: dict[str, str] = {}  #: of every job that was answered with 202
        self.unwanted: set[str] = set()  #: those somebody tried to cancel
        self.unanswered: dict[str, dict[str, object]] = {}  #: keyed submissions that foreman died over
        self.keys = 0
        self._number = 0

    def body(self) -> dict[str, object]:
        self._number += 1
        text = f"text {self._number}"
        return {"model": self.chance.choice("ab"), "messages": [{"role": "user", "content": text}]}

    async def trade(self, url: str) -> None:
        """All of them at once, until foreman is gone."""
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client, asyncio.TaskGroup() as group:
            for key in list(self.unanswered):
                group.create_task(self._until_gone(client, lambda client, key=key: self.keyed(client, key), once=True))
            for _ in range(CUSTOMERS):
                group.create_task(self._until_gone(client, self._anything))

    async def _until_gone(self, client, deed, *, once: bool = False) -> None:
        with contextlib.suppress(httpx.TransportError):
            while True:
                await deed(client)
                if once:
                    return
                await asyncio.sleep(self.chance.uniform(0, 0.02))

    async def _anything(self, client: httpx.AsyncClient) -> None:
        deeds = (self.one, self.batch, self.keyed, self.call, self.cancel)
        await self.chance.choices(deeds, weights=(4, 1, 2, 2, 2))[0](client)

    def promised(self, job_id: str, body: dict[str, object]) -> None:
        self.texts[job_id] = body["messages"][0]["content"]

    async def one(self, client: httpx.AsyncClient) -> None:
        body = self.body()
        response = await client.post("/jobs", json=body)
        assert response.status_code == 202, response.text
        self.promised(response.json()["job_id"], body)

    async def batch(self, client: httpx.AsyncClient) -> None:
        bodies = [self.body() for _ in range(4)]
        response = await client.post("/jobs", json=bodies)
        assert response.status_code == 202, response.text
        for body, job in zip(bodies, response.json()["jobs"], strict=True):
            self.promised(job["job_id"], body)

    async def keyed(self, client: httpx.AsyncClient, key: str = "") -> None:
        if not key:
            self.keys += 1
            key = f"key {self.keys}"
        body = self.unanswered.setdefault(key, self.body())
        response = await client.post("/jobs", json=body, headers={"idempotency-key": key})
        assert response.status_code == 202, response.text
        self.promised(response.json()["job_id"], self.unanswered.pop(key))

    async def call(self, client: httpx.AsyncClient) -> None:
        body = self.body() | {"stream": self.chance.random() < 0.5}
        response = await client.post("/api/chat", json=body)
        assert response.status_code == 200, response.text

    async def cancel(self, client: httpx.AsyncClient) -> None:
        if self.texts:
            job_id = self.chance.choice(list(self.texts)[-5:])
            self.unwanted.add(job_id)
            assert (await client.delete(f"/jobs/{job_id}")).status_code == 200


async def one_life(process: Process, customers: Customers) -> None:
    """From a start to a kill at a moment nobody chose; one in five dies while it starts."""
    starting = asyncio.create_task(process.start())
    if customers.chance.random() < 0.2:
        await asyncio.wait({starting}, timeout=customers.chance.uniform(0.2, 0.6))
        trading = None
    else:
        trading = asyncio.create_task(customers.trade(await starting))
        await asyncio.wait({trading}, timeout=customers.chance.uniform(0.01, 0.3))
    await process.kill()
    with contextlib.suppress(AssertionError):  # "foreman did not start"
        await starting
    if trading is not None:
        await trading


async def last_life(process: Process, customers: Customers) -> None:
    """Start once more, let everything come to its end, stop in good order."""
    async with httpx.AsyncClient(base_url=await process.start(), timeout=30, trust_env=False) as client:
        for key in list(customers.unanswered):
            await customers.keyed(client, key)
        for job_id in customers.texts:
            job = (await client.get(f"/jobs/{job_id}", params={"wait": "20s"})).json()
            assert job["state"] in {"done", "cancelled"}, job
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0


def answers(book: Book) -> dict[str, str]:
    """The completion of every job that is done."""
    done = [job_id for job_id, job in book.jobs.items() if job.state is State.DONE]
    return {job_id: book.completion(job_id)["message"]["content"] for job_id in done}


async def test_whatever_was_accepted_survives_kills_at_any_moment(tmp_path: Path) -> None:
    print(f"TEST_SEED={SEED} TEST_KILLS={KILLS}")  # noqa: T201  (shown by pytest if the test fails)
    customers = Customers(random.Random(SEED))
    async with FakeOllama(["a", "b"], load_seconds=0.005, seconds_per_token=0.001) as fake:
        await last_life(Process(tmp_path, fake.url), customers)  # there is a database from here on
        for _ in range(KILLS):
            before = len(fake.calls)
            await one_life(Process(tmp_path, fake.url), customers)
            sent = Counter(call.body for call in fake.calls[before:] if call.kind == "generation")
            assert [body for body, times in sent.items() if times > 1] == []
            assert Book(tmp_path / "foreman.db").faults() == []
        await last_life(Process(tmp_path, fake.url), customers)
    book = Book(tmp_path / "foreman.db")
    assert book.faults() == []
    assert book.events[-1].event.type == "daemon.stopped"
    assert_rebuilds(tmp_path / "foreman.db")
    assert {job_id for job_id in customers.texts if book.jobs[job_id].state is State.CANCELLED} <= customers.unwanted
    assert {job_id: text for job_id, text in answers(book).items() if job_id in customers.texts}.items() <= (
        customers.texts.items()
    )
    keys = Counter(job.idempotency.key for job in book.jobs.values() if job.idempotency is not None)
    assert (len(keys), set(keys.values())) == (customers.keys, {1})
    assert {job.state for job in book.jobs.values()} == {State.DONE, State.CANCELLED}
    print(f"{len(book.events)} events, {len(customers.texts)} jobs promised, {len(book.jobs)} in all")  # noqa: T201
