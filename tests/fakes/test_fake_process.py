"""The fake as a process of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).parents[2]


async def test_fake_in_another_process_is_steered_through_control() -> None:
    command = [sys.executable, "-m", "tests.fakes.ollama", "--models", "a,b", "--tokens", "2"]
    process = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient(base_url=url) as client:
            await client.post("/_control", json={"inject": {"kind": "status", "status": 503}, "set": {"tokens": 4}})
            statuses = [
                (await client.post("/api/generate", json={"model": "a", "prompt": "one"})).status_code for _ in range(2)
            ]
            record = (await client.get("/_control")).json()
            assert statuses == [503, 200]
            assert [call["lines"] for call in record["calls"]] == [0, 5]
            assert record["loaded_models"] == ["a"]
            assert (await client.post("/_control", json={"nonsense": 1})).status_code == 400
    finally:
        process.terminate()
        assert await process.wait() == 0
