"""The commands at terminals of several widths and in pipes, and what they say to who types something wrong."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3

import pytest

from tests.e2e.cli_kit import NOWHERE, cli, terminal
from tests.e2e.test_cli import ASKING, MODEL, daemon
from tests.e2e.test_cli_odd import shell
from tests.fakes.ollama import FakeOllama
from tests.kit import running

LONG = "a-model-of-a-long-name:70b-instruct-q4_K_M"
FAULT = "out of memory: " + "the model needs more than there is " * 4
NO_SPACE = "foreman: cannot write to stdout: No space left on device\n"


@pytest.fixture
async def busy(tmp_path):
    """A daemon of which one job is done, one failed, one runs and two wait; its URL and the ids."""
    async with FakeOllama([MODEL, LONG]) as fake, running(tmp_path, fake.url) as foreman:
        jobs = [await foreman.submit(MODEL, "word " * 1_234)]
        await foreman.until_finished(*jobs)
        fake.inject("status", status=400, body=json.dumps({"error": FAULT}))
        jobs.append(await foreman.submit(MODEL))
        await foreman.until_finished(jobs[1])
        with fake.hold(LONG, after=2) as gate:
            jobs.append(await foreman.submit(LONG, "one two three"))
            await gate.reached()
            jobs += [await foreman.submit(MODEL), await foreman.submit(LONG)]
            yield foreman.url, jobs


async def at(columns: int, url: str, *arguments: str) -> list[str]:
    """The lines that a command shows at a terminal, without what fills them up."""
    async with terminal(url, *arguments, columns=columns) as shown:
        await shown.ended()
    return [line.rstrip() for line in shown.text.splitlines()]


@pytest.mark.parametrize("columns", [40, 60, 80, 160])
async def test_no_id_state_or_age_is_cut_at_any_width(busy, columns):
    url, jobs = busy
    listed = [line for line in await at(columns, url, "jobs") if line.startswith(tuple(jobs))]
    states = {line.split()[0]: line.split()[1] for line in listed}
    assert states == dict(zip(jobs, ["done", "failed", "working", "queued", "queued"], strict=True))
    if columns >= 60:
        assert all(re.search(r" \d+(\.\d)?s\b", line) for line in listed)
    running = next(line for line in await at(columns, url, "ps") if jobs[2] in line)
    assert re.search(r"working +\d+(\.\d)?s\b", running)
    assert {job_id for line in await at(columns, url, "events") for job_id in jobs if job_id in line} == {*jobs}


async def test_at_80_columns_jobs_and_ps_have_all_their_figures(busy):
    url, jobs = busy
    heading, *lines = await at(80, url, "jobs")
    assert heading.split() == ["job", "state", "model", "age", "wait", "ran", "tokens"]
    done, below = lines[-1], lines[-2]
    assert re.fullmatch(rf"{jobs[0]} +done +{MODEL} +\d+s +\d+s +\d+s +1,234", done)
    assert below.startswith("  ")
    assert "out of memory" in below
    shown = await at(80, url, "ps")
    assert "tokens  tok/s  ends" in next(line for line in shown if line.startswith("running"))
    assert "…" in next(line for line in shown if jobs[2] in line), "the model's name is what gives way"


async def test_top_has_room_for_what_it_says_last(busy):
    url, jobs = busy
    for columns in (60, 80, 160):
        async with terminal(url, "top", columns=columns, rows=30) as shown:
            await shown.shows("Ctrl-C ends")
            assert jobs[2] in shown.text
            shown.interrupt()
            assert await shown.ended() == 130


@pytest.mark.parametrize("columns", [1, 7, 27])
async def test_a_terminal_of_no_use_is_no_fault(busy, columns):
    url, _ = busy
    for verb in ("jobs", "ps", "events", "show"):
        async with terminal(url, verb, columns=columns) as shown:
            assert await shown.ended() == 0, verb


async def test_an_event_is_wrapped_at_a_terminal_and_one_line_in_a_pipe(busy):
    url, jobs = busy
    piped = (await cli(url, "events", "--job", jobs[0])).lines
    assert len(piped) == 4
    for columns in (60, 80):
        said = " ".join(" ".join(await at(columns, url, "events", "--job", jobs[0])).split())
        assert said == " ".join(" ".join(piped).split()), "nothing is lost"


async def test_no_line_in_a_pipe_ends_in_blanks(busy):
    url, jobs = busy
    for arguments in (("jobs",), ("jobs", "--state", "expired"), ("ps",), ("events",), ("show", jobs[0])):
        lines = (await cli(url, *arguments)).lines
        assert lines
        assert [line for line in lines if line != line.rstrip(" ")] == [], arguments


async def test_the_findings_of_an_audit_are_lines_without_blanks_and_its_head_stays_whole(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        await foreman.until_finished(await foreman.submit(MODEL))
    database = tmp_path / "foreman.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE jobs SET view = replace(view, 'done', 'fun')")
    connection.close()
    told = await cli(NOWHERE, "audit", "--db", str(database))
    assert told.status == 1
    assert [line for line in told.lines if line != line.rstrip(" ")] == []
    assert max(map(len, told.lines)) < 500
    head = (await cli(NOWHERE, "audit", "--db", str(database), "--json")).json
    whole = f"{head['position']}:{head['hash']}"
    assert f"head        {whole}" in told.lines
    for columns in (60, 80, 160):
        async with terminal(NOWHERE, "audit", "--db", str(database), columns=columns) as shown:
            assert await shown.ended() == 1
        assert any(line in {whole, f"head        {whole}"} for line in shown.text.splitlines()), columns
    assert await shell(NOWHERE, f"foreman audit --db {database} > /dev/full") == (1, NO_SPACE)


@pytest.mark.parametrize(
    ("typed", "meant"), [("submti", "submit"), ("job", "jobs"), ("event", "events"), ("back-up", "backup")]
)
async def test_a_verb_that_there_is_not_is_told_with_the_one_that_was_meant(typed, meant):
    for arguments in ((typed,), ("help", typed)):
        ended = await cli(NOWHERE, *arguments)
        assert (ended.status, ended.out) == (2, "")
        assert f"Did you mean '{meant}'" in ended.err


async def test_a_verb_like_no_other_is_told_without_a_guess():
    ended = await cli(NOWHERE, "qqqq")
    assert (ended.status, "No such command 'qqqq'.\n" in ended.err) == (2, True)


async def test_help_is_also_a_word():
    assert (await cli(NOWHERE, "help")).out == (await cli(NOWHERE, "--help")).out
    assert (await cli(NOWHERE, "help", "jobs")).out == (await cli(NOWHERE, "jobs", "--help")).out


async def test_what_completes_after_help_are_the_verbs():
    typed = {"_FOREMAN_COMPLETE": "bash_complete", "COMP_WORDS": "foreman\nhelp\nsub", "COMP_CWORD": "2"}
    assert (await cli(NOWHERE, **typed)).lines == ["plain,submit"]


@pytest.mark.parametrize(
    "arguments", [("jobs", "--limit", "0"), ("jobs", "--nope"), ("show", "a", "b"), ("submti",), ("--nope",)]
)
async def test_a_wrong_command_line_is_told_as_json_to_who_asks_for_json(arguments):
    ended = await cli(NOWHERE, *arguments, "--json")
    said = json.loads(ended.err)
    assert (ended.status, ended.out, said["code"]) == (2, "", "usage")
    assert said["error"]
    assert said["hint"].endswith("--help")


async def test_every_verb_that_asks_a_daemon_names_the_variables_for_it():
    for verb in (*ASKING, "top"):
        said = " ".join((await cli(NOWHERE, verb, "--help")).out.split())
        assert "FOREMAN_URL" in said, verb
        assert "FOREMAN_TOKEN" in said, verb
    said = " ".join((await cli(NOWHERE, "--help")).out.split())
    assert "FOREMAN_URL" in said
    assert "FOREMAN_TOKEN" in said


async def test_help_uses_a_wide_terminal_but_not_all_of_it():
    for columns, widest in ((80, 80), (160, 120)):
        async with terminal(NOWHERE, "serve", "--help", columns=columns) as shown:
            assert await shown.ended() == 0
        assert widest - 20 < max(map(len, shown.text.splitlines())) <= widest


async def test_https_where_nobody_speaks_tls_is_told():
    async with await asyncio.start_server(_plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ended = await cli(f"https://127.0.0.1:{port}", "jobs")
    assert (ended.status, ended.out) == (2, "")
    assert "does not speak: try http://" in ended.err


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_full_disk_is_one_sentence_whatever_is_written():
    for arguments in ("--help", "jobs --help", "completion bash"):
        assert await shell(NOWHERE, f"foreman {arguments} > /dev/full") == (1, NO_SPACE), arguments
