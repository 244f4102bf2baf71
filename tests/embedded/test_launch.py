"""The life of the server's process: it starts when it can, says why when it cannot, and never outlives its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import httpx
import pytest

from foreman.embedded import launch
from foreman.embedded.__main__ import check_runtime
from foreman.errors import ConfigError
from tests.embedded.process_tree import ROOT, Watch, children_of

LOAD = {"model": "smollm2:135m"}
PARENT = """
import asyncio, pathlib, sys
from foreman.embedded import launch
async def main():
    async with launch(cache=pathlib.Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_launch_gives_an_address_and_ends_every_process(model_cache):
    async def run() -> Watch:
        others = children_of(os.getpid())
        async with launch(cache=model_cache) as url, httpx.AsyncClient() as http:
            assert (await http.post(f"{url}/api/generate", json=LOAD)).json()["done_reason"] == "load"
            (server,) = [pid for pid in children_of(os.getpid()) if pid not in others and children_of(pid)]
            return Watch([server, *children_of(server)])

    assert asyncio.run(run()).all_ended(0)


def test_nothing_survives_a_parent_killed_outright(model_cache):
    with subprocess.Popen([sys.executable, "-c", PARENT, str(model_cache)], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        url = parent.stdout.readline().decode().strip()
        httpx.post(f"{url}/api/generate", json=LOAD, timeout=30)
        (server,) = children_of(parent.pid)
        runners = children_of(server)
        tree = Watch([server, *runners])
        parent.kill()
    assert len(runners) == 1
    assert tree.all_ended()


def test_sigterm_during_an_answer_ends_all_quietly(model_cache):
    command = [sys.executable, "-m", "foreman.embedded", "--cache", str(model_cache)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        url = json.loads(process.stdout.readline())["url"]
        body = LOAD | {"prompt": "Tell me a story.", "options": {"num_predict": 500}}
        with httpx.stream("POST", f"{url}/api/generate", json=body, timeout=30) as answer:
            next(answer.iter_lines())
            runners = Watch(children_of(process.pid))
            process.send_signal(signal.SIGTERM)
            assert process.wait(3) == 0
        assert process.stderr.read() == b""
    assert runners.all_ended()


def test_file_that_is_no_model_is_named_in_the_error(tmp_path):
    async def run() -> None:
        async with launch(gguf=tmp_path / "x.gguf"):
            pass

    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(ConfigError, match=r"x\.gguf is not a GGUF file"):
        asyncio.run(run())


def test_missing_runtime_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ConfigError, match=r"pip install 'foreman-ollama\[embedded\]'"):
        check_runtime()
