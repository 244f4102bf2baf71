"""The audit of a compacted database: the archives are the log's beginning, and are looked at like the rest of it."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from foreman.archive.compact import compact, plan
from foreman.audit import Witness, audit
from foreman.commands.schema import MIGRATIONS
from foreman.events.archives import Archive
from foreman.storage.database import Database
from foreman.storage.still import still
from tests.archive_kit import day, lived
from tests.mutations import change

#: From which on a second process takes its share: always, and never here.
SHARED, ALONE = 0, 1_000_000


async def compacted(path: Path, *days: int) -> list[Archive]:
    """The archives that hold what is older than each of these days."""
    database = Database(path, MIGRATIONS)
    await database.open()
    try:
        archives = []
        for number in days:
            with still(path) as file:
                planned = plan(file, day(number))
            archives.append(await compact(database, planned, path.with_name("archive"), lambda _: None))
    finally:
        await database.close()
    return [archive for archive in archives if archive is not None]


def rewritten(archive: Archive, path: Path, old: str, new: str) -> None:
    """Change an archive's text, and what the table says of its file with it."""
    file = archive.path(path)
    text = gzip.decompress(file.read_bytes())
    assert old.encode() in text
    data = gzip.compress(text.replace(old.encode(), new.encode(), 1))
    file.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    change(path, f"UPDATE archives SET sha256 = '{digest}', bytes = {len(data)} WHERE first = {archive.first}")


def found(path: Path, *witnesses: Witness, worth_a_process: int = ALONE) -> set[str]:
    return {finding.code.value for finding in audit(path, witnesses, worth_a_process=worth_a_process).findings.kept}


@pytest.fixture
async def database(tmp_path) -> Path:
    return await lived(tmp_path)


@pytest.mark.parametrize("worth_a_process", [SHARED, ALONE])
async def test_compacted_database_is_clean_and_as_long_as_it_was(database, worth_a_process):
    whole = audit(database)
    first, second = await compacted(database, 2, 4)
    witnesses = [Witness(0, bytes(32)), Witness(first.last, first.hash), Witness(whole.position, whole.hash)]
    report = audit(database, witnesses, worth_a_process=worth_a_process)
    assert report.findings.kept == []
    assert report.archives == len([first, second])
    assert (report.events, report.position, report.hash, report.jobs, report.artifacts, report.deliveries) == (
        whole.events, whole.position, whole.hash, whole.jobs, whole.artifacts, whole.deliveries,
    )  # fmt: skip


@pytest.mark.parametrize("worth_a_process", [SHARED, ALONE])
@pytest.mark.parametrize("how", ["missing", "cut", "changed", "empty"])
async def test_archive_that_is_not_the_file_that_was_written_is_found_once(database, how, worth_a_process):
    _, second = await compacted(database, 2, 4)
    file = second.path(database)
    data = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes({"cut": data[:-9], "changed": data, "empty": b""}[how])
    (finding,) = audit(database, worth_a_process=worth_a_process).findings.kept
    assert finding.code.value == "archive_differs"
    assert finding.position == second.first
    assert str(file) in finding.sentence
    assert f"what comes after event {second.first - 1} was not looked at" in finding.sentence


async def test_event_changed_in_an_archive_and_its_digest_with_it_does_not_fit_the_chain(database):
    (archive,) = await compacted(database, 3)
    rewritten(archive, database, '"job.loading"', '"job.dreamed"')
    assert {"chain_broken", "event_unreadable"} <= found(database)


async def test_event_taken_out_of_an_archive_is_missed(database):
    (archive,) = await compacted(database, 3)
    lines = gzip.decompress(archive.path(database).read_bytes()).decode().splitlines(keepends=True)
    rewritten(archive, database, lines[3], "")
    assert found(database)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE archives SET hash = x'00'", "archive_differs"),
        ("UPDATE archives SET previous_hash = x'00'", "archive_differs"),
        ("UPDATE archives SET last = last - 1", "log_gap"),
        ("UPDATE archives SET file = 'archive/other.jsonl.gz'", "archive_differs"),
        ("DELETE FROM archives", "log_gap"),
    ],
)
async def test_row_of_an_archive_that_was_changed_is_found(database, statement, code):
    await compacted(database, 3)
    change(database, statement)
    assert code in found(database)


async def test_row_of_a_job_whose_events_are_archived_is_held_against_them(database):
    await compacted(database, 3)
    with closing(sqlite3.connect(database)) as connection:
        (job_id, *_), = connection.execute("SELECT job_id FROM jobs ORDER BY ordinal LIMIT 1")  # fmt: skip
    change(database, f"UPDATE jobs SET model = 'other' WHERE job_id = '{job_id}'")
    (finding,) = audit(database).findings.kept
    assert (finding.code.value, finding.job_id) == ("job_differs", job_id)


async def test_expiry_that_was_made_up_is_told_from_those_that_are_archived(database):
    await compacted(database, 3)
    with closing(sqlite3.connect(database)) as connection:
        # The last one that is done.
        ((job_id, version, position),) = connection.execute(
            "SELECT job_id, json_extract(view, '$.version'), json_extract(view, '$.position') FROM jobs"
            " WHERE state = 'done' ORDER BY ordinal DESC LIMIT 1"
        )
    change(
        database,
        "UPDATE jobs SET state = 'expired', view = json_set(view, '$.state', 'expired', '$.artifacts', json('[]'),"
        f" '$.version', {version + 1}, '$.position', {position + 1}) WHERE job_id = '{job_id}'",
    )
    report = audit(database)
    assert {finding.job_id for finding in report.findings.kept if finding.code.value == "job_differs"} == {job_id}
