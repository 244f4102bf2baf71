"""The SQLite file: one writer, readers that cannot write, migrations, odd paths, and every refusal by name."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import chdir, closing
from pathlib import Path

import pytest

from foreman.errors import CommitUnknown, DatabaseBroke, DatabaseLocked, DatabaseUnusable, StorageFull
from foreman.storage.database import READERS, Database, Statement

TABLE = "CREATE TABLE things (name TEXT PRIMARY KEY) STRICT;"
INSERT = "INSERT INTO things VALUES (?)"


def insert(*names: str) -> Statement:
    return Statement(INSERT, [(name,) for name in names])


async def opened(path, *migrations: str) -> Database:
    database = Database(path, migrations or (TABLE,))
    await database.open()
    return database


async def names(database: Database) -> list[str]:
    return [name for (name,) in await database.read("SELECT name FROM things ORDER BY name")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "foreman.db"


async def test_transaction_is_durable_and_seen_by_readers_at_once(path):
    database = await opened(path)
    await database.transact([insert("a", "b"), insert(), insert("c")])
    assert await names(database) == ["a", "b", "c"]
    await database.close()
    again = await opened(path)
    assert await names(again) == ["a", "b", "c"]
    await again.close()


async def test_file_is_kept_as_decided(path):
    database = await opened(path)
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum")
    found = [(await database.read_as_writer(f"PRAGMA {pragma}"))[0][0] for pragma in pragmas]
    await database.close()
    assert found == ["wal", 2, 1, 2]  # 2: FULL, and INCREMENTAL


async def test_reader_cannot_write(path):
    database = await opened(path)
    with pytest.raises(DatabaseUnusable, match="readonly"):
        await database.read("DELETE FROM things")
    await database.close()


async def test_more_queries_than_readers_are_all_answered(path):
    database = await opened(path)
    found = await asyncio.gather(*(database.read("SELECT ?", (number,)) for number in range(10 * READERS)))
    await database.close()
    assert found == [[(number,)] for number in range(10 * READERS)]


async def test_cancelled_query_gives_its_reader_back(path):
    database = await opened(path)
    for _ in range(2 * READERS):
        query = asyncio.create_task(database.read("SELECT 1"))
        await asyncio.sleep(0)
        query.cancel()
        await asyncio.wait({query})
    assert await database.read("SELECT 1") == [(1,)]
    await database.close()


async def test_queries_under_way_are_answered_before_the_end(path):
    database = await opened(path)
    queries = [asyncio.create_task(database.read("SELECT 1")) for _ in range(5 * READERS)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*queries) == [[(1,)]] * len(queries)


async def test_transaction_is_whole_though_whoever_waited_for_it_has_gone(path):
    database = await opened(path)
    writing = asyncio.create_task(database.transact([insert(*map(str, range(1_000)))]))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing})
    await database.close()
    again = await opened(path)
    assert len(await names(again)) == 1_000
    await again.close()


async def test_full_disk_writes_nothing_and_passes(path):
    database = await opened(path)
    ((pages,),) = await database.read_as_writer("PRAGMA page_count")
    await database.read_as_writer(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull):
        await database.transact([insert("a"), insert("x" * 100_000)])
    await database.transact([insert("b")])
    assert await names(database) == ["b"]
    await database.close()


async def test_full_disk_does_not_stop_the_giving_back_of_space(path):
    database = await opened(path)
    ((pages,),) = await database.read_as_writer("PRAGMA page_count")
    await database.read_as_writer(f"PRAGMA max_page_count = {pages}")
    assert await database.give_back_space() == 0
    await database.close()


async def test_what_sqlite_refuses_is_a_commit_of_unknown_fate_that_says_why(path):
    database = await opened(path)
    with pytest.raises(CommitUnknown, match=r"UNIQUE constraint failed.*SQLITE_CONSTRAINT"):
        await database.transact([insert("a"), insert("a")])
    await database.close()
    again = await opened(path)
    assert await names(again) == []
    await again.close()


async def test_writing_beside_another_writer_is_refused_by_name(path):
    database = await opened(path)
    await database.read_as_writer("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(CommitUnknown, match=r"writing to .*foreman\.db failed: database is locked \(SQLITE_BUSY\)"):
            await database.transact([insert("a")])
        stranger.execute("INSERT INTO things VALUES ('b')")
        stranger.execute("DELETE FROM things")
        with pytest.raises(CommitUnknown, match="shrinking"):
            await database.give_back_space()
    await database.close()


async def test_migrations_run_once_and_in_order(path):
    await (await opened(path, TABLE)).close()
    again = await opened(path, TABLE, "ALTER TABLE things RENAME TO others;")
    assert await again.read("SELECT name FROM sqlite_schema WHERE type = 'table'") == [("others",)]
    assert await again.read("PRAGMA user_version") == [(2,)]
    await again.close()


async def test_failed_migration_leaves_nothing_behind(path):
    await (await opened(path, TABLE)).close()
    with pytest.raises(DatabaseUnusable, match="no such table: nowhere"):
        await opened(path, TABLE, "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);")
    again = await opened(path, TABLE)
    assert await again.read("SELECT name FROM sqlite_schema WHERE name = 'half'") == []
    await again.close()


async def test_file_of_a_newer_version_is_refused_and_left_alone(path):
    await (await opened(path, TABLE, TABLE.replace("things", "more"))).close()
    with pytest.raises(DatabaseUnusable, match=r"newer foreman \(schema 2, this one knows 1\)"):
        await opened(path, TABLE)


async def test_file_that_is_no_database_is_refused(path):
    path.write_bytes(b"not a database at all " * 100)
    with pytest.raises(DatabaseUnusable, match=r"cannot open .*not a database"):
        await opened(path)


def strange(path: Path, script: str) -> dict[str, bytes]:
    """Make another program's file; all that its folder holds then."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript(script)
    return contents(path.parent)


