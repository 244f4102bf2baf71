"""The audit: what it says of each kind of fault, what it lets pass, and how it reads a file."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing

import orjson
import pytest

from foreman.audit import Code, Witness, audit, witnesses_in
from foreman.commands.schema import MIGRATIONS
from foreman.errors import DatabaseUnusable
from foreman.projections.job import Job
from tests.core import opened, submit
from tests.mutations import change
from tests.rich import make


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich")
    asyncio.run(make(folder))
    return folder / "foreman.db"


@pytest.fixture
def copy(rich, tmp_path):
    return shutil.copy(rich, tmp_path / "copy.db")


def codes(path, *witnesses: Witness) -> set[str]:
    return {finding.code.value for finding in audit(path, witnesses).findings.kept}


#: A change, and all that is found of it.
FAULTS = {
    "event changed": ("UPDATE events SET at = at + 1 WHERE position = 5", {"chain_broken", "job_differs"}),
    "event removed": (
        "DELETE FROM events WHERE position = 2",
        {"log_gap", "event_illegal", "job_unknown", "snapshot_differs"},
    ),
    "tail cut": ("DELETE FROM events WHERE position > 77", {"tail_cut", "job_differs"}),
    "event that is none": (
        "UPDATE events SET data = '{\"v\":1}' WHERE type = 'job.queued' AND position = 2",
        {"chain_broken", "event_unreadable", "snapshot_differs"},
    ),
    "event of a foreman to come": (
        "UPDATE events SET type = 'job.dreamt' WHERE position = 4",
        {"chain_broken", "event_unreadable", "snapshot_differs"},
    ),
    "text that is none": ("UPDATE events SET data = CAST(x'ff' AS TEXT) WHERE position = 4", {"file_damaged"}),
    "view changed": ("UPDATE jobs SET view = replace(view, 'done', 'fun') WHERE job_id = 'done-0'", {"job_differs"}),
    "state changed": ("UPDATE jobs SET state = 'done' WHERE job_id = 'failed'", {"job_differs"}),
    "row of a job removed": ("DELETE FROM jobs WHERE job_id = 'cancelled'", {"job_missing", "artifact_unknown"}),
    "expiry made up": (
        "UPDATE jobs SET state = 'expired' WHERE job_id = 'done-0'",
        {"job_differs", "artifact_unknown"},
    ),
    "expiry taken back": (
        "UPDATE jobs SET state = 'done' WHERE job_id = 'expired-1'",
        {"job_differs", "artifact_missing"},
    ),
    "artifact changed": ("UPDATE artifacts SET bytes = x'00' WHERE job_id = 'done-1'", {"artifact_differs"}),
    "artifact removed": ("DELETE FROM artifacts WHERE job_id = 'done-1' AND name = 'stream'", {"artifact_missing"}),
    "key forgotten": ("DELETE FROM idempotency WHERE job_id = 'key-3'", {"key_differs"}),
    "key of a spent job kept": (
        "INSERT INTO idempotency VALUES ('jobs:again', 1, 'again-1', 'f')",
        {"key_differs"},
    ),
    "delivery removed": ("DELETE FROM deliveries WHERE job_id = 'picky' AND state = 'queued'", {"delivery_missing"}),
    "delivery to another": ("UPDATE deliveries SET receiver = 'evil:80' WHERE job_id = 'picky'", {"delivery_differs"}),
    "failure hidden": (
        "UPDATE deliveries SET status = 'delivered' WHERE status = 'dead'",
        {"delivery_differs", "totals_differ"},
    ),
    "more attempts than there could be": (
        "UPDATE deliveries SET attempts = 9223372036854775807 WHERE job_id = 'picky' AND state = 'queued'",
        {"delivery_differs"},
    ),
    "attempt removed": ("DELETE FROM delivery_attempts WHERE number = 2", {"delivery_differs"}),
    "secret of nobody": ("INSERT INTO webhook_secrets VALUES ('nobody', 's')", {"secret_unknown"}),
    "snapshot changed": ("UPDATE snapshots SET state = '{}' WHERE projection = 'tally'", {"snapshot_differs"}),
    "snapshot nested": (
        f"UPDATE snapshots SET state = '{'[' * 500}{']' * 500}' WHERE projection = 'tally'",
        {"snapshot_differs"},
    ),
    "snapshot written another way": (
        "UPDATE snapshots SET state = replace(state, '298.0', '298E0') WHERE projection = 'statistics'",
        {"snapshot_differs"},
    ),
    "index removed": ("DROP INDEX jobs_by_state", {"schema_differs"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named(copy, name):
    statement, found = FAULTS[name]
    change(copy, statement)
    assert codes(copy) == found


def test_trigger_that_was_taken_away_is_missed(copy):
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER events_are_never_changed")
    (finding,) = audit(copy).findings.kept
    assert finding.sentence == "the trigger events_are_never_changed is missing"


def test_finding_says_where_since_when_and_what_to_do(copy):
    change(copy, "UPDATE jobs SET model = 'other' WHERE job_id = 'done-0'")
    (finding,) = audit(copy).findings.kept
    assert finding.as_json() == {
        "code": "job_differs",
        "sentence": "the row of job done-0 is not what its 4 events make of it: in model",
        "table": "jobs",
        "job_id": "done-0",
        "since": {"position": 5, "at": "2027-01-15T08:00:05.000000Z"},
        "what_to_do": finding.what_to_do,
    }
    assert "foreman replay --into" in finding.what_to_do


def test_first_of_many_are_kept_and_all_are_counted(copy):
    change(copy, "UPDATE events SET hash = x'00'")
    report = audit(copy)
    assert report.findings.counts[Code.CHAIN_BROKEN] == report.events == 78


@pytest.mark.parametrize("worth_a_process", [0, 1_000])
def test_no_more_than_a_hundred_of_a_kind_are_kept_and_all_of_both_processes_count(tmp_path, worth_a_process):
    report = audit_of_many(tmp_path, worth_a_process)
    assert (report.findings.counts, len(report.findings.kept)) == ({Code.JOB_DIFFERS: 150}, 100)


def audit_of_many(folder, worth_a_process):
    async def many() -> None:
        async with opened(folder) as core:
            await core.do(submit(*(f"J{number:03}" for number in range(150))))

    asyncio.run(many())
    change(folder / "foreman.db", "UPDATE jobs SET source = 'sync'")
    return audit(folder / "foreman.db", worth_a_process=worth_a_process)


def test_two_processes_find_what_one_finds(copy):
    change(
        copy,
        "UPDATE events SET at = at + 1 WHERE position = 5",
        "UPDATE jobs SET model = 'other' WHERE job_id = 'failed'",
        "DELETE FROM artifacts WHERE job_id = 'told'",
        "DELETE FROM idempotency WHERE job_id = 'key-3'",
    )
    alone, shared = audit(copy), audit(copy, worth_a_process=0)
    assert shared.findings.counts == alone.findings.counts
    assert set(shared.findings.kept) == set(alone.findings.kept)
    assert (shared.position, shared.hash, shared.jobs, shared.artifacts, shared.deliveries) == (
        alone.position, alone.hash, alone.jobs, alone.artifacts, alone.deliveries,
    )  # fmt: skip


def test_progress_reaches_its_end(rich):
    told: list[tuple[int, int]] = []
    for worth_a_process in (0, 1_000):
        audit(rich, progress=lambda done, of: told.append((done, of)), worth_a_process=worth_a_process)
        assert told.pop() == (78, 78)


def test_witness_of_a_log_that_goes_on_is_content(rich):
    with closing(sqlite3.connect(rich)) as connection:
        rows = connection.execute("SELECT position, hash FROM events").fetchall()
    assert audit(rich, [Witness(0, bytes(32)), *map(Witness._make, rows)]).is_clean


def test_tail_that_was_cut_without_a_trace_is_known_to_a_witness(tmp_path):
    async def quiet() -> None:
        async with opened(tmp_path) as core:
            await core.do(submit("J1"))
            await core.do(submit("J2"))

    asyncio.run(quiet())
    path = tmp_path / "foreman.db"
    whole = audit(path)
    tables = ("events WHERE position", "jobs WHERE ordinal")
    change(
        path,
        "DELETE FROM artifacts WHERE job_id = 'J2'",
        *(f"DELETE FROM {table} > 1" for table in tables),
        "UPDATE sqlite_sequence SET seq = 1",
    )
    assert audit(path).is_clean
    assert codes(path, Witness(whole.position, whole.hash)) == {"tail_cut"}
    assert codes(path, Witness(1, whole.hash)) == {"witness_differs"}


def test_view_of_an_older_foreman_may_lack_what_came_later(copy):
    change(copy, "UPDATE jobs SET view = json_remove(view, '$.webhook') WHERE job_id = 'done-0'")
    assert audit(copy).is_clean
    change(copy, "UPDATE jobs SET view = json_set(view, '$.wish', 1) WHERE job_id = 'done-0'")
    assert codes(copy) == {"job_differs"}


def test_snapshot_of_an_older_version_is_left_alone_only_if_its_foreman_ran_last(copy):
    change(copy, "UPDATE snapshots SET version = version - 1, state = '{}'")
    assert codes(copy) == {"snapshot_differs"}


def test_damaged_page_is_found(copy):
    with copy.open("r+b") as file:
        file.seek(20 * 4096 + 5)
        file.write(b"\xff" * 300)
    assert codes(copy)


def test_file_that_cannot_be_read_is_no_finding(tmp_path):
    for name, content in (("missing", None), ("text", b"no database" * 500), ("empty", b"")):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DatabaseUnusable):
            audit(path)


def test_file_of_another_schema_is_not_judged(copy):
    change(copy, "DROP TABLE webhook_totals", f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(DatabaseUnusable, match="a newer foreman wrote"):
        audit(copy)


def test_nothing_is_written_or_left_beside_the_file(copy):
    before = copy.read_bytes()
    audit(copy, worth_a_process=0)
    assert copy.read_bytes() == before
    assert list(copy.parent.iterdir()) == [copy]


def test_witnesses_are_read_from_lines():
    text = f"# kept by cron\n\n1:{'ab' * 32}\n 2:{'CD' * 32} \n"
    assert witnesses_in(text) == [Witness(1, b"\xab" * 32), Witness(2, b"\xcd" * 32)]
    for wrong in ("1", "x:" + "ab" * 32, "-1:" + "ab" * 32, "1:abc", "1:" + "zz" * 32):
        with pytest.raises(ValueError, match="POSITION:HASH"):
            witnesses_in(wrong)


def test_view_is_compared_member_by_member(rich):
    with closing(sqlite3.connect(rich)) as connection:
        ((view,),) = connection.execute("SELECT view FROM jobs WHERE job_id = 'done-0'")
    assert orjson.loads(view).keys() == set(Job.__slots__)
