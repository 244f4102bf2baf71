"""Compacting: old events move into archives that are read as the log's beginning, and into nothing else."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from foreman.archive.compact import Plan, compact, plan
from foreman.audit import Code, audit
from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import Note
from foreman.errors import ArchiveUnusable, CopyFailed, DatabaseLocked, ExportInvalid, LogCorrupt
from foreman.events import log
from foreman.events.archives import Archive
from foreman.events.history import History
from foreman.projections import snapshots
from foreman.storage.database import Database, Statement
from foreman.storage.still import still
from tests.archive_kit import BEGIN, day, dump, lived
from tests.core import DEGRADED, HandClock, opened, submit
from tests.unit.test_export import exported, imported


def planned(path: Path, before: int) -> Plan:
    with still(path) as file:
        return plan(file, before)


async def compacted(path: Path, before: int, folder: Path | None = None) -> Archive | None:
    database = Database(path, MIGRATIONS)
    await database.open()
    try:
        return await compact(database, planned(path, before), folder or path.with_name("archive"), lambda _: None)
    finally:
        await database.close()


def events(path: Path) -> list[tuple]:
    with still(path) as file:
        return list(History(file).events())


def execute(path: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def count(path: Path) -> int:
    return execute(path, "SELECT count(*) FROM events")[0][0]


@pytest.fixture
async def database(tmp_path) -> Path:
    return await lived(tmp_path)


async def test_what_is_read_of_a_log_is_the_same_before_and_after(tmp_path, database):
    before, whole, lines = await dump(database), events(database), exported(database, artifacts=True)
    archive = await compacted(database, day(3))
    assert archive is not None
    assert 0 < archive.last == len(whole) - count(database)
    assert await dump(database) == before
    assert events(database) == whole
    assert exported(database, artifacts=True) == lines
    imported(lines, tmp_path)
    assert count(tmp_path / "new.db") == len(whole)


async def test_an_audit_is_clean_before_and_after_and_finds_a_changed_archive(database):
    assert audit(database).is_clean
    archive = await compacted(database, day(3))
    assert archive is not None
    assert audit(database).is_clean
    path = archive.path(database)
    path.write_bytes(path.read_bytes()[:-1])
    assert Code.ARCHIVE_DIFFERS in audit(database).findings.counts


async def test_parts_and_streams_are_read_across_the_border(database):
    whole = events(database)
    archive = await compacted(database, day(3))
    assert archive is not None
    border = archive.last
    with still(database) as file:
        history = History(file)
        for after, until in [(0, border), (border - 1, border + 1), (border, border + 2), (2, 5), (border + 1, 10**6)]:
            assert list(history.events(after, until)) == [each for each in whole if after < each.position <= until]
        for stream in {each.stream for each in whole} | {"unknown"}:
            assert list(history.of_stream(stream)) == [each for each in whole if each.stream == stream]


async def test_nothing_younger_and_no_job_with_contents_is_moved(database):
    plans = [planned(database, day(number)) for number in range(7)]
    assert plans[0].count == 0
    assert [each.count for each in plans[1:4]] == sorted({each.count for each in plans[1:4]})
    assert "is not older" in plans[2].because
    # Days 4 and 5 have jobs that are kept.
    assert plans[4].count < plans[5].count == plans[6].count
    assert "is done and not expired yet" in plans[6].because


async def test_the_chain_and_the_daemons_own_numbers_go_on(tmp_path):
    path = await lived(tmp_path, days=3, kept=0)
    execute(path, "DELETE FROM jobs WHERE state != 'expired'")  # the one that waits: nothing of a job holds it up now
    archive = await compacted(path, day(100))
    assert archive is not None
    assert count(path) == 1
    async with opened(tmp_path, HandClock(BEGIN)) as core:
        await core.do(Note(event=DEGRADED))
    whole = events(path)
    assert [each.position for each in whole] == [*range(1, len(whole) + 1)]
    own = [each.version for each in whole if each.stream == "daemon"]
    assert own == [*range(1, len(own) + 1)]
    imported(exported(path, until=archive.last), tmp_path)


async def test_a_second_archive_goes_on_where_the_first_ended(database):
    whole = events(database)
    first, second = await compacted(database, day(2)), await compacted(database, day(4))
    assert first is not None
    assert second is not None
    assert (second.first, second.previous_hash) == (first.last + 1, first.hash)
    assert events(database) == whole
    assert await compacted(database, day(4)) is None


async def test_a_start_needs_no_archive_and_a_new_version_of_a_projection_reads_it(tmp_path, database):
    async with opened(tmp_path) as core:
        statistics, tally, timeline = core.ledger.statistics, core.ledger.tally, core.ledger.timeline
    archive = await compacted(database, day(3))
    assert archive is not None
    hidden = archive.path(database).rename(tmp_path / "hidden")
    async with opened(tmp_path) as core:
        assert (core.ledger.statistics, core.ledger.tally, core.ledger.timeline) == (statistics, tally, timeline)
        await core.do(submit())
        statistics = core.ledger.statistics
        await core.database.transact([Statement("DELETE FROM snapshots WHERE ?", [(1,)])])
    with pytest.raises(ArchiveUnusable, match=r"events-0.*cannot be read: No such file"):
        async with opened(tmp_path):
            pass
    hidden.rename(archive.path(database))
    async with opened(tmp_path) as core:
        assert core.ledger.statistics == statistics


async def test_a_time_is_found_among_the_events_that_are_left(tmp_path, database):
    archive = await compacted(database, day(3))
    assert archive is not None
    async with opened(tmp_path) as core:
        assert await log.position_at(core.database.read, day(0)) == archive.last + 1
        assert await log.position_at(core.database.read, day(4)) > archive.last + 1


@pytest.mark.parametrize("how", ["missing", "cut", "changed", "replaced"])
async def test_an_archive_that_is_not_as_it_was_written_is_named(database, how):
    archive = await compacted(database, day(3))
    assert archive is not None
    path = archive.path(database)
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:-9])
    elif how == "changed":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(b"")
    with pytest.raises(ArchiveUnusable, match=r"events-000000000001-.*jsonl\.gz"):
        events(database)


async def test_a_log_that_does_not_fit_its_hashes_is_not_archived(database):
    # The trigger would not let it happen.
    execute(database, "DROP TRIGGER events_are_never_changed")
    execute(database, "UPDATE events SET at = at + 1 WHERE position = 4")
    whole = count(database)
    with pytest.raises(ExportInvalid, match="position 4 does not fit"):
        await compacted(database, day(3))
    assert count(database) == whole
    assert list(database.with_name("archive").iterdir()) == []


async def test_a_log_without_its_last_event_to_move_is_named(database):
    last = planned(database, day(3)).header.until
    execute(database, "DROP TRIGGER events_are_never_removed")
    execute(database, f"DELETE FROM events WHERE position = {last}")
    with pytest.raises(LogCorrupt, match=f"no event at position {last}"):
        planned(database, day(3))


async def test_a_name_that_is_taken_by_a_folder_is_refused_in_words(database):
    (database.with_name("archive") / planned(database, day(3)).name).mkdir(parents=True)
    whole = count(database)
    with pytest.raises(CopyFailed, match="Is a directory"):
        await compacted(database, day(3))
    assert count(database) == whole


async def test_archives_belong_to_the_owner_of_the_database(database):
    if os.geteuid() == 0:  # only root can write what belongs to others
        os.chown(database, 1, 1)
    archive = await compacted(database, day(3))
    assert archive is not None
    path, owner = archive.path(database), database.stat().st_uid
    assert (path.stat().st_uid, path.parent.stat().st_uid) == (owner, owner)


async def test_a_run_that_is_interrupted_stops_where_it_is(tmp_path, database):
    whole, made = count(database), planned(database, day(3))
    file = Database(database, MIGRATIONS)
    await file.open()
    task = asyncio.create_task(compact(file, made, tmp_path / "archive", lambda _: task.cancel()))
    await asyncio.wait({task})
    await file.close()
    assert task.cancelled()
    assert count(database) == whole
    assert list((tmp_path / "archive").iterdir()) == []


async def test_an_archive_that_a_killed_run_left_is_taken_if_it_is_whole(database):
    made = planned(database, day(3))
    folder = database.with_name("archive")
    folder.mkdir()
    (folder / made.name).write_bytes(b"half an archive")
    archive = await compacted(database, day(3))
    assert archive is not None
    written = archive.path(database).stat()
    # A copy of the same log, compacted likewise, has the same file: it is not written again.
    again = database.with_name("copy.db")
    imported_whole = exported(database)
    imported(imported_whole, database.parent, "copy.db")
    execute(again, "UPDATE jobs SET state = 'expired' WHERE ordinal <= " + str(archive.last))
    other = await compacted(again, day(3), folder)
    assert other == archive
    assert archive.path(database).stat().st_mtime_ns == written.st_mtime_ns


async def test_no_event_leaves_its_table_unless_an_archive_is_on_record(database):
    archive = await compacted(database, day(3))
    assert archive is not None
    for sql in (f"DELETE FROM events WHERE position = {archive.last + 1}", "DELETE FROM archives"):
        with pytest.raises(sqlite3.IntegrityError, match=r"append-only|stay as they are"):
            execute(database, sql)


async def test_space_is_given_back(tmp_path):
    path = await lived(tmp_path, days=120, kept=1)
    before = path.stat().st_size
    await compacted(path, day(119))
    assert path.stat().st_size < before
    assert execute(path, "PRAGMA freelist_count") == [(0,)]


async def test_a_database_in_use_and_a_folder_that_is_none_are_refused(tmp_path, database):
    (tmp_path / "file").write_text("")
    with pytest.raises(CopyFailed, match="cannot write to"):
        await compacted(database, day(3), tmp_path / "file")
    async with opened(tmp_path):
        with pytest.raises(DatabaseLocked, match=r"in use by another foreman \(process \d+\)"):
            await compacted(database, day(3))


async def test_snapshots_are_those_of_the_head(database):
    await compacted(database, day(3))
    head = events(database)[-1].position
    assert {position for (position,) in execute(database, "SELECT position FROM snapshots")} == {head}
    with still(database) as file:
        assert await snapshots.taken_at(file.read) == head
