"""`foreman audit` beside a daemon that works, and `GET /audit/head`, which makes anybody a witness."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from foreman.audit import Witness, audit
from tests.fakes.ollama import FakeOllama
from tests.kit import running


async def foreman_audit(path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "foreman", "audit", "--db", str(path), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_head_is_the_last_event_of_the_log(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit("a"))
        head = (await foreman.client.get("/audit/head")).json()
        last = (await foreman.events())[-1]
        assert head == {"position": last.position, "hash": last.hash.hex()}
        for event in await foreman.events():
            answer = await foreman.client.get("/audit/head", params={"position": event.position})
            assert answer.json() == {"position": event.position, "hash": event.hash.hex()}
        nothing = await foreman.client.get("/audit/head", params={"position": 0})
        assert nothing.json() == {"position": 0, "hash": "00" * 32}


@pytest.mark.parametrize(("query", "status"), [("position=999", 404), ("position=-1", 400), ("nonsense=1", 400)])
async def test_head_of_nothing_is_refused(tmp_path, query, status):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        answer = await foreman.client.get(f"/audit/head?{query}")
        assert answer.status_code == status
        assert answer.json()["code"] in {"not_found", "invalid_request"}


async def test_head_needs_the_token(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url, token="t0ken" * 8) as foreman:
        assert (await foreman.client.get("/audit/head")).status_code == 401


async def test_audit_beside_a_busy_daemon_is_clean_and_holds_up_nobody(tmp_path):
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url, max_queue="5000") as foreman:
        over = asyncio.Event()

        async def load() -> None:
            while not over.is_set():
                await foreman.client.post("/jobs", json=[{"model": "ab"[n % 2], "prompt": "x"} for n in range(20)])

        loading = asyncio.create_task(load())
        for worth_a_process in (0, 1_000_000, 0):
            head = (await foreman.client.get("/audit/head")).json()
            before = foreman.foreman.ledger.feed.position
            seen = [Witness(head["position"], bytes.fromhex(head["hash"]))]
            path = tmp_path / "foreman.db"
            report = await asyncio.to_thread(audit, path, seen, None, worth_a_process)
            assert report.findings.kept == []
            assert report.position >= head["position"]
            await foreman.until(lambda before=before: foreman.foreman.ledger.feed.position > before)
        over.set()
        await loading


async def test_command_says_that_nothing_is_wrong(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit("a"))
        head = (await foreman.client.get("/audit/head")).json()
        witness = f"{head['position']}:{head['hash']}"
        path = tmp_path / "foreman.db"
        (tmp_path / "kept").write_text(f"# kept by cron\n{witness}\n")
        status, out, err = await foreman_audit(path, "--json", "--witnesses", str(tmp_path / "kept"))
        found = json.loads(out)
        assert (status, err, found["clean"], found["findings"]) == (0, "", True, [])
        assert (found["jobs"], found["artifacts"]) == (1, 3)
        status, out, err = await foreman_audit(path, "--witness", witness)
        assert (status, err) == (0, "")
        assert f"head        {found['position']}:" in out
        assert "nothing is wrong" in out


async def test_command_says_what_is_wrong_and_what_to_do(tmp_path):
    async with FakeOllama(models=["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit("a"))
    status, out, _ = await foreman_audit(tmp_path / "foreman.db", "--witness", f"1:{'ab' * 32}")
    assert status == 1
    assert "witness_differs at position 1 a witness saw the hash abab" in out
    assert "table events, event 1, since 20" in out
    status, out, _ = await foreman_audit(tmp_path / "foreman.db", "--json", "--witness", f"999:{'ab' * 32}")
    assert (status, json.loads(out)["counts"]) == (1, {"tail_cut": 1})


@pytest.mark.parametrize(
    "arguments",
    [("--witness", "nonsense"), ("--witnesses", "missing"), ("--nonsense",), ()],
    ids=["witness", "witnesses", "option", "file"],
)
async def test_command_that_cannot_be_carried_out_ends_with_two(tmp_path, arguments):
    status, out, err = await foreman_audit(tmp_path / "missing.db", *arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert err


async def test_unreadable_file_is_said_as_json_too(tmp_path):
    status, _, err = await foreman_audit(tmp_path / "missing.db", "--json")
    assert (status, json.loads(err)["code"]) == (2, "database_unusable")
