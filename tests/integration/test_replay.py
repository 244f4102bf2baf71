"""A recorded run under other rules, and `foreman replay` as it is called."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from foreman.cli import main
from foreman.events.history import History
from foreman.replay.policy import played, recorded
from foreman.replay.recording import Recording
from foreman.replay.simulation import NEVER, Discipline
from foreman.scheduling.scheduler import Policy
from foreman.storage.still import still
from tests.e2e.cli_kit import terminal
from tests.fakes.ollama import FakeOllama
from tests.kit import running
from tests.mutations import change

FIFO = Discipline("fifo", NEVER, by_model=False, by_class=False)
LOAD_S, TOKEN_S = 0.3, 0.02


async def record(folder: Path, parallel: int = 1) -> Recording:
    """Some seconds of chats and batches for three models, as they really went."""
    dice = random.Random(1)
    settings = {"max_wait_interactive": "1s", "max_wait": "3s", "parallel": str(parallel)}
    async with (
        FakeOllama(["a", "b", "c"], load_seconds=LOAD_S, seconds_per_token=TOKEN_S, parallel=parallel) as fake,
        running(folder, fake.url, **settings) as foreman,
    ):
        chats = [asyncio.create_task(foreman.chat(model, "word " * dice.randint(1, 8))) for model in "abcabc"]
        first = [await foreman.submit(dice.choice("abc"), "word " * dice.randint(1, 10)) for _ in range(20)]
        await foreman.until_finished(first[0])
        chats += [asyncio.create_task(foreman.chat(model, "word " * dice.randint(1, 8))) for model in "cabcab"]
        await asyncio.gather(*chats)
        await foreman.until_finished(*first, await foreman.submit("c"))
    with still(folder / "foreman.db") as file:
        return Recording.of(History(file).events())


def rules_of(recording: Recording) -> Policy:
    ((_, scheduling),) = recording.lives
    assert scheduling is not None
    return Policy.of(scheduling)


@pytest.mark.parametrize("parallel", [1, 2])
async def test_policy_that_ran_agrees_with_what_really_happened(tmp_path, parallel):
    recording = await record(tmp_path, parallel)
    rules = rules_of(recording)
    assert rules == Policy(max_wait_interactive_s=1.0, max_wait_batch_s=3.0, parallel=parallel)
    real, ran = recorded(recording), played(recording, Discipline("ran", rules))
    assert ran.makespan_s == pytest.approx(real.makespan_s, rel=0.02)
    assert (ran.swaps, ran.finished) == (real.swaps, real.finished)
    assert ran.busy_share == pytest.approx(real.busy_share, rel=0.1)
    assert ran.batch.median_s == pytest.approx(real.batch.median_s, rel=0.2)


async def test_other_rules_make_more_swaps_or_cost_more(tmp_path):
    recording = await record(tmp_path)
    real, ran = recorded(recording), Discipline("ran", rules_of(recording))
    fifo, drain = played(recording, FIFO), played(recording, Discipline("drain", NEVER, by_class=False))
    assert fifo.swaps > 2 * drain.swaps
    assert fifo.makespan_s > real.makespan_s > 0
    dear = played(recording, ran, {"a": 9.0, "b": 9.0, "c": 9.0})
    assert dear.makespan_s > real.makespan_s + 8 * 3


def call(folder: Path, *arguments: str, status: int = 0) -> str:
    ended = CliRunner().invoke(main, ["replay", "--db", str(folder / "foreman.db"), *arguments])
    assert ended.exit_code == status, ended.output
    return ended.stdout


async def test_command_rebuilds_shows_a_moment_and_compares_policies(tmp_path):
    await record(tmp_path)
    made = json.loads(call(tmp_path, "--into", str(tmp_path / "new.db"), "--json"))
    assert (made["equal"], made["artifacts_missing"], made["first_difference"]) == (True, 0, None)
    then = json.loads(call(tmp_path, "--until", "12", "--json"))
    assert then["position"] == 12
    assert then["running"] or then["waiting"]
    assert f"after event {made['position']:,}" in call(tmp_path, "--until", "2100-01-01")
    columns = json.loads(call(tmp_path, "--policy", "fifo", "--policy", "drain", "--max-wait", "2s", "--json"))[
        "columns"
    ]
    assert [column["name"] for column in columns] == ["recorded", "ran", "fifo", "drain", "changed"]
    assert "makespan" in call(tmp_path, "--policy", "ran", "--load-cost", "a=1s")
    call(tmp_path, "--into", str(tmp_path / "new.db"), status=2)


@pytest.mark.parametrize(("columns", "tables"), [(40, 5), (80, 1)])
async def test_terminal_too_narrow_for_all_columns_has_a_table_for_each(tmp_path, columns, tables):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit("a"))
    asked = (
        "replay",
        "--db",
        str(tmp_path / "foreman.db"),
        "--policy",
        "fifo",
        "--policy",
        "drain",
        "--max-wait",
        "5m",
    )
    async with terminal("", *asked, columns=columns) as shown:
        assert await shown.ended() == 0
    assert shown.text.count("interactive wait, median") == tables


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--until", "3", "--policy", "fifo"),
        ("--until", "noon"),
        ("--until", "999"),
        ("--log-only", "--until", "1"),
        ("--load-cost", "a"),
        ("--load-cost", "nobody=3s"),
        ("--policy", "lifo"),
    ],
)
async def test_what_cannot_be_asked_ends_with_2(tmp_path, arguments):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url):
        pass
    call(tmp_path, *arguments, status=2)


async def test_damaged_artifact_and_changed_view_are_said_and_end_with_1(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        job_id = await foreman.submit("a")
        await foreman.until_finished(job_id)
        await foreman.foreman.database.read_as_writer("UPDATE artifacts SET bytes = x'00' WHERE name = 'completion'")
        await foreman.foreman.database.read_as_writer("UPDATE jobs SET state = 'failed'")
    where = ["--db", str(tmp_path / "foreman.db"), "--into", str(tmp_path / "new.db")]
    ended = CliRunner().invoke(main, ["replay", *where])
    assert ended.exit_code == 1
    assert f"completion of {job_id}" in ended.stderr
    assert "NOT equal" in ended.stderr


async def test_changed_event_and_a_view_that_cannot_be_read_are_named(tmp_path):
    async with FakeOllama(["a"]) as fake, running(tmp_path, fake.url) as foreman:
        await foreman.until_finished(await foreman.submit("a"))
    path = tmp_path / "foreman.db"
    change(path, "UPDATE jobs SET view = '{\"job_id\":'")
    ended = CliRunner().invoke(main, ["replay", "--db", str(path), "--into", str(tmp_path / "new.db")])
    assert (ended.exit_code, "NOT equal" in ended.stderr) == (1, True)
    assert CliRunner().invoke(main, ["audit", "--db", str(tmp_path / "new.db")]).exit_code == 0
    change(path, "UPDATE events SET at = at + 1 WHERE position = 3")
    for asked in (["--until", "4"], ["--policy", "fifo"], ["--into", str(tmp_path / "another.db")]):
        ended = CliRunner().invoke(main, ["replay", "--db", str(path), *asked])
        assert (ended.exit_code, "event 3: it does not fit the hash" in ended.stderr) == (1, True), asked
