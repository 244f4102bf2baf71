"""The real program: how it starts, refuses to start, stops, and dies."""

from __future__ import annotations

import asyncio
import resource
import signal
import sqlite3
import sys
from pathlib import Path

import httpx

from foreman.events.codec import chain_hash
from tests.e2e.audit import Book
from tests.fakes.ollama import FakeOllama
from tests.kit import Process

TEXT = "one two three"
DATABASE = "foreman.db"


def job(text: str = TEXT) -> dict[str, object]:
    return {"model": "a", "messages": [{"role": "user", "content": text}]}


async def submit(url: str, text: str = TEXT) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        return await client.post("/jobs", json=job(text))


async def ending(url: str, job_id: str) -> dict[str, object]:
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        return (await client.get(f"/jobs/{job_id}", params={"wait": "20s"})).json()


async def refused(tmp_path: Path, **settings: str) -> tuple[int, str]:
    """Exit status and words of a foreman that does not start."""
    process = Process(tmp_path, "http://127.0.0.1:9", **settings)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foreman", "serve"), env=process.environ, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        _, words = await child.communicate()
    return child.returncode, words.decode()


async def test_running_job_is_finished_before_a_graceful_end(tmp_path):
    async with FakeOllama(["a"]) as fake:
        process = Process(tmp_path, fake.url)
        with fake.hold("a") as gate:
            job_id = (await submit(await process.start())).json()["job_id"]
            await gate.reached()
            process.signal(signal.SIGTERM)
            await asyncio.sleep(0.1)
        assert await process.ended() == 0
    book = Book(tmp_path / DATABASE)
    assert (book.jobs[job_id].state, book.events[-1].event.type) == ("done", "daemon.stopped")
    assert [line["event"] for line in process.lines][-1] == "daemon.stopped"


async def test_job_that_outlasts_the_drain_is_done_by_the_next_process(tmp_path):
    async with FakeOllama(["a"]) as fake:
        process = Process(tmp_path, fake.url, drain_timeout="50ms")
        with fake.hold("a") as gate:
            job_id = (await submit(await process.start())).json()["job_id"]
            await gate.reached()
            process.signal(signal.SIGINT)
            assert await process.ended() == 0
        assert Book(tmp_path / DATABASE).jobs[job_id].state == "queued"
        try:
            found = await ending(await process.start(), job_id)
        finally:
            await process.kill()
        assert (found["state"], found["attempt"]) == ("done", 1)
    assert Book(tmp_path / DATABASE).faults() == []


async def test_second_signal_ends_it_at_once(tmp_path):
    async with FakeOllama(["a"]) as fake:
        process = Process(tmp_path, fake.url, drain_timeout="1h")
        with fake.hold("a") as gate:
            job_id = (await submit(await process.start())).json()["job_id"]
            await gate.reached()
            process.signal(signal.SIGTERM)
            while "daemon.stopping" not in [line["event"] for line in process.lines]:
                await asyncio.sleep(0.01)
            process.signal(signal.SIGTERM)
            assert await process.ended() == 130
        book = Book(tmp_path / DATABASE)
        assert (book.faults(), book.jobs[job_id].state) == ([], "working")


async def test_signal_during_the_start_ends_it_in_good_order(tmp_path):
    async with FakeOllama(["a"]) as fake:
        process = Process(tmp_path, fake.url)
        starting = asyncio.create_task(process.start())
        while not (tmp_path / DATABASE).exists():
            await asyncio.sleep(0.001)
        process.signal(signal.SIGTERM)
        await asyncio.gather(starting, return_exceptions=True)
        assert await process.ended() == 0
    assert Book(tmp_path / DATABASE).events[-1].event.type == "daemon.stopped"


async def test_second_daemon_on_one_database_names_the_first(tmp_path):
    async with FakeOllama(["a"]) as fake:
        process = Process(tmp_path, fake.url)
        url = await process.start()
        try:
            status, words = await refused(tmp_path)
            assert (status, f"in use by another foreman (process {process._process.pid})" in words) == (1, True)
            assert (await submit(url)).status_code == 202
        finally:
            await process.kill()


