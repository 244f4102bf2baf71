"""`foreman serve` as a child of the demo: its start, its log lines, its end. Knows nothing of what the demo shows."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson

from foreman.config.unknown import PREFIX
from foreman.errors import Unavailable

#: How long the daemon may take to be ready, and to stop once it was asked.
READY_WITHIN_S: Final = 30.0
STOP_WITHIN_S: Final = 10.0


class Daemon:
    """A foreman in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.url = ""
        #: Error lines of its log, and whatever else it wrote that is no line of the log.
        self.complaints: list[str] = []
        self._ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read(), name="demo daemon's log")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def ready(self) -> None:
        """Return when it serves. Raises Unavailable with its own words if it ends instead."""
        waiting = asyncio.create_task(self._ready.wait(), name="demo daemon's start")
        await asyncio.wait({waiting, self._reading}, timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self.url:
            words = "\n".join(self.complaints).removeprefix("foreman: ")
            raise Unavailable(words or "foreman did not start")

    async def died(self) -> None:
        """Return never. Raises Unavailable when it ends unasked."""
        await asyncio.wait({self._reading})
        raise Unavailable("\n".join(["foreman ended before the demo did", *self.complaints]))

    async def stop(self) -> None:
        """Ask it to stop and wait; the second time there is nothing to do."""
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                status = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            self.complaints.append(f"foreman did not stop within {STOP_WITHIN_S:.0f} s")
        else:
            if status != 0:
                self.complaints.append(f"foreman ended with exit status {status}")
        await self._reading

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            try:
                self._hear(orjson.loads(raw))
            except orjson.JSONDecodeError:
                self.complaints.append(raw.decode(errors="replace").rstrip())
        await self._process.wait()

    def _hear(self, line: dict[str, Any]) -> None:
        if line["event"] == "daemon.started":
            self.url = f"http://{line['address']}"
            self._ready.set()
        elif line["level"] in {"error", "critical"}:
            self.complaints.append(f"foreman's log: {line['event']} {line.get('error', '')}".rstrip())


@asynccontextmanager
async def daemon(target_url: str, address: str, folder: Path) -> AsyncIterator[Daemon]:
    """A daemon in front of that target, with its database in that folder, for the length of the block."""
    # Settings of the user's own foreman, a token for one, are not meant for this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environ |= {
        "FOREMAN_ADDR": address,
        "FOREMAN_OLLAMA_URL": target_url,
        "FOREMAN_DB_PATH": str(folder / "foreman.db"),
        "FOREMAN_LOG_FORMAT": "json",
        "FOREMAN_DRAIN_TIMEOUT": "100ms",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foreman", "serve", "--until-stdin-closes"),
        env=environ,
        stdin=asyncio.subprocess.PIPE,  # its closing tells the daemon that the demo is gone, however it went
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C reaches a whole terminal group; a daemon that is asked twice does not stop in good order.
        start_new_session=True,
    )
    started = Daemon(process)
    try:
        await started.ready()
        yield started
    finally:
        await started.stop()
