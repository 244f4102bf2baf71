"""Backups: what they never write over, which of them stay, and whom they make way for."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreman.archive.backup import Backup, backup, dated, rotate
from foreman.archive.output import written
from foreman.clock import Micros
from foreman.errors import CopyFailed
from tests.archive_kit import day, dump, lived
from tests.unit.test_compact import compacted


@pytest.fixture
async def database(tmp_path) -> Path:
    (tmp_path / "own").mkdir()
    return await lived(tmp_path / "own")


def made(database: Path, target: Path) -> Backup:
    return backup(database, target, lambda _: None, lambda done, total: None)


def test_the_one_just_made_stays_even_if_the_clock_has_leapt_back(tmp_path):
    names = ["foreman-20300101T000000Z.db", "foreman-20400101T000000Z.db", "foreman-20200101T000000Z.db"]
    for name in names:
        (tmp_path / name).touch()
    assert rotate(tmp_path, 2, tmp_path / names[2]) == [tmp_path / names[0]]
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


def test_a_second_has_one_backup_and_the_next_one_the_name_of_the_next(tmp_path):
    (tmp_path / "foreman-19700101T000001Z.db").touch()
    (tmp_path / "foreman-19700101T000002Z.db.partial").touch()
    assert dated(tmp_path, Micros(1_999_999)) == tmp_path / "foreman-19700101T000003Z.db"


def test_what_a_killed_run_has_left_goes_and_what_is_being_written_stays(tmp_path):
    left = tmp_path / "foreman-20200101T000000Z.db.partial"
    left.touch()
    with written(tmp_path / "foreman-20200102T000000Z.db") as out:
        out.write(b"so far")
        assert rotate(tmp_path, 1, tmp_path / "foreman-20200103T000000Z.db") == [left]
    assert (tmp_path / "foreman-20200102T000000Z.db").read_bytes() == b"so far"


def test_two_do_not_write_the_same_file_at_once(tmp_path):
    with written(tmp_path / "out") as first:
        first.write(b"the first")
        with pytest.raises(CopyFailed, match="somebody else is writing it"), written(tmp_path / "out") as second:
            second.write(b"the second")
    assert (tmp_path / "out").read_bytes() == b"the first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


async def test_the_archive_of_an_older_backup_is_not_written_over(tmp_path, database):
    archive = await compacted(database, day(3))
    assert archive is not None
    folder = tmp_path / "backups"
    folder.mkdir()
    made(database, folder / "first.db")
    path = archive.path(folder / "first.db")
    path.write_bytes(b"the same events as another version of zlib packs them")
    before = path.read_bytes()
    with pytest.raises(CopyFailed, match="is another file than the archive"):
        made(database, folder / "second.db")
    assert path.read_bytes() == before
    assert not (folder / "second.db").exists()


async def test_a_link_is_followed_to_the_backup_and_its_archives(tmp_path, database):
    await compacted(database, day(3))
    (tmp_path / "disk").mkdir()
    link = tmp_path / "latest.db"
    link.symlink_to(tmp_path / "disk" / "copy.db")
    assert made(database, link).archives_copied == 1
    assert link.is_symlink()
    database.with_name("archive").rename(tmp_path / "hidden")
    assert len(await dump(tmp_path / "disk" / "copy.db")) > 0
