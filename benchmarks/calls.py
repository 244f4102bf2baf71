"""Blocking calls, streams and embeddings through foreman, each beside a direct call in the same run."""

from __future__ import annotations

import time
from functools import partial

import aiohttp

from benchmarks.harness import CHAT, Figure, fake_target, foreman, latencies, median, post, session, throughput

CONNECTIONS = 32


async def one_at_a_time() -> list[Figure]:
    """What foreman adds to a call of a target that costs nothing."""
    with fake_target() as target, foreman(target) as daemon:
        async with session() as client:
            direct = await latencies(partial(post, client, f"{target}/api/chat", CHAT), 500)
            through = await latencies(partial(post, client, f"{daemon.url}/api/chat", CHAT), 500)
    added = (median(through) - median(direct)) * 1e3
    return [
        Figure(
            name="blocking call, one at a time: added at the median",
            value=added,
            unit="ms",
            beside=f"direct {median(direct) * 1e3:.2f} ms, through {median(through) * 1e3:.2f} ms"
            f" (p99 {through[-len(through) // 100] * 1e3:.2f})",
            target="<= 2.5 ms",
        )
    ]


async def at_32_connections() -> list[Figure]:
    """Calls per second, with as many side by side as the target takes."""
    figures = []
    with fake_target() as target:
        async with session() as client:
            direct = await throughput(partial(post, client, f"{target}/api/chat", CHAT), CONNECTIONS, 4_000)
            for parallel in (1, 8):
                with foreman(target, parallel=str(parallel)) as daemon:
                    call = partial(post, client, f"{daemon.url}/api/chat", CHAT)
                    rate = await throughput(call, CONNECTIONS, 3_000)
                figures.append(
                    Figure(
                        name=f"blocking calls at {CONNECTIONS} connections, FOREMAN_PARALLEL={parallel}",
                        value=rate,
                        unit="calls/s",
                        beside=f"direct {direct:,.0f} calls/s, ratio {rate / direct:.2f}",
                        target=">= 1,000 calls/s",
                    )
                )
    return figures


async def first_token() -> list[Figure]:
    """How much later the first bytes of a stream come."""
    streaming = {**CHAT, "stream": True}

    async def first(client: aiohttp.ClientSession, url: str) -> float:
        began = time.perf_counter()
        async with client.post(f"{url}/api/chat", json=streaming) as response:
            await response.content.readany()
            taken = time.perf_counter() - began
            await response.read()
        return taken

    with fake_target(token_s=0.005) as target, foreman(target) as daemon:
        async with session() as client:
            for url in (target, daemon.url):
                await post(client, f"{url}/api/chat", CHAT)
            direct = sorted([await first(client, target) for _ in range(150)])
            through = sorted([await first(client, daemon.url) for _ in range(150)])
    return [
        Figure(
            name="first token of a stream: later at the median",
            value=(median(through) - median(direct)) * 1e3,
            unit="ms",
            beside=f"direct {median(direct) * 1e3:.2f} ms, through {median(through) * 1e3:.2f} ms",
            target="<= 2 ms (once working)",
        )
    ]


async def embeddings() -> list[Figure]:
    """The bypass."""
    body = {"model": "a", "input": "hello"}
    with fake_target() as target, foreman(target, embed_concurrency=str(CONNECTIONS)) as daemon:
        async with session() as client:
            direct_one = await latencies(partial(post, client, f"{target}/api/embed", body), 300)
            through_one = await latencies(partial(post, client, f"{daemon.url}/api/embed", body), 300)
            direct = await throughput(partial(post, client, f"{target}/api/embed", body), CONNECTIONS, 5_000)
            through = await throughput(partial(post, client, f"{daemon.url}/api/embed", body), CONNECTIONS, 5_000)
    return [
        Figure(
            name=f"embeddings at {CONNECTIONS} connections",
            value=through,
            unit="calls/s",
            beside=f"direct {direct:,.0f} calls/s, ratio {through / direct:.2f}",
            target=">= 2,500 calls/s",
        ),
        Figure(
            name="embedding, one at a time: added at the median",
            value=(median(through_one) - median(direct_one)) * 1e3,
            unit="ms",
            beside=f"direct {median(direct_one) * 1e3:.2f} ms",
            target="<= 1 ms",
        ),
    ]


ALL = (one_at_a_time, at_32_connections, first_token, embeddings)
