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
            answer = shown.raw.rpartition("\x1b[2K")[2]  # what was shown while it was waited for is erased
            assert answer == "fa\u200dm\u200cily\u00ad RTL  31m [2Jend\r\n"


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


async def stored_prompt(foreman, job_id: str) -> str:
    request = (await foreman.client.get(f"/jobs/{job_id.strip()}/artifacts/request")).json()
    return request["messages"][-1]["content"]


async def test_what_is_piped_in_goes_after_the_prompt_if_one_asks_for_it(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "Review this", "-f", "-", given="THE DIFF")
        assert await stored_prompt(foreman, ended.out) == "Review this\n\nTHE DIFF"
        assert ended.err == ""
        nothing = await cli(foreman.url, "submit", "-m", MODEL, "Review this", "-f", "-", given="\n")
        assert (nothing.status, nothing.out) == (2, "")


async def test_text_that_is_piped_in_and_not_read_is_told_and_left_to_the_loop(tmp_path):
    (tmp_path / "list").write_text("one\ntwo\nthree\n")
    loop = 'while read -r line; do foreman submit -m llama3.2 "$line" || exit 9; done'
    async with daemon(tmp_path) as (foreman, _):
        for script in (f"{loop} < {tmp_path}/list", f"cat {tmp_path}/list | {loop}"):
            status, err = await shell(foreman.url, script)
            assert (status, err.count("was not read")) == (0, 2), "all but the last had more behind them"
        jobs = (await cli(foreman.url, "jobs", "--ids")).lines
        assert [await stored_prompt(foreman, job) for job in jobs] == ["three", "two", "one"] * 2


async def test_a_pipe_that_nobody_writes_to_or_closes_holds_nothing_up(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        child = await start(foreman.url, "submit", "-m", MODEL, "hello", stdin=asyncio.subprocess.PIPE)
        async with asyncio.timeout(PATIENCE_S):
            assert await child.stderr.read() == b""
            assert await child.wait() == 0
        child.stdin.close()
        for stdin in ("<&-", "</dev/null"):
            assert await shell(foreman.url, f"foreman submit -m {MODEL} hello {stdin}") == (0, "")


@pytest.mark.parametrize("arguments", [("",), (" \n",), ("", "-f", "-"), ("-", "-f", "-")])
async def test_an_empty_prompt_is_refused_however_it_comes(arguments):
    ended = await cli(NOWHERE, "submit", "-m", MODEL, *arguments, given="x" if len(arguments) > 1 else None)
    assert (ended.status, ended.out) == (2, "")


@pytest.mark.parametrize(
    "arguments", [("logs", "-f"), ("logs", "-f", "x"), ("events", "-f"), ("events", "-f", "--after", "0")]
)
async def test_a_follower_that_never_met_foreman_fails_at_once(arguments):
    ended = await cli(NOWHERE, *arguments)
    assert (ended.status, "FOREMAN_URL" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("follower", "before", "after"),
    [
        (("logs", "-f"), "one", "one two three\n"),
        (("events", "-f"), "{}", "job.done"),
        (("submit", "-m", MODEL, "--wait", "one two three"), "queued, next", "one two three\n"),
    ],
)
async def test_a_follower_outlasts_a_restart_and_says_that_foreman_is_away(tmp_path, follower, before, after):
    async with FakeOllama([MODEL]) as fake, Proxy("").open() as proxy:
        process = Process(tmp_path, fake.url)
        try:
            proxy.target = await process.start()
            with fake.hold(MODEL, after=1) as gate:
                first = (await cli(proxy.url, "submit", "-m", MODEL, "one two three")).out.strip()
                await gate.reached()
                async with terminal(proxy.url, *follower) as shown:
                    await shown.shows(before.format(first))
                    await process.kill()
                    await shown.shows("foreman is away")
                    gate.release()
                    process = Process(tmp_path, fake.url)
                    proxy.target = await process.start()
                    await shown.shows(after)
        finally:
            await process.kill()


async def test_the_state_of_a_job_that_is_waited_for_is_shown_at_a_terminal_and_goes_away(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL) as gate:
            async with terminal(foreman.url, "submit", "-m", MODEL, "--wait", "hello") as shown:
                await shown.shows("working for")
                (job,) = (await cli(foreman.url, "jobs", "-q")).lines
                assert shown.text.startswith(f"{job}\n")
                gate.release()
                assert await shown.ended() == 0
        assert shown.raw.endswith("\x1b[2Khello\r\n"), "the line was erased before the answer"
        piped = await cli(foreman.url, "submit", "-m", MODEL, "--wait", "hello")
    assert (piped.out, piped.err) == ("hello\n", "")


async def test_a_wait_that_took_too_long_says_how_to_go_on(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL):
            ended = await cli(foreman.url, "submit", "-m", MODEL, "--wait", "--timeout", "0m0.05s", "--json", "x")
            (job,) = (await cli(foreman.url, "jobs", "-q")).lines
            async with terminal(foreman.url, "submit", "-m", MODEL, "--wait", "--timeout", "50ms", "x") as shown:
                assert await shown.ended() == 1
    said = json.loads(ended.err)
    assert (ended.status, said["code"]) == (1, "wait_timeout")
    assert said["error"].endswith("after 0m0.05s")
    assert said["hint"] == f"the job goes on: foreman logs -f {job}, or foreman cancel {job}"
    assert "after 50ms" in shown.text


async def test_what_is_no_id_is_named_and_stops_no_other(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL):
            jobs = [await foreman.submit(MODEL) for _ in range(2)]
            ended = await cli(foreman.url, "cancel", jobs[0], "nope", "..", jobs[1])
            assert (ended.status, ended.lines) == (1, [f"{job} cancelled" for job in jobs])
            assert "nope: this is no job id" in ended.err
            assert "foreman jobs" in ended.err
        alone = await cli(foreman.url, "retry", "nope", "--json")
    said = json.loads(alone.err)
    assert (alone.status, alone.out, "nope" in said["error"], "foreman jobs" in said["hint"]) == (1, "", True, True)


async def test_all_that_wait_or_of_a_model_are_given_up_at_once(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL) as gate:
            held = await foreman.submit(MODEL)
            await gate.reached()
            await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", "-", given='"x"\n' * 1_100)
            other = await foreman.submit("qwen3:8b")
            ended = await cli(foreman.url, "cancel", "--waiting", "--model", MODEL)
            assert (ended.status, len(ended.lines)) == (0, 1_100)
            assert "1,100 jobs cancelled" in ended.err
            assert [(await foreman.job(job)).state for job in (held, other)] == ["working", "queued"]
            assert (await cli(foreman.url, "cancel", "--model", MODEL, "--json")).json[0]["job_id"] == held
        assert "0 jobs cancelled" in (await cli(foreman.url, "cancel", "--model", MODEL)).err


async def test_at_a_terminal_all_are_given_up_only_if_one_agrees(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL):
            job = await foreman.submit(MODEL)
            for typed, status, state in (("n", 1, "working"), ("\x04", 130, "working"), ("y", 0, "cancelled")):
                ours, theirs = os.openpty()
                child = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "foreman", "cancel", "--model", MODEL), env=environ(foreman.url),
                    stdin=theirs, stdout=theirs, stderr=theirs,
                )  # fmt: skip
                os.close(theirs)
                os.write(ours, f"{typed}\n".encode())
                async with asyncio.timeout(PATIENCE_S):
                    assert await child.wait() == status
                assert "cancel 1 job?" in os.read(ours, 65_536).decode()
                os.close(ours)
                assert (await foreman.job(job)).state == state