async def test_all_wrong_settings_are_named_at_once(tmp_path):
    status, words = await refused(tmp_path, addr="nowhere", job_ttl="soon", max_attempts="0")
    assert status == 1
    assert all(name in words for name in ("FOREMAN_ADDR", "FOREMAN_JOB_TTL", "FOREMAN_MAX_ATTEMPTS"))
    assert "Traceback" not in words


async def test_port_in_use_is_said_in_one_line(tmp_path):
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        status, words = await refused(tmp_path, addr=f"127.0.0.1:{port}")
    assert words.startswith(f"foreman: cannot listen on 127.0.0.1:{port}: Address already in use; another program")
    assert (status, words.count("\n")) == (1, 1)


async def test_target_that_is_foreman_itself_is_refused(tmp_path):
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    status, words = await refused(tmp_path, addr=f"127.0.0.1:{port}", ollama_url=f"http://localhost:{port}")
    assert (status, "is foreman's own address" in words) == (1, True)


async def test_folder_in_place_of_the_database_is_named(tmp_path):
    (tmp_path / DATABASE).mkdir()
    status, words = await refused(tmp_path)
    assert (status, "it is a folder" in words, "Traceback" in words) == (1, True, False)
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


async def test_no_prompt_reaches_the_log_even_at_debug(tmp_path):
    async with FakeOllama(["a"]) as fake:
        process = Process(tmp_path, fake.url, log_level="debug")
        url = await process.start()
        job_id = (await submit(url, "swordfish")).json()["job_id"]
        assert (await ending(url, job_id))["state"] == "done"
        process.signal(signal.SIGTERM)
        await process.ended()
    said = [line["event"] for line in process.lines if line.get("job_id") == job_id]
    assert said == ["job.queued", "job.loading", "job.working", "job.done"]
    assert "swordfish" not in str(process.lines)


async def test_file_that_is_no_database_is_said_to_be_none(tmp_path):
    (tmp_path / DATABASE).write_bytes(b"this is no database, whatever its name" * 100)
    status, words = await refused(tmp_path)
    assert (status, "file is not a database" in words, "Traceback" in words) == (1, True, False)
    assert (tmp_path / DATABASE).read_bytes().startswith(b"this is no database")


async def test_path_that_cannot_be_opened_is_said(tmp_path):
    (tmp_path / DATABASE).mkdir()
    status, words = await refused(tmp_path)
    assert (status, f"cannot open {tmp_path / DATABASE}" in words) == (1, True)


async def test_event_from_a_newer_foreman_stops_the_start(tmp_path):
    async with FakeOllama(["a"]) as fake:
        process = Process(tmp_path, fake.url)
        await process.start()
        process.signal(signal.SIGTERM)
        await process.ended()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        position, last = connection.execute("SELECT position, hash FROM events ORDER BY position DESC").fetchone()
        row = (position + 1, "daemon", 99, "model.adopted", 0, '{"v":1}')
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, chain_hash(last, *row)))
    connection.close()
    status, words = await refused(tmp_path)
    assert (status, "'model.adopted'" in words, "newer foreman" in words) == (1, True, True)
    assert "Traceback" not in words


async def test_disk_error_at_a_commit_ends_it_and_the_next_start_recovers(tmp_path):
    async with FakeOllama(["a"]) as fake:
        process = Process(tmp_path, fake.url)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # a child keeps it
        try:
            url = await process.start()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        promised = []
        with fake.hold("a") as gate:
            promised.append((await submit(url)).json()["job_id"])
            await gate.reached()  # from here on only submissions are written
            while (response := await submit(url, "x" * 100_000)).status_code == 202:
                promised.append(response.json()["job_id"])
        assert (response.status_code, response.json()["code"]) == (500, "commit_unknown")
        assert await process.ended() == 1
        assert "the ledger stopped working" in process.lines[-2]["error"]
        assert len(promised) > 1
        url = await process.start()
        try:
            assert {(await ending(url, job_id))["state"] for job_id in promised} == {"done"}
        finally:
            await process.kill()
    assert Book(tmp_path / DATABASE).faults() == []
