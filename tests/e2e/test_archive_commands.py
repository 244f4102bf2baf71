"""`export`, `import`, `backup` and `compact` as programs: killed, interrupted, unread, and beside a busy daemon."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from foreman.clock import rfc3339
from foreman.commands.schema import MIGRATIONS
from foreman.events import log
from foreman.events.codec import CODEC, GENESIS, chain_hash
from foreman.events.daemon import TargetRecovered
from foreman.events.history import History
from foreman.storage.still import still
from tests.archive_kit import day, dump, lived
from tests.e2e.compact_killed import STEPS
from tests.fakes.ollama import FakeOllama
from tests.kit import PATIENCE_S, Process

BACKUPS = 5
#: Clients that submit as fast as they are answered.
CLIENTS = 8


async def run(*arguments: object, module: str = "foreman", **variables: str) -> tuple[int, bytes, str]:
    """A command's exit status, what it printed, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | variables,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out, err.decode()


def positions(path: Path) -> list[tuple[int, bytes]]:
    with still(path) as file:
        return [(event.position, event.hash) for event in History(file).events()]


@pytest.mark.parametrize("step", STEPS)
async def test_compacting_killed_at_any_step_loses_nothing(tmp_path, step):
    path = await lived(tmp_path)
    before = await dump(path)
    status, _, said = await run(path, step, module="tests.e2e.compact_killed")
    assert status == (0 if step == "never" else -signal.SIGKILL), said
    assert await dump(path) == before
    # What it left does not stand in the way of the next one.
    again = ("compact", "--db", path, "--archive", tmp_path / "archive", "--before", rfc3339(day(3)))
    status, _, said = await run(*again)
    assert status == 0, said
    assert await dump(path) == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT min(position) FROM events").fetchone()[0] > 1
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert not list(tmp_path.rglob("*.partial"))


async def test_a_backup_beside_a_busy_daemon_is_sound_and_a_beginning_of_its_log(tmp_path):
    path = tmp_path / "foreman.db"
    async with FakeOllama(models=["a", "b"]) as fake:
        daemon = Process(tmp_path, fake.url)
        load: list[asyncio.Task[None]] = []
        try:
            async with httpx.AsyncClient(base_url=await daemon.start(), timeout=PATIENCE_S, trust_env=False) as client:
                load = [asyncio.create_task(submit_on(client)) for _ in range(CLIENTS)]
                made = []
                for number in range(BACKUPS):
                    status, out, said = await run("backup", tmp_path / f"{number}.copy", "--db", path, "--json")
                    assert status == 0, said
                    made.append(json.loads(out))
                for task in load:
                    task.cancel()
                await asyncio.wait(load)
        finally:
            await daemon.kill()
    log = positions(path)
    heads = [one["position"] for one in made]
    assert heads == sorted(set(heads)), "the log grew all the time"
    for number, one in enumerate(made):
        copied = positions(tmp_path / f"{number}.copy")
        assert copied == log[: one["position"]]
        assert copied[-1][1].hex() == one["hash"]
        assert (tmp_path / f"{number}.copy").stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.copy?*"))


async def submit_on(client: httpx.AsyncClient) -> None:
    body = {"model": "a", "messages": [{"role": "user", "content": "hello " * 200}]}
    while True:
        (await client.post("/jobs", json=body)).raise_for_status()


async def test_an_export_whose_reader_leaves_ends_quietly(tmp_path):
    path = await lived(tmp_path, days=200, kept=150)
    command = f"{sys.executable} -m foreman export --artifacts --db {path} | head -n 1; echo ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    first, status = out.splitlines()
    assert json.loads(first)["format"] == "foreman-log"
    assert (int(status), err) == (141, b"")


async def test_an_export_that_is_interrupted_leaves_nothing(tmp_path):
    path = await lived(tmp_path, days=150)
    # A pipe in the file's place: once it is full the export is in the middle, and stays there.
    os.mkfifo(tmp_path / "out.partial")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "foreman", "export", "--db", path, "-o", tmp_path / "out", stderr=asyncio.subprocess.PIPE
    )
    reader = await asyncio.to_thread(os.open, tmp_path / "out.partial", os.O_RDONLY)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        assert await asyncio.to_thread(pipe.read, 1) == b"{"
        process.send_signal(signal.SIGINT)
        got = await asyncio.to_thread(pipe.readall)
    async with asyncio.timeout(PATIENCE_S):
        _, said = await process.communicate()
    assert b'"end":true' not in got
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert not list(tmp_path.glob("out*"))