async def test_all_that_failed_are_made_anew_once(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        for _ in range(2):
            fake.inject("status", status=500, body='{"error":"out of memory"}')
            await cli(foreman.url, "submit", "-m", MODEL, "--wait", "hello")
        failed = (await cli(foreman.url, "jobs", "-q", "--state", "failed")).lines
        assert len(failed) == 2
        first = await cli(foreman.url, "retry", "--failed", "--model", MODEL)
        assert [(await foreman.job(job)).retry_of for job in first.lines] == failed[::-1]
        assert "2 jobs retried" in first.err
        for job in first.lines:
            await foreman.until_finished(job)
        again = await cli(foreman.url, "retry", "--failed")
        assert (again.lines, "0 jobs retried" in again.err) == (first.lines, True)
        assert (await cli(foreman.url, "retry", "--failed", "--model", "qwen3:8b")).out == ""


@pytest.mark.parametrize("arguments", [(), ("x", "--waiting"), ("x", "--model", MODEL)])
async def test_ids_and_all_that_fit_do_not_go_together(arguments):
    assert (await cli(NOWHERE, "cancel", *arguments)).status == 2


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
async def test_a_file_without_jobs_says_so(tmp_path, text):
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", "-", given=text)
    assert (ended.status, ended.out) == (0, "")
    assert "0 jobs" in ended.err


async def test_a_fault_names_the_line_it_is_about(tmp_path):
    good, unknown = '"x"\n', '{"model": "nope", "prompt": "x"}\n'
    async with daemon(tmp_path) as (foreman, _):
        for given, line in (
            (unknown, 1),
            (f"\n{good}\n{unknown}", 4),
            (f"\n{good * 200}\n{good}{unknown}", 204),
            (f"{good * 200}\n{unknown}", 202),
        ):
            ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", "-", given=given)
            assert ended.status == 1
            assert f"foreman: line {line}: " in ended.err
            assert "there are: llama3.2:latest" in ended.err
        broken = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", "-", given=f"{good}  {{x\n")
    assert "line 2 is no JSON" in broken.err
    assert "column 4" in broken.err
    assert "line 1" not in broken.err


async def test_a_mark_of_byte_order_begins_a_file_and_no_prompt(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", "-", given='\ufeff"one"\n')
        assert await stored_prompt(foreman, ended.out) == "one"


async def test_a_time_limit_also_ends_the_wait_for_a_foreman_that_is_away(tmp_path):
    async with FakeOllama([MODEL]) as fake:
        process = Process(tmp_path, fake.url)
        try:
            url = await process.start()
            with fake.hold(MODEL) as gate:
                child = await start(url, "submit", "-m", MODEL, "--wait", "--timeout", "3s", "x")
                await gate.reached()
                (job,) = (await cli(url, "jobs", "-q")).lines
                await process.kill()
                async with asyncio.timeout(PATIENCE_S):
                    out, err = await child.communicate()
        finally:
            await process.kill()
    assert (child.returncode, out) == (2, b"")
    assert f"foreman logs -f {job}" in err.decode()
