"""What every benchmark needs: a target and a foreman as processes of their own, and a client that is not the limit."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
CHAT = {"model": "a", "messages": [{"role": "user", "content": "hello"}], "stream": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure beside what it is compared with; `target` says what is to be reached, in words."""

    name: str
    value: float
    unit: str
    beside: str = ""
    target: str = ""


@contextmanager
def fake_target(*, models: str = "a", load_s: float = 0.0, token_s: float = 0.0, port: int = 0) -> Iterator[str]:
    """The fake Ollama in a process of its own; its URL."""
    arguments = ["--port", str(port), "--models", models, "--load", str(load_s), "--token", str(token_s)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.ollama", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip().split()[-1]
    finally:
        process.terminate()
        process.wait()


@dataclass(slots=True)
class Daemon:
    """A running foreman."""

    url: str
    process: subprocess.Popen[str]
    #: Seconds from the start of the process until it served.
    ready_s: float

    def memory_mb(self) -> float:
        """Resident memory, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def foreman(target: str, database: Path | None = None, **settings: str) -> Iterator[Daemon]:
    """`foreman serve` in a process of its own, on a database of its own unless one is given."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        environ = {
            **os.environ,
            "FOREMAN_ADDR": "127.0.0.1:0",
            "FOREMAN_OLLAMA_URL": target,
            "FOREMAN_DB_PATH": str(database or Path(folder) / "foreman.db"),
            "FOREMAN_LOG_FORMAT": "json",
            **{f"FOREMAN_{name.upper()}": value for name, value in settings.items()},
        }
        began = time.perf_counter()
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "foreman", "serve"], cwd=ROOT, env=environ, stderr=stderr, text=True
            )
        try:
            url = _address(log, process)
            yield Daemon(url, process, time.perf_counter() - began)
        finally:
            process.terminate()
            process.wait()


def _address(log: Path, process: subprocess.Popen[str]) -> str:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if '"daemon.started"' in line:
                return "http://" + line.split('"address": "')[-1].split('"')[0].split('"address":"')[-1]
        time.sleep(0.005)
    raise RuntimeError(f"foreman did not start:\n{log.read_text()}")


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client without limits of its own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        yield client


async def post(client: aiohttp.ClientSession, url: str, body: Any, *, expect: int = 200) -> bytes:
    """One request; its answer's body."""
    async with client.post(url, json=body) as response:
        answer = await response.read()
        if response.status != expect:
            raise RuntimeError(f"{url}: {response.status} {answer[:200]!r}")
        return answer


async def latencies(call: Callable[[], Awaitable[object]], times: int, warm: int = 50) -> list[float]:
    """Seconds that each of `times` calls took, one after another, sorted."""
    for _ in range(warm):
        await call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return sorted(taken)


async def throughput(call: Callable[[], Awaitable[object]], connections: int, times: int) -> float:
    """Calls per second at so many connections."""
    left = iter(range(times))

    async def one() -> None:
        for _ in left:
            await call()

    for _ in range(connections):
        await call()
    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return times / (time.perf_counter() - began)


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)