async def test_a_log_goes_through_a_pipe_into_a_new_database(tmp_path):
    path = await lived(tmp_path)
    await run("compact", "--db", path, "--before", "1d")
    new = tmp_path / "new.db"
    foreman = f"{sys.executable} -m foreman"
    command = (
        f"set -o pipefail; {foreman} export --artifacts --db {path} | gzip | {foreman} import - --into {new} --json"
    )
    process = await asyncio.create_subprocess_exec("bash", "-c", command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(out)["artifacts_missing"] == 0
    assert await dump(new) == await dump(path)


async def test_backups_in_a_folder_are_rotated_and_archives_go_along(tmp_path):
    path, folder = await lived(tmp_path), tmp_path / "backups"
    folder.mkdir()
    (folder / "mine.db").write_text("not a backup")
    await run("compact", "--db", path, "--before", "1d")
    for year in (2001, 2002, 2003):
        (folder / f"foreman-{year}0101T000000Z.db").write_bytes(path.read_bytes())
    status, out, said = await run("backup", folder, "--keep", 2, "--db", path, "--json")
    assert status == 0, said
    made = json.loads(out)
    assert made["archives_copied"] == 1
    assert sorted(found.name for found in folder.glob("*.db")) == [
        "foreman-20030101T000000Z.db", Path(made["file"]).name, "mine.db",
    ]  # fmt: skip
    path.with_name("foreman.db.archive").rename(tmp_path / "gone")
    assert await dump(Path(made["file"])) == await dump(folder / "foreman-20030101T000000Z.db")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("backup", "OTHER"), 1, "is no older backup"),
        (("backup", "DB"), 1, "is the database itself"),
        (("export", "-o", "DB"), 1, "is a database, and no export is written over one"),
        (("backup", "missing/copy.db"), 1, "missing"),
        (("backup", "copy.db", "--keep", "3"), 2, "there is no such folder: make it"),
        (("backup", "copy.db/"), 2, "copy.db/: there is no such folder: make it"),
        (("backup", "OTHER", "--keep", "3"), 2, "that is a file"),
        (("backup", "copy.db", "--db", "missing.db"), 2, "there is no such file"),
        (("compact", "--before", "soon"), 2, "is no date"),
        (("compact", "--before", "30d", "--db", "missing.db"), 2, "there is no such file"),
        (("export", "--artifacts", "--cloudevents"), 2, "without --cloudevents"),
        (("export", "--after", "100000"), 1, "the log ends at position"),
        (("import", "OTHER", "--into", "new.db"), 1, "line 1"),
        (("import", "missing", "--into", "new.db"), 2, "check its name"),
        (("replay", "--into", "missing/new.db"), 2, "there is no folder"),
        (("replay", "--into", "DB"), 2, "give another name"),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_line(tmp_path, arguments, status, words):
    path = await lived(tmp_path, days=2)
    (tmp_path / "other.txt").write_text("something else\n")
    named = {
        "OTHER": tmp_path / "other.txt",
        "DB": path,
        "copy.db": tmp_path / "copy.db",
        "copy.db/": f"{tmp_path}/copy.db/",
        "new.db": tmp_path / "new.db",
    }
    given = [named.get(argument, argument) for argument in arguments]
    database = () if "--db" in arguments or arguments[0] == "import" else ("--db", path)
    ended, _, said = await run(*given, *database)
    assert (ended, "Traceback" in said) == (status, False), said
    assert words in said
    assert (tmp_path / "other.txt").read_text() == "something else\n"
    assert not list(tmp_path.glob("*.partial"))
    assert not (tmp_path / "copy.db").exists()
    assert len(positions(path)) > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "copy.db", "--db", "missing.db"),
        ("compact", "--before", "30d", "--db", "missing.db"),
        ("import", "missing", "--into", "new.db"),
        ("replay", "--db", "missing.db", "--until", "1"),
        ("audit", "--db", "missing.db"),
    ],
)
async def test_what_is_wrong_with_a_file_is_json_too(tmp_path, arguments):
    given = [tmp_path / argument if "." in argument else argument for argument in arguments]
    ended, out, said = await run(*given, "--json")
    assert (ended, out) == (2, b"")
    assert set(json.loads(said)) == {"error", "code", "hint"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("compact", "--before", "1d"),
        ("backup", "copy.db"),
        ("export",),
        ("replay", "--until", "1"),
        ("replay", "--into", "new.db"),
        ("audit",),
        ("serve",),
    ],
)
@pytest.mark.parametrize("script", ["", "PRAGMA user_version = 3; PRAGMA journal_mode = WAL;"])
async def test_the_database_of_another_program_is_named_so_and_stays_as_it_was(tmp_path, arguments, script):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script + "CREATE TABLE jobs (number)")
    before = path.read_bytes()
    given = [tmp_path / argument if "." in argument else argument for argument in arguments]
    status, _, said = await run(*given, FOREMAN_DB_PATH=str(path))
    expected = 1 if arguments == ("serve",) else 2
    assert (status, "is no database of foreman's" in said, "FOREMAN_DB_PATH" in said) == (expected, True, True), said
    assert (path.read_bytes(), [found.name for found in tmp_path.iterdir()]) == (before, ["other.db"])


