"""What a person sees who starts foreman at a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
from pathlib import Path

from tests.fakes.ollama import FakeOllama
from tests.kit import Process


async def shown(tmp_path: Path, url: str, until: str, **settings: str) -> str:
    """What `foreman serve` writes to a terminal up to these words; it is stopped then."""
    ours, theirs = pty.openpty()
    environ = Process(tmp_path, url, log_format="text", **settings).environ | {"COLUMNS": "200", "TERM": "dumb"}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foreman", "serve"), env=environ, stderr=theirs, stdin=asyncio.subprocess.DEVNULL
    )
    os.close(theirs)
    seen, come = "", asyncio.Event()
    loop = asyncio.get_running_loop()

    def read() -> None:
        nonlocal seen
        seen += os.read(ours, 65_536).decode()
        if until in seen:
            come.set()

    loop.add_reader(ours, read)
    async with asyncio.timeout(20):
        await come.wait()
    loop.remove_reader(ours)
    child.send_signal(signal.SIGINT)
    assert await child.wait() == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", seen)


async def test_a_start_says_what_it_found_and_where_the_dashboard_is(tmp_path):
    async with FakeOllama(["llama3.2", "qwen3:8b"]) as fake:
        words = await shown(tmp_path, fake.url, until="/dashboard")
    assert re.search(rf"target +{re.escape(fake.url)}, Ollama \d", words)
    assert re.search(r"models +2 \(llama3\.2:latest, qwen3:8b\); in memory: none", words)
    assert re.search(r"queue +empty", words)
    assert re.search(r"dashboard +http://127\.0\.0\.1:\d+/dashboard", words)


async def test_a_start_without_its_target_says_so_and_serves(tmp_path):
    words = await shown(tmp_path, "http://127.0.0.1:9", until="/dashboard")
    assert re.search(r"target +http://127\.0\.0\.1:9, away .*jobs wait for it", words, re.DOTALL)


async def test_a_start_that_anybody_may_use_says_so(tmp_path):
    words = await shown(tmp_path, "http://127.0.0.1:9", until="/dashboard", addr="0.0.0.0:0")
    assert re.search(r"open to +anybody who reaches the port; set FOREMAN_TOKEN", words)
