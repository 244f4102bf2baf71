"""A foreman to test against: in this process (`running`), or as the real program (`Process`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from sanic import Sanic

from foreman.app import Foreman
from foreman.clock import Clock
from foreman.config.settings import Settings
from foreman.events import log
from foreman.events.types import Position, Recorded
from foreman.fsm.job import State
from foreman.projections.job import Job

# Sanic rewrites its own classes when an application starts, and can do so twice only in this mode.
Sanic.test_mode = True

#: Long enough for a slow machine; a test that gets here has failed.
PATIENCE_S = 20.0


def settings(path: Path, url: str, **overrides: str) -> Settings:
    """Settings for a foreman on a free loopback port, with its database in `path`; overrides as `max_queue="5"`."""
    environ = {
        "FOREMAN_ADDR": "127.0.0.1:0",
        "FOREMAN_DB_PATH": str(path / "foreman.db"),
        "FOREMAN_OLLAMA_URL": url,
        "FOREMAN_DRAIN_TIMEOUT": "100ms",
    }
    environ |= {f"FOREMAN_{name.upper()}": value for name, value in overrides.items()}
    return Settings.load(environ)


def unmeasured() -> dict[str, str]:
    """This process's environment, without what has coverage measured in a child: for what that itself would change."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


class Running:
    """A foreman in this process: its parts, and a client to its HTTP API."""

    def __init__(self, foreman: Foreman, client: httpx.AsyncClient) -> None:
        self.foreman = foreman
        self.client = client
        self.url = str(client.base_url).rstrip("/")

    async def submit(self, model: str = "a", text: str = "hello", **members: Any) -> str:
        """Queue a chat job through `POST /jobs`; its id."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **members}
        response = await self.client.post("/jobs", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["job_id"])

    async def chat(self, model: str = "a", text: str = "hello", **members: Any) -> httpx.Response:
        """A blocking chat without a stream."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": False, **members}
        return await self.client.post("/api/chat", json=body)

    async def job(self, job_id: str) -> Job:
        """The job as it is now."""
        found = await self.foreman.ledger.job(job_id)
        assert found is not None
        return found

    async def until(self, condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        """Wait until a condition on the foreman's state holds, looking at each new event."""
        with self.foreman.ledger.feed.watch() as changed:
            async with asyncio.timeout(within_s):
                while not condition():
                    changed.clear()
                    await changed.wait()

    async def until_state(self, job_id: str, *states: State) -> Job:
        """Wait until the job is in one of the states."""
        with self.foreman.ledger.feed.watch(job_id) as changed:
            async with asyncio.timeout(PATIENCE_S):
                while (job := await self.job(job_id)).state not in states:
                    changed.clear()
                    await changed.wait()
        return job

    async def until_finished(self, *job_ids: str) -> list[Job]:
        """Wait until all of the jobs have their final states."""
        final = (State.DONE, State.FAILED, State.CANCELLED)
        return [await self.until_state(job_id, *final) for job_id in job_ids]

    async def events(self, stream: str | None = None) -> list[Recorded]:
        """The log so far, or one stream of it."""
        recorded = await log.after(self.foreman.database.read, Position(0), 1_000_000)
        return [item for item in recorded if stream is None or item.stream == stream]

    async def types(self, stream: str) -> list[str]:
        """The types of one stream's events."""
        return [item.event.type for item in await self.events(stream)]


@asynccontextmanager
async def running(path: Path, url: str, *, clock: Clock | None = None, **overrides: str) -> AsyncIterator[Running]:
    """A foreman in front of the target at `url`, stopped at the end of the block."""
    foreman = Foreman(settings(path, url, **overrides), clock=clock)
    try:
        await foreman.start()
        host, port = foreman.http.addresses[0]
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=PATIENCE_S, trust_env=False) as client:
            yield Running(foreman, client)
    finally:
        await foreman.stop()


class Process:
    """The real program: `foreman serve` in a process of its own, for tests that kill it."""

    def __init__(self, path: Path, url: str, **overrides: str) -> None:
        self.path = path
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FOREMAN_")},
            "FOREMAN_ADDR": "127.0.0.1:0",
            "FOREMAN_DB_PATH": str(path / "foreman.db"),
            "FOREMAN_OLLAMA_URL": url,
            "FOREMAN_LOG_FORMAT": "json",
            **{f"FOREMAN_{name.upper()}": value for name, value in overrides.items()},
        }
        self.url = ""
        self.lines: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, arguments: tuple[str, ...] = (), extra: Mapping[str, str] | None = None) -> str:
        """Start it and wait until it serves; its base URL."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "foreman", "serve", *arguments,
            env={**self.environ, **(extra or {})}, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(started))
        async with asyncio.timeout(PATIENCE_S):
            self.url = f"http://{await started}"
        return self.url

    async def _read(self, started: asyncio.Future[str]) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            with contextlib.suppress(json.JSONDecodeError):
                line = json.loads(raw)
                self.lines.append(line)
                if line.get("event") == "daemon.started" and not started.done():
                    started.set_result(line["address"])
        if not started.done():
            started.set_exception(AssertionError(f"foreman did not start: {self.lines}"))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; its exit status."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE_S):
            status = await self._process.wait()
            if self._reader is not None:
                await self._reader
        return status

    async def kill(self) -> None:
        """End it as a power cut would, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self.ended()
