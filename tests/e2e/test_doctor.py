"""`foreman doctor` as a person or a script runs it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from foreman.clock import SystemClock
from tests.fakes.ollama import FakeOllama
from tests.kit import Process, running

NOWHERE = "http://127.0.0.1:9"


class Examined(NamedTuple):
    """How it ended, and its findings in order."""

    status: int
    checks: list[dict[str, Any]]


async def examined(tmp_path: Path, target: str, url: str = NOWHERE, **settings: str) -> Examined:
    """What it says as JSON."""
    environ = Process(tmp_path, target, **settings).environ | {"FOREMAN_URL": url}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foreman", "doctor", "--json"), env=environ, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        words, _ = await child.communicate()
    return Examined(child.returncode or 0, json.loads(words)["checks"])


async def doctor(tmp_path: Path, target: str, url: str = NOWHERE, **settings: str) -> tuple[int, dict[str, Any]]:
    """Its exit status, and each of its findings as `(verdict, what it says and advises)` by subject."""
    status, found = await examined(tmp_path, target, url, **settings)
    return status, {item["subject"]: (item["verdict"], item["said"] + item["next_step"]) for item in found}


async def test_a_sound_machine_passes_and_the_target_gave_a_token(tmp_path):
    async with FakeOllama(["a"]) as fake:
        status, found = await doctor(tmp_path, fake.url)
        assert [call.path for call in fake.calls].count("/api/generate") == 1
    assert status == 0
    assert {verdict for verdict, _ in found.values()} == {"ok", "note"}
    assert found["answer"][1].startswith("a:latest gave one")
    assert list(tmp_path.iterdir()) == [], "it changes nothing"


async def test_beside_a_daemon_the_token_is_asked_in_turn(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, token="a-long-enough-token-1") as foreman:
        status, found = await doctor(tmp_path, fake.url, foreman.url, token="a-long-enough-token-1")
        assert (status, found["daemon"][0], found["database"][0]) == (0, "ok", "ok")
        assert "in turn" in found["answer"][1]
        assert "job.done" in [event.event.type for event in await foreman.events()]


@pytest.mark.parametrize("given", [{}, {"token": "not-the-one-it-wants"}])
async def test_a_token_that_the_daemon_does_not_take_is_said_first_and_of_its_strength_nothing(tmp_path, given):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, token="sesame") as foreman:
        status, found = await doctor(tmp_path, fake.url, foreman.url, **given)
        assert (status, found["daemon"][0], found["token"][0], found["target"][0]) == (1, "ok", "failed", "note")
        assert "export FOREMAN_TOKEN=" in found["token"][1]
        assert "guess" not in found["token"][1]
        assert fake.calls_of() == [], "nothing is asked past the daemon"


async def test_a_tokens_strength_is_judged_only_if_it_is_the_daemons(tmp_path):
    async with FakeOllama(["a"]) as fake:
        async with running(tmp_path, fake.url, token="sesame") as foreman:
            status, found = await doctor(tmp_path, fake.url, foreman.url, token="sesame")
            assert (status, found["token"][0]) == (0, "warning")
            assert "easy to guess" in found["token"][1]
        async with running(tmp_path, fake.url) as foreman:
            _, found = await doctor(tmp_path, fake.url, foreman.url, token="sesame")
            assert found["token"][1].startswith("the daemon asks for none, though this shell has one")


async def test_the_target_that_counts_is_the_daemons_and_another_of_this_shell_is_named(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        ended = await examined(tmp_path, NOWHERE, foreman.url)
        said = [(item["verdict"], item["said"]) for item in ended.checks if item["subject"] == "target"]
        assert ended.status == 0
        assert said[0] == ("note", f"the daemon's is {fake.url}, and FOREMAN_OLLAMA_URL here is {NOWHERE}")
        assert said[1][0] == "ok"
        assert said[1][1].startswith(f"{fake.url}, Ollama ")


async def test_a_daemon_whose_target_is_away_fails_though_this_shells_answers(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, NOWHERE) as foreman:
        await foreman.until(lambda: foreman.foreman.inventory.health.up is False)
        status, found = await doctor(tmp_path, fake.url, foreman.url)
        assert (status, found["daemon"][0], found["target"][0]) == (1, "warning", "failed")
        assert fake.calls_of() == []


async def test_a_full_disk_is_told_in_a_sentence_with_its_next_step(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        database = foreman.foreman.database
        with fake.hold(at="load") as load:
            await foreman.submit("a")
            await load.reached()
            ((pages,),) = await database.read_as_writer("PRAGMA page_count")
            await database.read_as_writer(f"PRAGMA max_page_count = {pages}")
            while (await foreman.client.post("/jobs", json={"model": "a", "prompt": "Hi"})).is_success:
                pass
            status, found = await doctor(tmp_path, fake.url, foreman.url)
            await database.read_as_writer("PRAGMA max_page_count = 1000000")
        assert (status, found["answer"][0]) == (1, "failed")
        assert "free some space" in found["answer"][1]
        assert "{" not in found["answer"][1]


async def test_an_archive_that_is_missing_or_cut_fails(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit("a"))
    path = tmp_path / "gone.jsonl.gz"
    changed = sqlite3.connect(tmp_path / "foreman.db")
    changed.execute("INSERT INTO archives VALUES (1, 1, x'00', x'00', ?, '', 7)", (path.name,))
    changed.commit()
    changed.close()
    assert "events 1 to 1: No such file" in (await doctor(tmp_path, NOWHERE))[1]["archive"][1]
    path.write_bytes(b"short")
    assert "has 5 bytes" in (await doctor(tmp_path, NOWHERE))[1]["archive"][1]
    path.write_bytes(b"as long")
    assert "archive" not in (await doctor(tmp_path, NOWHERE))[1]


async def test_each_fault_is_named_with_its_next_step(tmp_path):
    status, found = await doctor(tmp_path, NOWHERE, token="abc", addr="0.0.0.0:0", paralel="2")
    assert status == 1
    assert found["target"][0] == "failed"
    assert "ollama serve" in found["target"][1]
    assert found["token"][0] == "warning"
    assert "FOREMAN_PARALLEL" in found["settings"][1]


async def test_an_embedding_model_that_was_evicted_is_told_with_its_cure(tmp_path):
    async with FakeOllama(["a", "nomic-embed-text"]) as fake:
        status, found = await doctor(tmp_path, fake.url, embed_model="nomic-embed-text")
    assert status == 0
    assert found["memory"][0] == "warning"
    assert "OLLAMA_MAX_LOADED_MODELS=2" in found["memory"][1]


async def test_wrong_settings_and_a_missing_folder_fail(tmp_path):
    assert (await doctor(tmp_path, NOWHERE, parallel="none"))[1]["settings"][0] == "failed"
    _, found = await doctor(tmp_path, NOWHERE, db_path=str(tmp_path / "no" / "foreman.db"))
    assert found["disk"] == ("failed", f"there is no folder {tmp_path / 'no'}mkdir -p {tmp_path / 'no'}")


async def test_a_damaged_database_and_a_clock_behind_the_log_fail(tmp_path):
    async with FakeOllama(["a"]) as fake:
        async with running(tmp_path, fake.url) as foreman:
            await foreman.until_finished(await foreman.submit("a"))
        path = tmp_path / "foreman.db"
        changed = sqlite3.connect(path)
        changed.execute("DROP TRIGGER events_are_never_changed")
        changed.execute("UPDATE events SET at = ?", (SystemClock().now() + 3_600_000_000,))
        changed.commit()
        changed.close()
        _, found = await doctor(tmp_path, fake.url)
        assert found["clock"][0] == "failed"
        path.write_bytes(path.read_bytes()[:8192])
        status, found = await doctor(tmp_path, fake.url)
        assert (status, found["database"][0]) == (1, "failed")
