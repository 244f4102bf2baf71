"""Fetching a pinned file with a real pip, out of tiny wheels that these tests make."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from foreman.embedded.weights import Pin, fetch
from foreman.errors import Unavailable
from tests.embedded.process_tree import ROOT

CONTENT = os.urandom(300_000)


@pytest.fixture
def pin(tmp_path, monkeypatch) -> Pin:
    """A wheel that pip finds in a folder."""
    wheel = tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return pin_of(wheel)


def pin_of(wheel: Path, **other: str) -> Pin:
    facts = {
        "requirement": "tiny-model==1.0",
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "filename": "tiny.gguf",
        "file_sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    return Pin(wheel_bytes=wheel.stat().st_size, **(facts | other))


def names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} if cache.exists() else set()


def test_file_is_fetched_once_and_leaves_nothing_beside_it(pin, tmp_path, monkeypatch):
    path = asyncio.run(fetch(pin, tmp_path / "cache"))
    assert path.read_bytes() == CONTENT
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert asyncio.run(fetch(pin, tmp_path / "cache")) == path
    assert names(tmp_path / "cache") == {"tiny.gguf", "tiny.gguf.lock"}


@pytest.mark.parametrize("wrong", ["wheel_sha256", "file_sha256"])
def test_file_with_another_hash_is_refused(pin, tmp_path, wrong):
    bad = pin_of(next((tmp_path / "wheels").iterdir()), **{wrong: "0" * 64})
    with pytest.raises(Unavailable, match="0" * 64):
        asyncio.run(fetch(bad, tmp_path / "cache"))
    assert names(tmp_path / "cache") == {"tiny.gguf.lock"}


def test_damaged_cached_file_is_fetched_again(pin, tmp_path):
    path = asyncio.run(fetch(pin, tmp_path / "cache"))
    path.write_bytes(CONTENT[:-1])
    assert asyncio.run(fetch(pin, tmp_path / "cache")).read_bytes() == CONTENT


def test_two_fetches_at_once_both_get_the_file(pin, tmp_path):
    async def both() -> list[Path]:
        return await asyncio.gather(*(fetch(pin, tmp_path / "cache") for _ in range(2)))

    assert {path.read_bytes() for path in asyncio.run(both())} == {CONTENT}
    assert names(tmp_path / "cache") == {"tiny.gguf", "tiny.gguf.lock"}


class Stalling(http.server.SimpleHTTPRequestHandler):
    """An index of wheels that stops in the middle of the first one it sends."""

    half_sent = threading.Event()
    go_on = threading.Event()

    def do_GET(self) -> None:
        if self.path.endswith(".whl") and not self.half_sent.is_set():
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.half_sent.set()
            self.go_on.wait(20)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def test_fetch_killed_in_the_middle_recovers(pin, tmp_path, monkeypatch):
    serve = functools.partial(Stalling, directory=str(tmp_path / "wheels"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as index:
        threading.Thread(target=index.serve_forever).start()
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{index.server_port}/")
        program = "import asyncio\nfrom pathlib import PosixPath\nfrom foreman.embedded.weights import Pin, fetch\n"
        program += f"asyncio.run(fetch({pin!r}, {tmp_path / 'cache'!r}))"
        with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL) as fetching:
            assert Stalling.half_sent.wait(20)
            fetching.kill()
        assert any("staging" in name for name in names(tmp_path / "cache"))
        Stalling.go_on.set()
        path = asyncio.run(fetch(pin, tmp_path / "cache"))
        index.shutdown()
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "cache") == {"tiny.gguf", "tiny.gguf.lock"}
