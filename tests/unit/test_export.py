"""Exports and imports: the same log comes back byte for byte, or nothing does and the line is named."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from foreman.archive.export import Export, Wanted
from foreman.archive.importing import import_log, opened
from foreman.archive.output import lines_to
from foreman.errors import CopyFailed, DatabaseUnusable, ExportInvalid, RequestInvalid
from foreman.storage.still import still
from tests.archive_kit import dump, lived


def exported(database: Path, **wanted: object) -> bytes:
    out = io.BytesIO()
    with still(database) as file:
        Export(file, Wanted(**wanted)).write(out, lambda _: None)
    return out.getvalue()


def imported(lines: bytes, folder: Path, name: str = "new.db"):
    (folder / "export").write_bytes(lines)
    with opened(folder / "export") as read:
        return import_log(read, folder / name, lambda _: None)


def rows(database: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
async def database(tmp_path) -> Path:
    (tmp_path / "old").mkdir()
    return await lived(tmp_path / "old", days=3, kept=2)


async def test_what_was_exported_comes_back_the_same(tmp_path, database):
    made = imported(exported(database, artifacts=True), tmp_path)
    assert await dump(tmp_path / "new.db") == await dump(database)
    for table in ("events", "artifacts"):
        everything = f"SELECT * FROM {table} ORDER BY 1, 2"
        assert rows(tmp_path / "new.db", everything) == rows(database, everything) != []
    assert (made.refused, made.missing) == (0, 0)


async def test_an_export_is_the_same_file_each_time_and_holds_no_secret(database):
    lines = exported(database, artifacts=True)
    assert lines == exported(database, artifacts=True)
    assert rows(database, "SELECT secret FROM webhook_secrets") != []
    assert b"c2VjcmV0" not in lines


async def test_an_export_without_artifacts_makes_the_log_and_says_what_is_missing(tmp_path, database):
    made = imported(exported(database), tmp_path)
    assert made.contents == 0
    assert made.missing == rows(database, "SELECT count(*) FROM artifacts")[0][0]
    assert rows(tmp_path / "new.db", "SELECT * FROM jobs") == rows(database, "SELECT * FROM jobs")


async def test_lines_written_anew_by_another_program_are_the_same_log(tmp_path, database):
    lines = exported(database, artifacts=True).splitlines()
    anew = "\n".join(json.dumps(dict(sorted(json.loads(line).items())), indent=None) for line in lines)
    imported(anew.encode(), tmp_path)
    assert await dump(tmp_path / "new.db") == await dump(database)


def changed(line: bytes, **members: object) -> bytes:
    return json.dumps({**json.loads(line), **members}).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [*lines[:3], changed(lines[3], at=1), *lines[4:]], r"line 4: the event at position 3 does not"),
        (lambda lines: [*lines[:3], changed(lines[3], data="{}"), *lines[4:]], r"line 4: .* position 3 does not fit"),
        (lambda lines: [*lines[:3], changed(lines[3], version="1"), *lines[4:]], r"line 4: .* position 3 is not whole"),
        (lambda lines: lines[:3] + lines[4:], r"line 4: the event at position 3 is missing"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], r"line 4: the event at position 3 is missing"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], r"line 4: .*position 3 is missing; .* position 2"),
        (lambda lines: lines[:8], r"line 9: the file was cut off here"),
        (lambda lines: lines[:-1], r"the file was cut off here"),
        (lambda lines: lines[:5] + lines[-1:], r"line 6: the events end at position 4 instead of"),
        (lambda lines: [changed(lines[0], until=4), *lines[1:5], lines[-1]], r"the events end at position 4"),
        (lambda lines: [*lines, lines[2]], r"something follows the end"),
        (lambda lines: [*lines[:4], b"half a line", *lines[4:]], r"line 5: this is no JSON object"),
        (lambda lines: [changed(lines[0], format_version=2), *lines[1:]], r"line 1: its format is 2"),
        (lambda lines: lines[1:], r"line 1: this is no export"),
        (lambda lines: [changed(lines[0], hash="x"), *lines[1:]], r"line 1: the header is not whole"),
        (lambda lines: [], r"line 1: the file is empty"),
        (lambda lines: [*lines[:-2], lines[-1]], r"the end does not agree"),
    ],
)
async def test_a_file_that_is_not_whole_is_refused_naming_the_line(tmp_path, database, change, said):
    lines = exported(database, artifacts=True).splitlines()
    with pytest.raises(ExportInvalid, match=said):
        imported(b"\n".join(change(lines)), tmp_path)
    assert not list(tmp_path.glob("new.db*"))


async def test_an_artifact_that_was_changed_is_refused_naming_the_line(tmp_path, database):
    lines = exported(database, artifacts=True).splitlines()
    place = next(number for number, line in enumerate(lines) if b'"artifact":' in line)
    artifact = json.loads(lines[place])["artifact"]
    lines[place] = json.dumps({"artifact": {**artifact, "bytes": "AAAA"}}).encode()
    with pytest.raises(ExportInvalid, match=rf"line {place + 1}: the artifact {artifact['name']} of job"):
        imported(b"\n".join(lines), tmp_path)


@pytest.mark.parametrize("spoil", ["cut", "flip"])
async def test_a_compressed_file_that_is_damaged_is_refused(tmp_path, database, spoil):
    packed = bytearray(gzip.compress(exported(database)))
    if spoil == "cut":
        del packed[-20:]
    else:
        packed[len(packed) // 2] ^= 0x55
    with pytest.raises(ExportInvalid, match=r"line \d+: "):
        imported(bytes(packed), tmp_path)


async def test_a_part_of_a_log_says_where_it_begins_and_makes_no_database(tmp_path, database):
    head = json.loads(exported(database, after=4, until=6).splitlines()[0])
    whole = [json.loads(line) for line in exported(database).splitlines()]
    assert (head["after"], head["until"]) == (4, 6)
    assert (head["previous_hash"], head["hash"]) == (whole[4]["hash"], whole[6]["hash"])
    with pytest.raises(ExportInvalid, match="begins after position 4"):
        imported(exported(database, after=4), tmp_path)
    with pytest.raises(RequestInvalid, match="the log ends at position"):
        exported(database, until=10_000)


async def test_a_beginning_of_a_log_makes_a_database_of_that_moment(tmp_path, database):
    imported(exported(database, until=6), tmp_path)
    six = "SELECT * FROM events WHERE position <= 6"
    assert rows(tmp_path / "new.db", "SELECT * FROM events") == rows(database, six)


async def test_cloudevents_have_what_their_specification_asks_for(tmp_path, database):
    lines = exported(database, cloudevents=True)
    stored = rows(database, "SELECT position, stream, version, type, data, hash FROM events ORDER BY position")
    for line, (position, stream, version, type_, data, hash_) in zip(lines.splitlines(), stored, strict=True):
        event = json.loads(line)
        assert all(name.isalnum() and name == name.lower() and len(name) <= 20 for name in event)
        assert (event["specversion"], event["id"], event["type"]) == ("1.0", str(position), type_)
        assert event["source"].startswith("/foreman/")
        assert (event["subject"], event["data"]) == (stream, json.loads(data))
        assert datetime.fromisoformat(event["time"]).utcoffset() is not None
        assert (event["foremanversion"], event["foremanhash"]) == (version, hash_.hex())
    with pytest.raises(ExportInvalid, match="these are CloudEvents"):
        imported(lines, tmp_path)


async def test_an_import_writes_over_nothing(tmp_path, database):
    (tmp_path / "new.db").write_text("mine")
    with pytest.raises(DatabaseUnusable, match="there already"):
        imported(exported(database), tmp_path)
    assert (tmp_path / "new.db").read_text() == "mine"


def half_written(path: Path, error: type[BaseException]) -> None:
    with lines_to(path) as out:
        out.write(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_file_that_was_not_finished_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        half_written(tmp_path / "out.gz", error)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_its_owners_alone_and_replaces_the_older(tmp_path):
    (tmp_path / "out").write_text("old")
    with lines_to(tmp_path / "out") as out:
        out.write(b"new")
        assert (tmp_path / "out").read_text() == "old"
    assert (tmp_path / "out").read_text() == "new"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CopyFailed, match="missing"), lines_to(tmp_path / "missing" / "out") as out:
        out.write(b"")


@pytest.mark.parametrize("odd", [{"size": 2**63 - 1}, {"size": -1}, {"name": []}, {"content_type": 5}])
async def test_an_artifact_of_odd_members_is_refused_naming_the_line(tmp_path, database, odd):
    lines = exported(database, artifacts=True).splitlines()
    place = next(number for number, line in enumerate(lines) if b'"encoding":"deflate"' in line)
    artifact = json.loads(lines[place])["artifact"]
    lines[place] = json.dumps({"artifact": {**artifact, **odd}}).encode()
    with pytest.raises(ExportInvalid, match=rf"line {place + 1}: this is neither"):
        imported(b"\n".join(lines), tmp_path)
    assert not (tmp_path / "new.db").exists()
