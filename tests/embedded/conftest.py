"""One embedded server for all tests here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import ollama
import pytest

from tests.embedded.process_tree import ROOT, Watch, children_of


@dataclass
class Embedded:
    """A running server."""

    url: str
    pid: int

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def loaded(self) -> list[str]:
        with self.http() as http:
            return [model["name"] for model in http.get("/api/ps").json()["models"]]


@pytest.fixture(scope="session")
def model_cache(request) -> Path:
    """Kept between runs, so that the model is downloaded once."""
    return request.config.cache.mkdir("embedded-model")


@pytest.fixture(scope="session")
def server(model_cache) -> Iterator[Embedded]:
    command = [
        sys.executable,
        "-m",
        "foreman.embedded",
        "--until-stdin-closes",
        "--embeddings",
        "--cache",
        str(model_cache),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Embedded(json.loads(process.stdout.readline())["url"], process.pid)
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
def embedded(server) -> Embedded:
    """The server with nothing loaded."""
    with server.http() as http:
        for name in server.loaded():
            runners = Watch(children_of(server.pid))
            http.post("/api/generate", json={"model": name, "keep_alive": 0})
            assert runners.all_ended()
    return server


@pytest.fixture
def client(embedded) -> Iterator[ollama.Client]:
    """Ollama's own client."""
    with ollama.Client(embedded.url) as client:
        yield client
