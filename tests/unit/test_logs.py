"""Log lines: their form, what keeps out of them, and that libraries write the same way."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from foreman.logs import HIDDEN, KEYS, SecretGuard

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def run(body: str, form: str = "json", level: str = "info", secrets: tuple[str, ...] = ()) -> list[str]:
    """What a process that configures its log and runs `body` writes to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", script(body, form, level, secrets)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=30,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def script(body: str, form: str, level: str, secrets: tuple[str, ...]) -> str:
    head = "import logging, warnings\nfrom foreman import logs\nlog = logs.get_logger('foreman.worker')\n"
    return f"{head}logs.configure({form!r}, {level!r}, {secrets!r})\n{body}"


def test_a_json_line_holds_name_level_time_logger_and_values():
    (line,) = map(json.loads, run("log.info('job.requeued', job_id='01X', attempt=2)"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("at"))
    assert line == {"event": "job.requeued", "level": "info", "logger": "foreman.worker", "job_id": "01X", "attempt": 2}


def test_a_text_line_is_one_short_line_without_colour_off_a_terminal():
    (line,) = run("log.info('job.requeued', job_id='01X', attempt=2)", form="text")
    assert re.fullmatch(r"\S+Z \[info\] job\.requeued \[foreman\.worker\] job_id=01X attempt=2", line.rstrip())


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["plain", "NO_COLOR"]
)
def test_a_terminal_gets_colour_unless_no_color_is_set(environment, coloured):
    master, slave = pty.openpty()
    command = [sys.executable, "-c", script("log.info('a.b', attempt=1)", "text", "info", ())]
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    try:
        subprocess.run(command, stderr=slave, check=True, cwd=ROOT, env=inherited | environment)
        written = os.read(master, 4096)
    finally:
        os.close(slave)
        os.close(master)
    assert b"a.b" in written
    assert (b"\x1b[" in written) is coloured


def test_lines_below_the_level_are_not_written():
    lines = run("log.info('a.b'); log.warning('c.d'); logging.getLogger('x').info('no')", level="warning")
    assert [json.loads(line)["event"] for line in lines] == ["c.d"]


def test_a_traceback_is_one_json_line_with_the_exception_in_it():
    (line,) = map(json.loads, run("try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('worker.failed')"))
    assert "ZeroDivisionError: division by zero" in line["exception"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_is_hidden_wherever_it_appears(form):
    body = """
log.error('target.failed hunter2', url='http://x?k=hunter2', models=[{'a': b'hunter2', 'hunter2': {'hunter2'}}])
logging.getLogger('other').warning('%s', 'hunter2')
warnings.warn('hunter2')
try:
    raise ValueError('hunter2', OSError('hunter2'))
except ValueError:
    log.exception('worker.failed')
    logging.getLogger('asyncio').exception('failed')
"""
    written = "\n".join(run(body, form, secrets=("hunter2", "other-secret")))
    assert "hunter2" not in written
    assert written.count(HIDDEN) >= 8


@pytest.mark.parametrize("secret", ["it's", 'a"b', "a\\b", "'\"\\", "a+b/c=", "é"])
def test_a_secret_is_found_in_every_way_it_is_written(secret):
    line = {
        "plain": secret,
        "object": (ValueError(secret),),
        "json": json.dumps(secret),
        "nested": {"x": secret.encode()},
    }
    hidden = SecretGuard([secret])(None, "info", line)
    assert hidden["plain"] == HIDDEN
    assert repr(secret)[1:-1] not in str(hidden)
    assert json.dumps(secret)[1:-1] not in hidden["json"]


def test_a_secret_inside_another_one_does_not_uncover_the_rest():
    hidden = SecretGuard(["abc", "abcdef"])(None, "info", {"event": "token abcdef"})
    assert hidden["event"] == f"token {HIDDEN}"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_that_is_a_common_word_leaves_the_line_readable(form):
    (line,) = run("log.info('a.b', attempt=1)", form, secrets=("info", "", ","))
    assert "info" in line
    assert "a.b" in line


def test_a_line_break_from_outside_cannot_forge_a_text_line():
    (line,) = run(r"log.info('a.b', model='x\n2026 [error] forged \x1b[31m', path='\r')", form="text")
    assert "\x1b" not in line
    assert "model='x␊2026 [error] forged ␛[31m' path=␍" in line


def test_libraries_write_through_the_same_form_at_their_own_levels():
    body = """
for name in ('httpx', 'aiohttp.client', 'sanic.root', 'sanic.server', 'asyncio'):
    logging.getLogger(name).info('chatter')
    logging.getLogger(name).warning('trouble')
logging.getLogger('sanic.access').critical('GET /')
"""
    lines = [json.loads(line) for line in run(body, level="debug")]
    assert [(line["event"], line["logger"]) for line in lines] == [
        ("trouble", name) for name in ("httpx", "aiohttp.client", "sanic.root", "sanic.server", "asyncio")
    ]


def test_a_sanic_server_writes_no_banner_no_access_line_and_its_errors_in_our_form():
    body = """
import socket
import httpx
from sanic import Sanic
app = Sanic('quiet', configure_logging=False)
listener = socket.create_server(('127.0.0.1', 0))

@app.get('/')
async def broken(request):
    raise RuntimeError('broken on purpose')

@app.after_server_start
async def call(app):
    app.add_task(once())

async def once():
    try:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f'http://127.0.0.1:{listener.getsockname()[1]}/')
    finally:
        app.stop()
    assert answer.status_code == 500

app.prepare(sock=listener, single_process=True, access_log=True)
Sanic.serve_single(app)
"""
    lines = [json.loads(line) for line in run(body)]
    assert [line["logger"] for line in lines] == ["sanic.error"]
    assert "broken on purpose" in lines[0]["exception"]


def test_configuring_twice_writes_each_line_once():
    (line,) = run("logs.configure('text', 'info')\nlog.info('a.b')")
    assert "a.b" in line


def log_calls(source: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call for call in calls if re.fullmatch(rf"_?log(ger)?\.({'|'.join(LEVELS)}|bind)", ast.unparse(call.func))]


@pytest.mark.parametrize("path", sorted((ROOT / "foreman").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_value_in_a_log_line_has_a_listed_name(path):
    names = {keyword.arg for call in log_calls(path.read_text("utf-8")) for keyword in call.keywords}
    assert names - {None} <= KEYS