def contents(folder: Path) -> dict[str, bytes]:
    return {found.name: found.read_bytes() for found in folder.iterdir()}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("CREATE TABLE t (x)", "it has a table 't' of another program's"),
        ("CREATE TABLE a (x); CREATE VIEW b AS SELECT 1", "it has a table 'a' and 1 more of another program's"),
        ("CREATE VIEW v AS SELECT 1", "it has a table 'v' of another program's"),
        ("CREATE TABLE things (x)", "it has a table 'things' of another program's"),
        ("CREATE TABLE t (x); PRAGMA user_version = 1", "it has a table 't'"),
        ("CREATE TABLE t (x); PRAGMA user_version = 9", "it has a table 't'"),
        ("PRAGMA journal_mode = WAL; CREATE TABLE t (x)", "it has a table 't'"),
        ("PRAGMA user_version = 3", "it says that its schema is 3, and has no tables"),
        (f"{TABLE} PRAGMA user_version = -1", "but says that its schema is -1: somebody has changed that"),
        (TABLE, "but says that its schema is 0: somebody has changed that"),
    ],
)
async def test_database_of_another_program_is_refused_and_stays_as_it_was(path, script, said):
    before = strange(path, script)
    with pytest.raises(DatabaseUnusable, match=re.escape(said)) as refused:
        await opened(path)
    assert "FOREMAN_DB_PATH" in refused.value.hint or "backup" in refused.value.hint
    assert contents(path.parent) == before


