"""What receivers that are dead cost everybody else: memory, and the time in which a job is accepted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from benchmarks.harness import (
    CHAT,
    Daemon,
    Figure,
    fake_target,
    foreman,
    latencies,
    median,
    post,
    session,
    throughput,
)
from benchmarks.receivers import receivers
from benchmarks.webhooks import p95

#: Deliveries to dead receivers; BENCH_JOBS sets another number.
JOBS = int(os.environ.get("BENCH_JOBS", "10000"))
BATCH = 1_000
#: Half of them refuse connections, half of them never answer.
RECEIVERS = 8
#: Rounds of each daemon, and what is accepted in one: side by side, then one after the other.
ROUNDS = 7
CONNECTIONS = 64
AT_ONCE = 2_000
ONE_BY_ONE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What accepting some jobs took."""

    rate: float
    median_ms: float
    p95_ms: float
    #: The daemon's own time on a processor for each job.
    processor_ms: float
    attempts: int
    seconds: float


@dataclass(slots=True)
class Subject:
    """One of two daemons with the same queue, of which only one has webhooks to deliver; and what was measured."""

    daemon: Daemon
    client: aiohttp.ClientSession
    database: Path
    idle_mb: float
    rounds: list[Round] = field(default_factory=list)

    def grown_mb(self) -> float:
        """Memory since it was idle."""
        return self.daemon.memory_mb() - self.idle_mb

    def processor_s(self) -> float:
        """Seconds of the processor that the daemon has used."""
        fields = Path(f"/proc/{self.daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def attempts(self) -> int:
        """Attempts on record."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM delivery_attempts").fetchone()[0])

    async def round(self) -> None:
        """Accept some jobs."""
        accept = partial(post, self.client, f"{self.daemon.url}/jobs", CHAT, expect=202)
        began, attempts, used = time.perf_counter(), self.attempts(), self.processor_s()
        rate = await throughput(accept, CONNECTIONS, AT_ONCE)
        taken = await latencies(accept, ONE_BY_ONE, warm=0)
        jobs = CONNECTIONS + AT_ONCE + ONE_BY_ONE
        self.rounds.append(
            Round(
                rate=rate,
                median_ms=median(taken) * 1e3,
                p95_ms=p95(taken) * 1e3,
                processor_ms=(self.processor_s() - used) / jobs * 1e3,
                attempts=self.attempts() - attempts,
                seconds=time.perf_counter() - began,
            )
        )


async def webhook_backlog() -> list[Figure]:
    """Many lanes to receivers that refuse or hang: memory, and POST /jobs beside a daemon that has none of them."""
    with ExitStack() as stack:
        hanging = stack.enter_context(receivers(RECEIVERS // 2, "hang"))
        urls = [*hanging.urls, *(stack.enter_context(refusing()) for _ in range(RECEIVERS // 2))]
        target = stack.enter_context(fake_target(token_s=60))
        async with AsyncExitStack() as both:
            without = await both.enter_async_context(subject(target))
            await _fill(without, [])
            with paused(without):
                dead = await both.enter_async_context(subject(target))
                await _fill(dead, urls)
                figures = [_memory("once they are queued", without, dead)]
            figures += await _rounds(without, dead)
            figures.append(_memory("after as many more jobs to each", without, dead))
    return figures


@contextmanager
def refusing() -> Iterator[str]:
    """The URL of a receiver that refuses connections: its port is taken, but nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/hook"


@asynccontextmanager
async def subject(target: str) -> AsyncIterator[Subject]:
    """A daemon with an empty queue."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        database = Path(folder) / "foreman.db"
        with foreman(target, database, max_queue=str(JOBS + 100_000), drain_timeout="0s") as daemon:
            async with session() as client:
                await post(client, f"{daemon.url}/jobs", CHAT, expect=202)  # the target is held by it from here on
                yield Subject(daemon, client, database, daemon.memory_mb())


async def _fill(subject: Subject, urls: list[str]) -> None:
    """Queue the jobs, each with one event to tell of if there are receivers."""
    hooks = cycle([{"state_webhook_url": url} for url in urls] or [{}])
    for filled in range(0, JOBS, BATCH):
        jobs = [{**CHAT, **hook} for hook in islice(hooks, min(BATCH, JOBS - filled))]
        await post(subject.client, f"{subject.daemon.url}/jobs", jobs, expect=202)


@contextmanager
def paused(subject: Subject) -> Iterator[None]:
    """The daemon stands still, so that it takes no processor from the one that is measured."""
    subject.daemon.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        subject.daemon.process.send_signal(signal.SIGCONT)


async def _rounds(without: Subject, dead: Subject) -> list[Figure]:
    """Rounds in turn, so that what is compared are neighbours: the load of a shared machine changes by the minute."""
    for _ in range(ROUNDS):
        for one, other in ((without, dead), (dead, without)):
            with paused(other):
                await asyncio.sleep(1.0)  # what timed out while it stood still is dealt with by then
                await one.round()
    attempts = sum(item.attempts for item in dead.rounds) / sum(item.seconds for item in dead.rounds)
    names = {
        "rate": (f"POST /jobs at {CONNECTIONS} connections, {JOBS:,} dead deliveries pending", "accepts/s"),
        "median_ms": ("the same, one at a time, median", "ms"),
        "p95_ms": ("the same, one at a time, p95", "ms"),
        "processor_ms": (f"the daemon's processor time for each, {attempts:,.0f} attempts/s included", "ms"),
    }
    return [
        _compared(
            name, unit, [getattr(item, key) for item in without.rounds], [getattr(item, key) for item in dead.rounds]
        )
        for key, (name, unit) in names.items()
    ]


def _compared(name: str, unit: str, without: Sequence[float], dead: Sequence[float]) -> Figure:
    """The ratio of each round to its neighbour; that of two rounds without such deliveries shows what is noise."""
    ratio = median([slow / plain for slow, plain in zip(dead, without, strict=True)])
    noise = [later / earlier for earlier, later in pairwise(without)]
    return Figure(
        name=name,
        value=median(list(dead)),
        unit=unit,
        beside=f"without {median(list(without)):,.2f}, ratio {ratio:.2f};"
        f" of two rounds without, {min(noise):.2f} to {max(noise):.2f}",
        target="no measurable delay",
    )


def _memory(when: str, without: Subject, dead: Subject) -> Figure:
    more = dead.grown_mb() - without.grown_mb()
    return Figure(
        name=f"memory for {JOBS:,} dead deliveries, {when}",
        value=more,
        unit="MB",
        beside=f"grown by {dead.grown_mb():.1f} MB, without webhooks by {without.grown_mb():.1f} MB;"
        f" {more * 2**20 / JOBS:,.0f} bytes each",
        target="< 50 MB",
    )


ALL = (webhook_backlog,)
