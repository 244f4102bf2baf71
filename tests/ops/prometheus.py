"""Debian's Prometheus as a process of its own, with foreman's shipped configuration; and promtool.

Owns the process and its HTTP API. Must not know what foreman exports.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

OPS = Path(__file__).resolve().parents[2] / "ops"
#: Of the files as they are shipped, what a test puts another value in place of.
ADDRESS, INTERVAL = "127.0.0.1:8080", "15s"
#: Between two scrapes, and two evaluations of the rules.
SCRAPE_S = 1
#: Long enough for a slow machine; a test that gets here has failed.
PATIENCE_S = 20.0
ASK_AGAIN_S = 0.05


def promtool(*arguments: str | Path, stdin: str | None = None) -> tuple[int, str]:
    """The status and all that it prints."""
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout


def put_configuration(folder: Path, address: str) -> Path:
    """The shipped configuration and alerts beside each other, as the document has them copied; where the first is."""
    shutil.copy(OPS / "alerts.yml", folder)
    text = (OPS / "prometheus.yml").read_text("utf-8")
    for shipped, value in ((ADDRESS, address), (INTERVAL, f"{SCRAPE_S}s")):
        assert shipped in text
        text = text.replace(shipped, value)
    path = folder / "prometheus.yml"
    path.write_text(text, "utf-8")
    return path


class Prometheus:
    """One that runs, and what it answers."""

    def __init__(self, process: asyncio.subprocess.Process, client: httpx.AsyncClient) -> None:
        self._client = client
        self._ended = asyncio.create_task(process.wait())

    async def get(self, path: str, **parameters: Any) -> Any:
        """The data of one endpoint of its API."""
        answer = await self._client.get(f"/api/v1/{path}", params=parameters)
        body = answer.json()
        assert body["status"] == "success", body
        return body["data"]

    async def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The series of an expression as of now or then, each with its `value`."""
        moment = {} if at is None else {"time": at}
        return (await self.get("query", query=expression, **moment))["result"]

    async def query_range(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """The series of an expression over a time, each with its `values`, one for each scrape."""
        data = await self.get("query_range", query=expression, start=start, end=end, step=SCRAPE_S)
        return data["result"]

    async def until(self, expression: str) -> None:
        """Wait until the expression has a series: what it says is then in its database."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await self.query(expression):
                    # Nothing tells of a scrape; but whoever asks in vain should know soon that nobody is there.
                    ended, _ = await asyncio.wait({self._ended}, timeout=ASK_AGAIN_S)
                    assert not ended, f"Prometheus ended with {self._ended.result()}"
        except TimeoutError:
            raise TimeoutError(f"never true: {expression}") from None


@asynccontextmanager
async def scraping(folder: Path, address: str) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes the foreman at `address`, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        "prometheus", f"--config.file={put_configuration(folder, address)}", "--web.listen-address=127.0.0.1:0",
        f"--storage.tsdb.path={folder / 'prometheus'}", "--log.level=info",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            url = await _listening(process)
        reading = asyncio.create_task(_drain(process))
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            assert (await client.get("/-/ready")).status_code == 200
            yield Prometheus(process, client)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


async def _listening(process: asyncio.subprocess.Process) -> str:
    """Where it listens, once it says that it is ready."""
    assert process.stderr is not None
    said, url = "", ""
    async for raw in process.stderr:
        line = raw.decode()
        said += line
        if found := re.search(r'msg="Listening on" address=(\S+)', line):
            url = f"http://{found[1]}"
        if url and "Server is ready to receive web requests" in line:
            return url
    raise AssertionError(f"Prometheus did not start: {said}")


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Read on, or it would stand still when the pipe is full."""
    assert process.stderr is not None
    async for _ in process.stderr:
        pass
