"""Fifty followers of the log: each ends with exactly its sequence, whoever breaks off; and those that never read."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.ollama import FakeOllama
from tests.integration.events_kit import deaf, follow
from tests.kit import PATIENCE_S, Process

FOLLOWERS = 50
#: What one that never reads may cost, while some 6 MB wait for it.
AFFORDED_BYTES = 1_000_000


class Wanderer:
    """A follower that leaves now and then, and goes on after the last id that it has, to the first cancelled job."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.heard: list[dict] = []
        self.last_id = "0"
        self.connections = 0

    def is_there(self) -> bool:
        return any(event["type"] == "job.cancelled" for event in self.heard)

    async def wander(self, client: httpx.AsyncClient, is_up: asyncio.Event) -> None:
        while not self.is_there():
            await is_up.wait()
            with contextlib.suppress(httpx.TransportError):  # foreman goes down
                await self._follow(client)

    async def _follow(self, client: httpx.AsyncClient) -> None:
        async with follow(client, last_id=self.last_id) as followed:
            self.connections += 1
            few = self.random.randint(1, 60)
            await followed.until(lambda: len(followed.messages) >= few or "job.cancelled" in followed.types())
            self.heard += followed.events()
            self.last_id = followed.last_id or self.last_id


async def submit(client: httpx.AsyncClient, count: int, model: str = "a") -> list[str]:
    """Queue a batch of jobs; their ids."""
    answer = await client.post("/jobs", json=[{"model": model, "prompt": "one two"}] * count)
    assert answer.status_code == 202, answer.text
    return [job["job_id"] for job in answer.json()["jobs"]]


async def finished(client: httpx.AsyncClient, job_ids: list[str]) -> None:
    for job_id in job_ids:
        job: dict[str, Any] = {"completed_at": None}
        while job["completed_at"] is None:
            job = (await client.get(f"/jobs/{job_id}", params={"wait": "10s"})).json()


async def listed(client: httpx.AsyncClient) -> list[dict]:
    """The log, page by page."""
    events: list[dict] = []
    while True:
        page = (await client.get("/events", params={"after": len(events), "limit": 1000})).json()
        events += page["events"]
        if page["next"] == page["head"]:
            return events


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_followers_that_come_and_go_each_hear_the_whole_log_once(tmp_path, end):
    wanderers, is_up = [Wanderer(number) for number in range(FOLLOWERS)], asyncio.Event()
    limits = httpx.Limits(max_connections=2 * FOLLOWERS)
    async with (
        FakeOllama(models=["a", "b", "last"]) as fake,
        httpx.AsyncClient(timeout=PATIENCE_S, limits=limits, trust_env=False) as client,
    ):
        foreman = Process(tmp_path, fake.url, drain_timeout="10ms")
        try:
            async with asyncio.TaskGroup() as tasks:
                for wanderer in wanderers:
                    tasks.create_task(wanderer.wander(client, is_up))
                client.base_url = await foreman.start()
                is_up.set()
                begun, rest = await submit(client, 60), await submit(client, 60, "b")
                await finished(client, begun)
                is_up.clear()
                foreman.signal(end)
                await foreman.ended()
                client.base_url = await foreman.start()
                is_up.set()
                await finished(client, rest + await submit(client, 40))
                with fake.hold("last"):
                    (last,) = await submit(client, 1, "last")
                    await client.delete(f"/jobs/{last}")
                    log = await listed(client)
        finally:
            await foreman.kill()
    while log[-1]["type"] != "job.cancelled":
        log.pop()
    for wanderer in wanderers:
        assert wanderer.heard[: len(log)] == log
        assert [event["position"] for event in wanderer.heard] == list(range(1, len(wanderer.heard) + 1))
    assert sum(wanderer.connections for wanderer in wanderers) > 4 * FOLLOWERS


async def test_followers_that_never_read_cost_next_to_nothing(tmp_path):
    async with FakeOllama(models=["a"]) as fake:
        foreman = Process(tmp_path, fake.url, max_queue="100000")
        try:
            with fake.hold("a"), contextlib.ExitStack() as followers:
                async with httpx.AsyncClient(base_url=await foreman.start(), timeout=60) as client:
                    await grown(foreman, client)  # what only the first events cost
                    alone = await grown(foreman, client)
                    for _ in range(FOLLOWERS):
                        followers.enter_context(deaf(foreman.url))
                    with_followers = await grown(foreman, client)
        finally:
            await foreman.kill()
    assert (with_followers - alone) / FOLLOWERS < AFFORDED_BYTES


async def grown(foreman: Process, client: httpx.AsyncClient) -> int:
    """By how much the process grows while 5,000 events are written and one follower reads all there are."""
    before = peak(foreman)
    for _ in range(5):
        await submit(client, 1_000)
    head = (await client.get("/events?limit=1")).json()["head"]
    async with follow(client, last_id=0) as followed:
        await followed.heard(head)
    return peak(foreman) - before


def peak(foreman: Process) -> int:
    """The most memory that the process has had."""
    assert foreman._process is not None
    status = Path(f"/proc/{foreman._process.pid}/status").read_text("ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
