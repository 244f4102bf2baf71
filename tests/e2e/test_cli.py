"""The verbs that ask a daemon, against a real one."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from foreman.cli.root import VERBS
from foreman.commands.types import ExpireJob
from tests.e2e.cli_kit import NOWHERE, cli, start, terminal
from tests.fakes.ollama import FakeOllama
from tests.kit import Running, running

MODEL = "llama3.2"
UNKNOWN = "01JD1V6X8W4Q2T5N7R9S0KACEG"
#: Each verb that asks a daemon, with arguments that would do.
ASKING = {
    "submit": ("-m", MODEL, "hello"),
    "jobs": (),
    "show": (UNKNOWN,),
    "why": (UNKNOWN,),
    "logs": (UNKNOWN,),
    "cancel": (UNKNOWN,),
    "retry": (UNKNOWN,),
    "ps": (),
    "events": (),
}
ABOUT_A_JOB = ("show", "why", "logs", "cancel", "retry")


@asynccontextmanager
async def daemon(tmp_path, **settings: str) -> AsyncIterator[tuple[Running, FakeOllama]]:
    async with FakeOllama([MODEL, "qwen3:8b"]) as fake, running(tmp_path, fake.url, **settings) as foreman:
        yield foreman, fake


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_explains_itself_with_an_example(verb):
    ended = await cli(NOWHERE, verb, "--help")
    assert ended.status == 0
    assert f"foreman {verb}" in ended.out.partition("Example:")[2], "an example shows how it is used"


@pytest.mark.parametrize("verb", ASKING)
async def test_without_a_daemon_a_verb_says_what_to_check(verb):
    ended = await cli(NOWHERE, verb, *ASKING[verb], "--json")
    said = json.loads(ended.err)
    assert (ended.status, ended.out, said["code"]) == (2, "", "unreachable")
    assert NOWHERE in said["error"]
    assert "FOREMAN_URL" in said["hint"]


async def test_top_without_a_daemon_ends_at_once():
    ended = await cli(NOWHERE, "top")
    assert ended.status == 2
    assert "FOREMAN_URL" in ended.err


async def test_a_wrong_token_is_told_and_never_shown(tmp_path):
    async with daemon(tmp_path, token="the-right-one") as (foreman, _):
        for verb, arguments in ASKING.items():
            ended = await cli(foreman.url, verb, *arguments, FOREMAN_TOKEN="s3cret-but-wrong")
            assert ended.status == 2, verb
            assert "FOREMAN_TOKEN" in ended.err
            assert "s3cret" not in ended.err + ended.out
        right = await cli(foreman.url, "jobs", "--json", FOREMAN_TOKEN="the-right-one")
        assert (right.status, right.json) == (0, [])


async def test_an_unknown_job_is_told(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        for verb in ABOUT_A_JOB:
            ended = await cli(foreman.url, verb, UNKNOWN, "--json")
            assert (ended.status, json.loads(ended.err)["code"]) == (1, "job_not_found"), verb
            ended = await cli(foreman.url, verb, "no id")
            assert (ended.status, "ULID" in ended.err) == (1, True), verb


async def test_submit_prints_the_id_of_a_job_that_is_on_disk(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "hello", "-o", "temperature=0.5", "--system", "Be brief.")
        job = await foreman.job(ended.out.strip())
        asked = json.loads((await foreman.client.get(f"/jobs/{job.job_id}/artifacts/request")).content)
    assert ended.err == ""
    assert asked["options"] == {"temperature": 0.5}
    assert [message["content"] for message in asked["messages"]] == ["Be brief.", "hello"]


@pytest.mark.parametrize(("how", "given"), [(("--file", "-"), "one two"), ((), "one two"), (("-",), "one two")])
async def test_a_prompt_may_come_through_a_pipe(tmp_path, how, given):
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--wait", *how, given=given)
    assert (ended.status, ended.out) == (0, "one two\n")


async def test_stream_prints_the_answer_as_it_comes(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL, after=1) as gate:
            async with terminal(foreman.url, "submit", "-m", MODEL, "--stream", "one two three") as shown:
                await gate.reached()
                await shown.shows("one")
                assert "three" not in shown.text
                gate.release()
                assert await shown.ended() == 0
    assert shown.text == "one two three\n"


async def test_wait_gives_the_job_and_its_answer_as_json(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--wait", "--json", "hello")
    assert (ended.json["job"]["state"], ended.json["answer"]["message"]["content"]) == ("done", "hello")


async def test_a_job_that_fails_fails_its_command(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        fake.inject("status", status=500, body='{"error":"out of memory"}')
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--wait", "hello")
    assert ended.status == 1
    assert "out of memory" in ended.err


async def test_the_same_key_makes_one_job(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        first = await cli(foreman.url, "submit", "-m", MODEL, "--key", "k", "hello")
        second = await cli(foreman.url, "submit", "-m", MODEL, "--key", "k", "hello")
    assert first.out == second.out != ""


async def test_many_jobs_come_from_lines_and_their_answers_in_their_order(tmp_path):
    lines = tmp_path / "jobs.jsonl"
    lines.write_text(
        '"one"\n\n{"prompt": "two", "model": "qwen3:8b"}\n{"messages": [{"role": "user", "content": "three"}]}\n'
    )
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", str(lines), "--wait")
        assert (ended.status, ended.lines) == (0, ["one", "two", "three"])
        ended = await cli(foreman.url, "submit", "-m", MODEL, "--jsonl", str(lines), "--json")
        assert [json.loads(line)["model"] for line in ended.lines] == [MODEL, "qwen3:8b", MODEL]


async def test_a_bad_line_is_named(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        for line, words in (
            ("{", "line 2 is no JSON"),
            ("7", "line 2 is neither"),
            ('{"prompt": "x"}', "line 2 names no model"),
        ):
            ended = await cli(
                foreman.url, "submit", "--jsonl", "-", given=f'{{"model": "{MODEL}", "prompt": "x"}}\n{line}\n'
            )
            assert ended.status == 2
            assert words in ended.err


async def test_what_does_not_go_together_is_refused(tmp_path):
    for arguments in (("hello",), ("-m", MODEL, "x", "--jsonl", "-"), ("-m", MODEL, "x", "-o", "temperature"),
                      ("-m", MODEL, "--stream", "--json", "x"), ("-m", MODEL, "--timeout", "soon", "x")):  # fmt: skip
        ended = await cli(NOWHERE, "submit", *arguments)
        assert ended.status == 2
        assert "submit --help" in ended.err


async def test_jobs_are_listed_and_filtered(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        await foreman.until_finished(await foreman.submit(MODEL), await foreman.submit("qwen3:8b"))
        both = (await cli(foreman.url, "jobs", "--json")).json
        assert [job["model"] for job in both] == ["qwen3:8b", MODEL]
        assert [job["model"] for job in (await cli(foreman.url, "jobs", "--model", MODEL, "--json")).json] == [MODEL]
        assert (await cli(foreman.url, "jobs", "--state", "failed")).out == "no jobs\n"
        assert len((await cli(foreman.url, "jobs", "--limit", "1", "--json")).json) == 1
        assert len((await cli(foreman.url, "jobs")).lines) == 3


async def test_a_job_that_waits_says_why(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL) as gate:
            first = await foreman.submit(MODEL)
            await gate.reached()
            job_id = await foreman.submit("qwen3:8b")
            said = await cli(foreman.url, "why", job_id)
            assert "for qwen3:8b" in said.out
            assert (await cli(foreman.url, "why", job_id, "--json")).json["state"] == "queued"
            ps = (await cli(foreman.url, "ps", "--json")).json
            assert (ps["queue"]["count"], len(ps["queue"]["running"])) == (1, 1)
            assert (await cli(foreman.url, "cancel", job_id)).out == f"{job_id} cancelled\n"
            gate.release()
        assert "cancelled" in (await cli(foreman.url, "why", job_id)).out
        await foreman.until_finished(first)
        assert (await cli(foreman.url, "cancel", first)).out == f"{first} was over already: done\n"


async def test_show_has_the_history_and_the_answer(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        job_id = await foreman.submit(MODEL, "one two")
        await foreman.until_finished(job_id)
        shown = await cli(foreman.url, "show", job_id)
        for words in (job_id, "job.queued", "job.working", "job.done", "one two", "2 written"):
            assert words in shown.out
        said = (await cli(foreman.url, "show", job_id, "--json")).json
        assert [event["type"] for event in said["events"]][-1] == "job.done"
        assert (await cli(foreman.url, "show", "--answer", job_id)).out == "one two\n"


async def test_retry_prints_the_new_job(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        job_id = await foreman.submit(MODEL)
        await foreman.until_finished(job_id)
        new = (await cli(foreman.url, "retry", job_id)).out.strip()
        assert (await foreman.job(new)).retry_of == job_id


async def test_of_several_jobs_the_unknown_one_stops_no_other(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL):
            jobs = [await foreman.submit(MODEL) for _ in range(2)]
            ended = await cli(foreman.url, "cancel", jobs[0], UNKNOWN, jobs[1])
    assert ended.status == 1
    assert ended.lines == [f"{job_id} cancelled" for job_id in jobs]
    assert UNKNOWN in ended.err


async def test_logs_follow_an_answer_and_give_its_lines(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL, after=1) as gate:
            job_id = await foreman.submit(MODEL, "one two three")
            await gate.reached()
            assert "-f" in (await cli(foreman.url, "logs", job_id)).err
            async with terminal(foreman.url, "logs", "-f", job_id) as shown:
                await shown.shows("one")
                gate.release()
                assert await shown.ended() == 0
        assert shown.text == "one two three\n"
        lines = [json.loads(line) for line in (await cli(foreman.url, "logs", "--json", job_id)).lines]
    assert lines[-1]["done"] is True


async def test_events_are_the_log(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        job_id = await foreman.submit(MODEL)
        await foreman.until_finished(job_id)
        said = [json.loads(line) for line in (await cli(foreman.url, "events", "--after", "0", "--json")).lines]
        assert [event["position"] for event in said] == [*range(1, len(await foreman.events()) + 1)]
        own = await cli(foreman.url, "events", "--after", "0", "--job", job_id, "--type", "job.done", "--json")
        assert [json.loads(line)["type"] for line in own.lines] == ["job.done"]
        async with terminal(foreman.url, "events", "-f") as shown:
            await shown.shows(f"{job_id}  job.done")
            await shown.shows(await foreman.submit(MODEL))
            shown.interrupt()
            assert await shown.ended() == 130


async def test_ctrl_c_while_waiting_says_that_the_job_goes_on(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL) as gate:
            async with terminal(foreman.url, "submit", "-m", MODEL, "--wait", "hello") as shown:
                await gate.reached()
                shown.interrupt()
                assert await shown.ended() == 130
            assert "the job goes on" in shown.text
            job_id = re.search(r"foreman cancel (\w+)", shown.text)
            assert job_id is not None
            assert (await foreman.job(job_id[1])).state == "working"


async def test_top_shows_what_goes_on_until_ctrl_c(tmp_path):
    async with daemon(tmp_path) as (foreman, fake):
        with fake.hold(MODEL) as gate:
            job_id = await foreman.submit(MODEL)
            await gate.reached()
            async with terminal(foreman.url, "top", columns=80) as shown:
                await shown.shows(job_id)
                await shown.shows("last hour")
                shown.interrupt()
                assert await shown.ended() == 130


async def test_watched_jobs_change_as_they_do(tmp_path):
    async with daemon(tmp_path) as (foreman, _), terminal(foreman.url, "jobs", "--watch") as shown:
        await shown.shows("no jobs")
        job_id = await foreman.submit(MODEL)
        await shown.shows(job_id)
        await shown.shows("done")
        shown.interrupt()
        assert await shown.ended() == 130


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
async def test_no_line_is_wider_than_the_terminal(tmp_path, columns):
    async with daemon(tmp_path) as (foreman, fake):
        done = await foreman.submit(MODEL, "word " * 100)
        await foreman.until_finished(done)
        with fake.hold(MODEL) as gate:
            await foreman.submit(MODEL)
            await gate.reached()
            await foreman.submit("qwen3:8b")
            for arguments in (("jobs",), ("ps",), ("show", done), ("events",)):
                async with terminal(foreman.url, *arguments, columns=columns) as shown:
                    assert await shown.ended() == 0
                beyond = [
                    line for line in shown.text.splitlines() if len(line.rstrip()) > columns and "word" not in line
                ]
                assert beyond == [], arguments
                if arguments == ("jobs",) and columns >= 60:
                    assert done in shown.text


async def test_what_a_model_says_does_not_steer_the_terminal(tmp_path):
    text = "\x1b]0;owned\x07\x1b[2Jred"
    async with daemon(tmp_path) as (foreman, _):
        async with terminal(foreman.url, "submit", "-m", MODEL, "--wait", text) as shown:
            assert await shown.ended() == 0
        assert "\x1b]0" not in shown.raw
        assert "\x1b[2J" not in shown.raw
        assert "red" in shown.text


async def test_a_reader_that_has_enough_ends_the_command_quietly(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        await foreman.submit(MODEL)
        child = await start(foreman.url, "events", "-f", "--json")
        await child.stdout.readline()
        child._transport.get_pipe_transport(1).close()
        await foreman.submit(MODEL)
        await foreman.submit(MODEL)
        async with asyncio.timeout(20):
            err = await child.stderr.read()
            await child.wait()
    assert b"Traceback" not in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_is_a_script_of_the_shell(shell):
    ended = await cli(NOWHERE, "completion", shell)
    assert "_FOREMAN_COMPLETE" in ended.out


async def test_completion_knows_verbs_jobs_and_models(tmp_path):
    async def complete(url: str, words: str) -> str:
        number = str(len(words.split(" ")) - 1)
        return (await cli(url, _FOREMAN_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=number)).out

    async with daemon(tmp_path) as (foreman, _):
        job_id = await foreman.submit(MODEL)
        assert "plain,cancel" in await complete(foreman.url, "foreman ca")
        assert f"plain,{job_id}" in await complete(foreman.url, "foreman show 0")
        assert "plain,qwen3:8b" in await complete(foreman.url, "foreman submit --model qw")
    assert (await complete(NOWHERE, "foreman show 0")).strip() == ""


async def test_sigterm_ends_a_follower(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        await foreman.until_finished(await foreman.submit(MODEL))
        child = await start(foreman.url, "events", "-f", "--json")
        await child.stdout.readline()
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await child.communicate()
        assert child.returncode == -signal.SIGTERM


async def test_a_model_that_is_not_there_is_told_with_those_that_are(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        ended = await cli(foreman.url, "submit", "-m", "qwen3", "hello")
    assert ended.status == 1
    assert "there are: llama3.2:latest, qwen3:8b" in ended.err


async def test_of_a_job_past_its_time_the_history_is_shown(tmp_path):
    async with daemon(tmp_path) as (foreman, _):
        job_id = await foreman.submit(MODEL)
        await foreman.until_finished(job_id)
        await foreman.foreman.ledger.execute(ExpireJob(job_id=job_id))
        shown = await cli(foreman.url, "show", job_id)
        assert (shown.status, "job.expired" in shown.out) == (0, True)
        header = shown.out.partition("when")[0]
        assert all(known in header for known in (job_id, "expired", "it was done", MODEL, "chat, batch, submitted"))
        left = (await cli(foreman.url, "show", "--json", job_id)).json
        assert left["events"][-1]["type"] == "job.expired"
        assert (left["job"]["job_id"], left["job"]["state"], left["job"]["class"]) == (job_id, "expired", "batch")
        (listed,) = (await foreman.client.get("/jobs")).json()["jobs"]
        assert left["job"] == {name: listed[name] for name in left["job"]}, "it says what the list says"
        assert "removed by age" in (await cli(foreman.url, "why", job_id)).out


async def test_the_queue_is_shown_also_before_the_target_was_ever_seen(tmp_path):
    async with running(tmp_path, NOWHERE) as foreman:
        shown = await cli(foreman.url, "ps")
    assert shown.status == 0
    assert "away" in shown.out
    assert "nothing waits" in shown.out
