"""Webhooks: how soon a receiver hears of a state, and how many deliveries are made a second."""

from __future__ import annotations

import asyncio
import time
from itertools import cycle, islice
from typing import Any

import aiohttp
import orjson

from benchmarks.harness import CHAT, Daemon, Figure, fake_target, foreman, median, post, session, throughput
from benchmarks.receivers import Receivers, Told, receivers
from foreman.clock import SystemClock, rfc3339

BATCH = 1_000
ONE_BY_ONE = 200


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return sorted(values)[len(values) * 95 // 100]


async def webhook_latency() -> list[Figure]:
    """From an event's time, which is taken before COMMIT, to the arrival of the request; jobs one at a time."""
    with fake_target() as target, receivers() as receiver, foreman(target) as daemon:
        async with session() as client:
            final, seen = await _jobs_one_by_one(client, daemon, receiver, {"webhook_events": []})
            every, _ = await _jobs_one_by_one(client, daemon, receiver, {}, before=len(final))
        done = [told.late_s for told in every if told.payload["state"] == "done"]
        first = [told.late_s for told in every if told.payload["state"] == "queued"]
        direct = await _directly(receiver, every[-1].payload, before=2 * len(final))
    alone = [told.late_s for told in final]
    return [
        Figure(
            name="a final state: at the receiver, later than its event, median",
            value=median(alone) * 1e3,
            unit="ms",
            beside=f"p95 {p95(alone) * 1e3:.2f}, max {max(alone) * 1e3:.2f}; a POST of the same body {_ms(direct)};"
            f" the same jobs seen done by a long poll {_ms(seen)}",
            target="starts <= 50 ms after COMMIT",
        ),
        Figure(
            name="a final state, receiver told of every transition, jobs of 0 s, median",
            value=median(done) * 1e3,
            unit="ms",
            beside=f"p95 {p95(done) * 1e3:.2f}, max {max(done) * 1e3:.2f}; its `queued` {_ms(first)}",
        ),
    ]


def _ms(seconds: list[float]) -> str:
    return f"median {median(seconds) * 1e3:.2f}, p95 {p95(seconds) * 1e3:.2f} ms"


async def _jobs_one_by_one(
    client: aiohttp.ClientSession, daemon: Daemon, receiver: Receivers, webhook: dict[str, Any], before: int = 0
) -> tuple[list[Told], list[float]]:
    """What the receiver was told of some jobs, and how late a long poll saw each of them done."""
    body = {**CHAT, "state_webhook_url": receiver.urls[0], **webhook}
    everything: list[Told] = []
    seen: list[float] = []
    for number in range(1, ONE_BY_ONE + 1):
        job_id = orjson.loads(await post(client, f"{daemon.url}/jobs", body, expect=202))["job_id"]
        async with client.get(f"{daemon.url}/jobs/{job_id}?wait=10s") as response:
            answer = await response.read()
        seen_ns = time.time_ns()
        told = receiver.wait_for("done", before + number)
        everything += told
        assert told[-1].payload["job_id"] == job_id, answer
        seen.append(Told(seen_ns, told[-1].payload).late_s)
        # Idle is what the daemon is to be when the next job comes: it still has to record this attempt.
        await asyncio.sleep(0.02)
    return everything, seen


async def _directly(receiver: Receivers, payload: dict[str, Any], before: int) -> list[float]:
    """The same bodies sent by a plain client, each over a connection of its own as foreman does it."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:
        for _ in range(ONE_BY_ONE):
            await post(client, receiver.urls[0], {**payload, "timestamp": rfc3339(SystemClock().now())})
    return [told.late_s for told in receiver.wait_for("done", before + ONE_BY_ONE)]


async def webhook_throughput() -> list[Figure]:
    """Deliveries a second: all due at once while the target holds, and beside the work of jobs that are told of."""
    figures = []
    for count in (1, 8):
        with receivers(count) as fast:
            with fake_target(token_s=60) as target, foreman(target) as daemon:
                waiting = await _burst(daemon, fast, "queued", {"webhook_events": ["queued"]})
            direct = await _directly_many(fast, waiting[-1].payload, 4 * count)
        with receivers(count) as fast, fake_target() as target, foreman(target) as daemon:
            working = await _burst(daemon, fast, "done", {})
        to = f"to {count} fast receiver{'s' * (count > 1)}"
        figures += [
            Figure(
                name=f"{BATCH:,} deliveries due at once {to}",
                value=_rate(waiting),
                unit="deliveries/s",
                beside=f"plain client at {4 * count} connections {direct:,.0f}/s, ratio {_rate(waiting) / direct:.2f}",
            ),
            Figure(
                name=f"{BATCH:,} jobs done, every transition told {to}",
                value=_rate(working),
                unit="deliveries/s",
                beside=f"{len(working):,} deliveries, {BATCH * _rate(working) / len(working):,.0f} jobs/s",
            ),
        ]
    return figures


async def _burst(daemon: Daemon, fast: Receivers, state: str, webhook: dict[str, Any]) -> list[Told]:
    """Submit many jobs at once, and wait until the receivers have heard of this state of all."""
    jobs = [{**CHAT, "state_webhook_url": url, **webhook} for url in islice(cycle(fast.urls), BATCH)]
    async with session() as client:
        await post(client, f"{daemon.url}/jobs", jobs, expect=202)
    return fast.wait_for(state, BATCH)


async def _directly_many(fast: Receivers, payload: dict[str, Any], connections: int) -> float:
    urls = cycle(fast.urls)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as client:
        return await throughput(lambda: post(client, next(urls), payload), connections, BATCH)


def _rate(told: list[Told]) -> float:
    return (len(told) - 1) / (told[-1].at_ns - told[0].at_ns) * 1e9


ALL = (webhook_latency, webhook_throughput)
