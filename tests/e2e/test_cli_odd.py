"""The commands with odd input, odd streams, odd answers, and a daemon that goes away."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys

import pytest

from tests.e2e.cli_kit import NOWHERE, cli, environ, start, terminal
from tests.e2e.test_cli import MODEL, daemon
from tests.fakes.ollama import FakeOllama
from tests.integration.test_archived_events import lived
from tests.kit import PATIENCE_S, Process, running
from tests.proxy import Proxy

#: Blanks of other widths, joiners, marks of direction, and what steers a terminal in one byte and in two.
ODD = "fa\u200dm\u200cily\u00ad\u202eRTL\u202c\x9b31m\x1b[2Jend"


async def shell(url: str, script: str, **more: str) -> tuple[int, str]:
    """A line of shell in which `foreman` is this one; its status and its stderr."""
    child = await asyncio.create_subprocess_exec(
        "bash", "-c", f'foreman() {{ "{sys.executable}" -m foreman "$@"; }}; {script}',
        env=environ(url, **more), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        _, err = await child.communicate()
    return child.returncode or 0, err.decode()


async def test_an_answer_goes_into_a_pipe_as_it_is_and_to_a_terminal_without_its_orders(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        for arguments in (("submit", "-m", MODEL, "--wait", ODD), ("logs",), ("show", "--answer")):
            assert (await cli(foreman.url, *arguments)).out == f"{ODD}\n"
            async with terminal(foreman.url, *arguments) as shown:
                assert await shown.ended() == 0
            assert shown.raw == "fa\u200dm\u200cily\u00ad RTL  31m [2Jend\r\n"


async def test_an_error_does_not_steer_the_terminal(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        for verb in ("submit", "retry", "show"):
            name = "x\x1b]0;owned\x07y\x9b31m"
            arguments = ("-m", name, "x") if verb == "submit" else (name,)
            async with terminal(foreman.url, verb, *arguments) as shown:
                assert await shown.ended() in {1, 2}
            assert "foreman: " in shown.raw
            assert not {"\x1b", "\x07", "\x9b"} & set(shown.raw), verb


async def test_what_comes_after_a_broken_answer_begins_a_line(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        fake.inject("error_line", after=2, body="no such layer")
        async with terminal(foreman.url, "submit", "-m", MODEL, "--stream", "one two three") as shown:
            assert await shown.ended() == 1
    assert "foreman: no such layer" in shown.text.splitlines()


async def test_a_stream_that_is_full_or_closed_ends_without_a_traceback(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        await foreman.until_finished(await foreman.submit(MODEL))
        for verb in ("jobs", "jobs --json", "logs", f"submit -m {MODEL} x"):
            status, err = await shell(foreman.url, f"foreman {verb} > /dev/full")
            assert (status, "No space left" in err, len(err.splitlines())) == (1, True, 1), verb
        assert await shell(foreman.url, "foreman jobs >&-") == (0, "")
        status, err = await shell(foreman.url, f"foreman submit -m {MODEL} <&-")
        assert (status, "the prompt that was read is empty" in err) == (2, True)
        assert await shell(foreman.url, f"foreman submit -m {MODEL} --wait 🙂", PYTHONIOENCODING="latin-1") == (0, "")


@pytest.mark.parametrize("url", ["localhost:8080", "http://a..b:80", "http://xn--:80", "http://[::1"])
async def test_a_url_that_is_none_is_wrong_usage(url):
    ended = await cli(url, "jobs", "--json")
    assert (ended.status, ended.out, json.loads(ended.err)["code"]) == (2, "", "config")


async def test_a_time_limit_without_a_wait_is_refused():
    for arguments in (("--timeout", "1s"), ("--timeout", "1s", "--stream")):
        ended = await cli(NOWHERE, "submit", "-m", MODEL, *arguments, "x")
        assert (ended.status, "--timeout goes with --wait" in ended.err) == (2, True)


async def test_a_time_limit_holds_for_the_lines_of_a_file(tmp_path):
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('"one"\n"two"\n')
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL):
            ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", str(lines), "--wait", "--timeout", "200ms")
    assert (ended.status, ended.out) == (1, "")
    assert "0 of 2 jobs were over" in ended.err
    assert "--key" in ended.err


async def test_a_file_that_broke_off_goes_on_with_the_key_that_is_told(tmp_path):
    lines = tmp_path / "jobs.jsonl"
    good = '"one"\n' * 250
    async with daemon(tmp_path) as (foreman, _):
        lines.write_text(f"{good}{{\n")
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", str(lines))
        assert (ended.status, len(ended.lines)) == (2, 200)
        key = re.search(r"--key (\w+)", ended.err)
        assert key is not None, "else the 200 would be queued twice"
        lines.write_text(f'{good}"two"\n')
        again = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", str(lines), "--key", key[1])
        assert again.lines[:200] == ended.lines
        assert len((await cli(foreman.url, "jobs", "--all", "--json")).json) == len(again.lines) == 251


async def test_a_long_list_has_one_heading_and_each_job_once(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL):
            job_ids = (await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", "-", given='"one"\n' * 1_500)).lines
            heading, *listed = (await cli(foreman.url, "jobs", "--all")).lines
            assert heading.split()[:2] == ["job", "state"]
            assert [line.split()[0] for line in listed] == job_ids[::-1]


async def test_ctrl_c_while_many_are_waited_for_says_how_to_find_them_again(tmp_path):
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('"one"\n')
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL) as gate:
            command = ("submit", "-m", MODEL, "--jsonl", str(lines), "--wait")
            async with terminal(foreman.url, *command) as shown:
                await gate.reached()
                await shown.shows("waiting")
                shown.interrupt()
                assert await shown.ended() == 130
            gate.release()
        key = re.search(r"--key (\w+)", shown.text)
        assert key is not None
        assert (await cli(foreman.url, *command, "--key", key[1])).out == "one\n"
        assert len((await cli(foreman.url, "jobs", "--json")).json) == 1


async def test_stderr_is_one_json_object_also_when_a_file_broke_off(tmp_path):
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('{"prompt": 7}\n')
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", str(lines), "--json")
    assert ended.status == 1
    assert "--key" in json.loads(ended.err)["hint"]


async def test_what_lines_leave_out_comes_from_the_options(tmp_path):
    lines = tmp_path / "jobs.jsonl"
    jobs = [{"prompt": "x"}, {"messages": [{"role": "user", "content": "x"}]}, {"prompt": "x", "system": "Own."}]
    lines.write_text("".join(f"{json.dumps(job)}\n" for job in jobs))
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", str(lines), "--system", "Brief.")
        paths = [f"/jobs/{job_id}/artifacts/request" for job_id in ended.lines]
        asked = [json.loads((await foreman.client.get(path)).content) for path in paths]
    assert [asked[0]["system"], asked[2]["system"]] == ["Brief.", "Own."]
    assert asked[1]["messages"][0] == {"role": "system", "content": "Brief."}


async def test_lines_are_read_from_where_stdin_is(tmp_path):
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('"taken by another"\n"one"\n')
    async with daemon(tmp_path) as (foreman, _):
        with lines.open("rb") as file:
            os.lseek(file.fileno(), len('"taken by another"\n'), os.SEEK_SET)
            child = await start(foreman.url, "submit", "-m", MODEL, "--jsonl", "-", "--wait", stdin=file)
            async with asyncio.timeout(PATIENCE_S):
                out, _ = await child.communicate()
    assert out == b"one\n"


async def test_without_an_id_it_is_the_newest_job(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "show", "--json")
        assert (ended.status, json.loads(ended.err)["code"]) == (1, "job_not_found")
        await foreman.until_finished(await foreman.submit(MODEL, "one"), last := await foreman.submit(MODEL, "two"))
        assert (await cli(foreman.url, "show", "--json")).json["job"]["job_id"] == last
        assert (await cli(foreman.url, "why", "--json")).json["job_id"] == last
        assert (await cli(foreman.url, "logs")).out == "two\n"


async def test_logs_of_a_job_that_has_no_answer_yet_fail(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL):
            ended = await cli(foreman.url, "logs", await foreman.submit(MODEL))
    assert (ended.status, ended.out, "-f" in ended.err) == (1, "", True)


async def test_the_last_events_of_a_job_or_a_type_are_found_behind_others(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        first = await foreman.submit(MODEL)
        await foreman.until_finished(first, *[await foreman.submit(MODEL) for _ in range(10)])
        for only, types in (
            (("--job", first), await foreman.types(first)),
            (("--type", "daemon.started"), ["daemon.started"]),
        ):
            ended = await cli(foreman.url, "events", "--json", *only)
            assert [json.loads(line)["type"] for line in ended.lines] == types
        latest = [json.loads(line)["position"] for line in (await cli(foreman.url, "events", "--json")).lines]
        head = len(await foreman.events())
        assert latest == list(range(head - 19, head + 1))


async def test_the_last_events_after_most_were_archived_are_those_that_are_left(tmp_path):
    async with FakeOllama(["a"]) as fake:
        _, archived = await lived(tmp_path, fake)
        async with running(tmp_path, fake.url) as foreman:
            ended = await cli(foreman.url, "events", "--json")
    assert archived
    assert len(ended.lines) > 1
    assert [json.loads(line)["position"] for line in ended.lines] == [
        archived + 1 + at for at in range(len(ended.lines))
    ]


@pytest.mark.parametrize(("verb", "words"), [(("top",), "last hour"), (("jobs", "--watch"), "llama3.2")])
async def test_what_is_watched_outlasts_a_restart_and_says_that_foreman_is_away(tmp_path, verb, words):
    async with FakeOllama([MODEL]) as fake, Proxy("").open() as proxy:
        process = Process(tmp_path, fake.url)
        try:
            proxy.target = await process.start()
            job_id = (await cli(proxy.url, "submit", "-m", MODEL, "x")).out.strip()
            async with terminal(proxy.url, *verb) as shown:
                await shown.shows(job_id)
                await process.kill()
                await shown.shows("trying again")
                process = Process(tmp_path, fake.url)
                proxy.target = await process.start()
                later = (await cli(proxy.url, "submit", "-m", MODEL, "x")).out.strip()
                await shown.shows(later)
                assert words in shown.text
                shown.interrupt()
                assert await shown.ended() == 130
        finally:
            await process.kill()


async def test_a_busy_log_does_not_make_a_watched_list_ask_for_more(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        async with terminal(foreman.url, "jobs", "--watch", "--state", "failed") as shown:
            await shown.shows("no jobs")
            await foreman.until_finished(*[await foreman.submit(MODEL) for _ in range(60)])
            shown.interrupt()
            await shown.ended()
        assert shown.text.count("no jobs") < 60


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("submit", "-m", "qwen3", ":", "8"), "8b"),
        (("submit", "-m", "qwen3", ":"), "8b"),
        (("submit", "--model", "=", "qwen3", ":", "8"), "8b"),
        (("submit", "-m", "qwen3:8"), "qwen3:8b"),
        (("jobs", "--state", "=", "fa"), "failed"),
        (("jobs", "--state", "="), "failed"),
        (("submit", "-m", "qwen3", ":", "8b", "--js"), "--jsonl"),
    ],
)
async def test_bash_which_divides_at_colons_and_equals_signs_gets_the_last_part(tmp_path, words, completed):
    async with daemon(tmp_path) as (foreman, _):
        typed = "\n".join(["foreman", *words])
        ended = await cli(foreman.url, _FOREMAN_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(len(words)))
    assert f"plain,{completed}" in ended.lines