async def test_a_damaged_database_is_said_to_be_one_with_the_way_to_a_backup(tmp_path):
    path = await lived(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for command in (("export",), ("backup", tmp_path / "copy.db"), ("replay", "--into", tmp_path / "new.db")):
        status, _, said = await run(*command, "--db", path)
        assert status in (1, 2), said
        assert "put the last backup in its place" in said
        assert not list(tmp_path.glob("copy.db*")) + list(tmp_path.glob("new.db*"))


async def test_backups_within_one_second_have_names_of_their_own(tmp_path):
    path, folder = await lived(tmp_path, days=1), tmp_path / "backups"
    folder.mkdir()
    made = [json.loads((await run("backup", folder, "--keep", 2, "--db", path, "--json"))[1])["file"] for _ in range(3)]
    assert made == sorted(set(made))
    assert [str(found) for found in sorted(folder.iterdir())] == made[1:]


async def test_compacting_by_a_link_puts_archives_beside_the_file_itself(tmp_path):
    path, link = await lived(tmp_path), tmp_path / "links" / "foreman.db"
    link.parent.mkdir()
    link.symlink_to(path)
    status, _, said = await run("compact", "--db", link, "--before", "1d")
    assert status == 0, said
    assert [found.name for found in link.parent.iterdir()] == ["foreman.db"]
    with still(path) as file:
        assert [Path(archive.file).parent for archive in History(file).archives()] == [Path("foreman.db.archive")]


async def test_a_database_of_an_older_foreman_can_be_backed_up_before_the_upgrade(tmp_path):
    path = tmp_path / "foreman.db"
    with closing(sqlite3.connect(path)) as older:
        for script in MIGRATIONS[:3]:
            older.executescript(script)
        older.execute("PRAGMA user_version = 3")
        text = CODEC.encode(TargetRecovered(version="0.1", away_s=None))
        hash_ = chain_hash(GENESIS, 1, "daemon", 1, "target.recovered", 5, text)
        older.execute(log.INSERT, (1, "daemon", 1, "target.recovered", 5, text, hash_))
        older.commit()
    status, said, _ = await run("backup", tmp_path / "copy.db", "--db", path)
    assert (status, b"of an older foreman: its log's chain is whole" in said) == (0, True)
    with closing(sqlite3.connect(path)) as older:
        older.execute("DROP TRIGGER events_are_never_changed")
        older.execute("UPDATE events SET at = 6")
        older.commit()
    status, _, said = await run("backup", tmp_path / "other.db", "--db", path)
    assert (status, "event 1 does not fit" in said) == (1, True)
    assert not (tmp_path / "other.db").exists()
