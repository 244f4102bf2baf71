"""A rebuilt database is one to go on with, and a rebuild that is broken off is none."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from benchmarks.replay import stored
from foreman.commands.rebuild import rebuild
from foreman.fsm.job import State
from tests.e2e.audit import Book
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, Process
from tests.rebuilding import everything, rebuilt


async def submitted(url: str, *texts: str) -> list[str]:
    bodies = [{"model": "a", "messages": [{"role": "user", "content": text}]} for text in texts]
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        return [job["job_id"] for job in (await client.post("/jobs", json=bodies)).json()["jobs"]]


async def test_foreman_on_a_rebuilt_database_goes_on_with_the_queue(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    async with FakeOllama(["a"]) as fake:
        killed = Process(tmp_path, fake.url)
        with fake.hold("a") as gate:
            first = await submitted(await killed.start(), "one", "two", "three")
            await gate.reached()
            await killed.kill()
        made = rebuilt(tmp_path / "foreman.db", new / "foreman.db")
        assert (made.jobs, made.contents, made.missing) == (3, 3, 0)
        process = Process(new, fake.url)
        later = await submitted(await process.start(), "four")
        async with httpx.AsyncClient(base_url=process.url, timeout=PATIENCE_S, trust_env=False) as client:
            for job_id in first + later:
                job = (await client.get(f"/jobs/{job_id}", params={"wait": "10s"})).json()
                assert job["state"] == "done"
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    book = Book(new / "foreman.db")
    assert book.faults() == []
    assert [job.state for job in book.jobs.values()] == [State.DONE] * 4
    before = everything(tmp_path / "foreman.db")["events"]
    assert everything(new / "foreman.db")["events"][: len(before)] == before


async def test_interrupted_rebuild_ends_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    rebuild(tmp_path / "foreman.db", stored(40_000))
    command = [
        sys.executable,
        "-m",
        "foreman",
        "replay",
        "--db",
        tmp_path / "foreman.db",
        "--into",
        tmp_path / "new.db",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        async with asyncio.timeout(PATIENCE_S):
            while not (tmp_path / "new.db.partial").exists():
                await asyncio.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to all processes of a terminal
        _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not list(tmp_path.glob("new.db*"))
