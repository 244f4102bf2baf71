"""A long queue: accepting, listing, cancelling and picking while 100,000 jobs wait; and starting over with them."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson

from benchmarks.harness import CHAT, Figure, fake_target, foreman, latencies, median, post, session, throughput

#: The backlog; BENCH_JOBS sets another.
JOBS = int(os.environ.get("BENCH_JOBS", "100000"))
BATCH = 1_000


async def accepting() -> list[Figure]:
    """Durable accepts, one job a request."""
    with fake_target(token_s=60) as target, foreman(target) as daemon:
        async with session() as client:
            rate = await throughput(partial(post, client, f"{daemon.url}/jobs", CHAT, expect=202), 64, 12_000)
    return [Figure(name="POST /jobs at 64 connections", value=rate, unit="accepts/s", target=">= 4,000 accepts/s")]


async def backlog() -> list[Figure]:
    """Everything one does to a queue, at its full length."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder, fake_target(token_s=60) as target:
        database = Path(folder) / "foreman.db"
        settings = {"max_queue": str(JOBS + 1_000), "drain_timeout": "0s"}
        with foreman(target, database, **settings) as daemon:
            idle_mb = daemon.memory_mb()
            async with session() as client:
                figures = await _at_full_length(client, daemon.url)
            figures.append(
                Figure(
                    name=f"memory with {JOBS:,} waiting",
                    value=daemon.memory_mb(),
                    unit="MB",
                    beside=f"idle {idle_mb:.0f} MB, {(daemon.memory_mb() - idle_mb) * 1e6 / JOBS:.0f} bytes a job",
                )
            )
            figures.append(Figure(name="memory, idle", value=idle_mb, unit="MB", target="<= 90 MB"))
        with foreman(target, database, **settings) as daemon:
            figures.append(Figure(name=f"start with {JOBS:,} waiting", value=daemon.ready_s, unit="s"))
    return figures


async def _at_full_length(client: aiohttp.ClientSession, url: str) -> list[Figure]:
    began = time.perf_counter()
    ids: list[str] = []
    for _ in range(JOBS // BATCH):
        answer = await post(client, f"{url}/jobs", [CHAT] * BATCH, expect=202)
        ids += [job["job_id"] for job in orjson.loads(answer)["jobs"]]
    submitting = JOBS / (time.perf_counter() - began)

    async def get(path: str) -> Any:
        async with client.get(f"{url}{path}") as response:
            return await response.read()

    async def cancel() -> None:
        async with client.delete(f"{url}/jobs/{ids.pop()}") as response:
            await response.read()

    async def submit_and_show() -> None:
        """The queue has to change, or the same forecast would be shown again."""
        await post(client, f"{url}/jobs", CHAT, expect=202)
        await get("/queue")

    listing = await latencies(partial(get, "/jobs?state=queued&limit=100"), 100, warm=5)
    looking = await latencies(partial(get, f"/jobs/{ids[JOBS // 2]}"), 200, warm=5)
    showing = await latencies(submit_and_show, 50, warm=5)
    cancelling = await latencies(cancel, 200, warm=5)
    submitting_one = await latencies(partial(post, client, f"{url}/jobs", CHAT, expect=202), 200, warm=5)
    return [
        Figure(name="submit in batches of 1,000", value=submitting, unit="jobs/s"),
        Figure(name="list a page of 100", value=median(listing) * 1e3, unit="ms"),
        Figure(name="get one in the middle, with its place", value=median(looking) * 1e3, unit="ms"),
        Figure(name="submit one, then GET /queue", value=median(showing) * 1e3, unit="ms", target="<= 50 ms"),
        Figure(name="cancel one", value=median(cancelling) * 1e3, unit="ms"),
        Figure(name="submit one more", value=median(submitting_one) * 1e3, unit="ms"),
    ]


async def swaps() -> list[Figure]:
    """60 interleaved calls for 3 models: the table of the README."""
    with fake_target(models="a,b,c", load_s=0.5, token_s=0.1) as target, foreman(target) as daemon:
        async with session() as client:
            began = time.perf_counter()
            bodies = [{**CHAT, "model": "abc"[number % 3]} for number in range(60)]
            await asyncio.gather(*(post(client, f"{daemon.url}/api/chat", body) for body in bodies))
            wall = time.perf_counter() - began
    return [
        Figure(
            name="60 interleaved calls for 3 models",
            value=wall,
            unit="s",
            beside=f"ideal 7.5 s, ratio {wall / 7.5:.3f}; direct or through any peer 36 s",
            target="<= 1.05 of the ideal",
        )
    ]


ALL = (swaps, accepting, backlog)