async def test_database_that_another_program_has_open_is_refused_and_stays_as_it_was(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (x)")
        before = path.read_bytes()
        with pytest.raises(DatabaseUnusable, match="is no database of foreman's"):
            await opened(path)
        assert path.read_bytes() == before
        other.execute("INSERT INTO t VALUES (1)")
        assert other.execute("SELECT * FROM t").fetchall() == [(1,)]
    assert list(contents(path.parent)) == [path.name]


async def test_transaction_that_another_program_broke_off_is_rolled_back_and_not_taken_for_an_empty_file(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("PRAGMA cache_spill = OFF")
        other.execute("BEGIN")
        other.execute("DROP TABLE t")
        with pytest.raises(DatabaseUnusable, match="is no database of foreman's"):
            await opened(path)
        other.execute("ROLLBACK")
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("t",)]


@pytest.mark.parametrize("script", ["", "VACUUM", "CREATE TABLE t (x); DROP TABLE t; VACUUM"])
async def test_file_without_tables_becomes_foremans(path, script):
    strange(path, script)
    database = await opened(path)
    await database.transact([insert("a")])
    await database.close()
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("PRAGMA user_version").fetchone() == (1,)


async def test_file_of_foremans_that_somebody_changed_is_still_foremans(path):
    await (await opened(path, TABLE + "CREATE TABLE more (x);")).close()
    strange(path, "DROP TABLE more; CREATE TABLE notes (text)")
    database = await opened(path, TABLE + "CREATE TABLE more (x);")
    assert await names(database) == []
    await database.close()


async def test_damage_is_said_with_the_way_to_a_backup(path):
    database = await opened(path)
    await database.transact([insert(*(f"{number:0500}" for number in range(100)))])
    await database.close()
    path.write_bytes(path.read_bytes()[:8192])
    with pytest.raises(DatabaseUnusable, match="malformed") as told:
        await opened(path)
    assert told.value.hint == DatabaseBroke.hint
    assert "backup" in told.value.hint


async def test_place_without_a_write_ahead_log_is_refused(tmp_path):
    with chdir(tmp_path), pytest.raises(DatabaseUnusable, match="write-ahead log, only a journal of kind 'memory'"):
        await opened(Path(":memory:"))


async def test_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DatabaseUnusable, match=r"there is no folder .*nowhere"):
        await opened(tmp_path / "nowhere" / "foreman.db")


@pytest.mark.parametrize("name", ["a?b.db", "a#b.db", "a%20b.db", "a b.db", "ä☃.db", "a?mode=memory&cache=shared"])
async def test_path_is_taken_as_it_is(tmp_path, name):
    database = await opened(tmp_path / name)
    await database.transact([insert("a")])
    assert await names(database) == ["a"]
    await database.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"{name}.lock"])


async def test_relative_path_is_the_same_file_for_everybody(tmp_path):
    with chdir(tmp_path):
        database = await opened(Path("foreman.db"))
        await database.transact([insert("a")])
        assert await names(database) == ["a"]
        await database.close()


async def test_second_opening_is_refused_and_harms_nothing(path):
    database = await opened(path)
    with pytest.raises(DatabaseLocked):
        await opened(path)
    await database.transact([insert("a")])
    assert await names(database) == ["a"]
    await database.close()


async def test_failed_opening_gives_the_lock_back(path):
    path.write_bytes(b"not a database at all " * 100)
    with pytest.raises(DatabaseUnusable):
        await opened(path)
    assert list(contents(path.parent)) == [path.name], "nor is a lock left beside what is no database"
    path.unlink()
    await (await opened(path)).close()


async def test_closing_twice_or_before_opening_is_harmless(path):
    database = Database(path, (TABLE,))
    await database.close()
    await database.open()
    await database.close()
    await database.close()


async def test_closed_database_says_so_instead_of_keeping_anybody_waiting(path):
    database = await opened(path)
    await database.close()
    for use in (database.read("SELECT 1"), database.read_as_writer("SELECT 1"), database.transact([insert("a")])):
        with pytest.raises(DatabaseUnusable, match="is not open"):
            await use


async def test_closing_checkpoints_so_that_one_file_is_left(path):
    database = await opened(path)
    await database.transact([insert("a")])
    await database.close()
    assert {found.name for found in path.parent.iterdir()} == {"foreman.db", "foreman.db.lock"}


async def test_new_file_and_what_is_beside_it_are_their_owners_alone(path):
    database = await opened(path)
    await database.transact([insert("a")])
    modes = [path.with_name(f"{path.name}{ending}").stat().st_mode & 0o777 for ending in ("", "-wal", "-shm")]
    await database.close()
    assert modes == [0o600] * 3


async def test_mode_of_a_file_that_is_there_is_left_alone(path):
    path.touch()
    path.chmod(0o640)
    database = await opened(path)
    await database.close()
    assert path.stat().st_mode & 0o777 == 0o640


async def test_those_who_read_without_a_pause_let_others_have_their_turn(path):
    database = await opened(path)
    reads, stop = 0, False

    async def follow() -> None:
        nonlocal reads
        while not stop:
            await database.read("SELECT 1")
            reads += 1

    followers = [asyncio.create_task(follow()) for _ in range(3 * READERS)]
    for _ in range(20):
        before = reads
        await database.read("SELECT 1")
        assert reads - before <= 6 * READERS, "whoever came first is served first"
    stop = True
    await asyncio.gather(*followers)
    await database.close()
