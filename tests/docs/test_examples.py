"""The examples are programs: a strict type checker finds no fault in them, and they do what they say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from foreman.client import Client
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, running, unmeasured

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
TYPED = ROOT / "tests" / "typing" / "client_api.py"


def test_examples_and_every_call_of_the_client_are_typed():
    paths = [str(path) for path in [*sorted(EXAMPLES.glob("*.py")), TYPED]]
    # In a process of its own: mypy changes how deep Python may go, which other tests are about.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), *paths]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=unmeasured(), cwd=ROOT)
    printed, faults, status = ended.stdout, ended.stderr, ended.returncode
    assert (status, faults) == (0, ""), printed


def test_no_method_is_left_out_of_what_is_checked():
    blocking, _, awaited = TYPED.read_text("utf-8").partition("async def awaited")
    methods = {name for name in vars(Client) if not name.startswith("_")}
    for part in (blocking, awaited):
        assert methods - set(re.findall(r"\bclient\.(\w+)\(", part)) == set()


async def run(path: Path, url: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(path), *arguments,
        env={**os.environ, "FOREMAN_URL": url}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_one_question_to_several_models_is_answered_by_each(tmp_path):
    async with FakeOllama(["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        status, out, err = await run(EXAMPLES / "answers.py", foreman.url, "one two", "a", "b", "nobody")
        assert (status, err) == (0, "")
        assert sorted(out.splitlines())[:2] == ["a: one two", "b: one two"]
        assert "model_not_found" in out
        assert len(fake.loads) == 2


async def test_a_batch_that_is_started_twice_is_done_once(tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\n\ntwo\nthree\n", "utf-8")
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        first = await run(EXAMPLES / "night_batch.py", foreman.url, "a", str(prompts))
        assert first == await run(EXAMPLES / "night_batch.py", foreman.url, "a", str(prompts))
        assert (first[0], [json.loads(line)["answer"] for line in first[1].splitlines()]) == (
            0,
            ["one", "two", "three"],
        )
        assert len(fake.calls_of()) == 3


async def test_an_answer_is_printed_as_it_is_made(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        status, out, _ = await run(EXAMPLES / "live.py", foreman.url, "a", "one two three")
        assert (status, out) == (0, "one two three\n")
        fake.inject("status", model="a", status=500, body='{"error":"teapot"}')
        status, _, err = await run(EXAMPLES / "live.py", foreman.url, "a", "one two three")
        assert (status, "teapot" in err) == (1, True)
