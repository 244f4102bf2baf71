"""`foreman doctor` as a person or a script runs it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from foreman.clock import SystemClock
from tests.fakes.ollama import FakeOllama
from tests.kit import Process, running

NOWHERE = "http://127.0.0.1:9"


async def doctor(tmp_path: Path, target: str, url: str = NOWHERE, **settings: str) -> tuple[int, dict[str, Any]]:
    """Its exit status, and each of its findings as `(verdict, what it says and advises)` by subject."""
    environ = Process(tmp_path, target, **settings).environ | {"FOREMAN_URL": url}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foreman", "doctor", "--json"), env=environ, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        words, _ = await child.communicate()
    found = json.loads(words)["checks"]
    return child.returncode or 0, {
        item["subject"]: (item["verdict"], item["said"] + item["next_step"]) for item in found
    }


async def test_a_sound_machine_passes_and_the_target_gave_a_token(tmp_path):
    async with FakeOllama(["a"]) as fake:
        status, found = await doctor(tmp_path, fake.url)
        assert [call.path for call in fake.calls].count("/api/generate") == 1
    assert status == 0
    assert {verdict for verdict, _ in found.values()} == {"ok", "note"}
    assert found["token of it"][1].startswith("a:latest gave one")
    assert list(tmp_path.iterdir()) == [], "it changes nothing"


async def test_beside_a_daemon_the_token_is_asked_in_turn(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url, token="a-long-enough-token-1") as foreman:
        status, found = await doctor(tmp_path, fake.url, foreman.url, token="a-long-enough-token-1")
        assert (status, found["daemon"][0], found["database"][0]) == (0, "ok", "ok")
        assert "in turn" in found["token of it"][1]
        assert "job.done" in [event.event.type for event in await foreman.events()]


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
