"""A database made anew from its log is the same database, or there is none."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from foreman.commands.dump import canonical_dump, digest, first_difference
from foreman.commands.rebuild import contents_of, rebuild
from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import CancelJob, ExpireJob, FinishJob, Note, RecordAttempt, StartLoading, StartWorking
from foreman.errors import ArchiveUnusable, DatabaseLocked, DatabaseUnusable, LogCorrupt, StorageFull, UnknownEvent
from foreman.events.codec import CODEC, chain_hash
from foreman.events.history import History, StoredEvent
from foreman.events.lines import CheckedLines
from foreman.events.types import CancelledBy, Position
from foreman.projections import contents
from foreman.projections.job import Metrics
from foreman.projections.outbox import Attempt, Attempted, Status
from foreman.storage.fresh import fresh
from foreman.storage.lock import FileLock
from foreman.storage.still import still
from tests.archive_kit import day, lived
from tests.core import ANSWER, DEGRADED, STREAM, SWAPPED, WEBHOOK, Core, audit, opened, submit
from tests.kit import unmeasured
from tests.rebuilding import everything, rebuilt
from tests.unit.test_compact import compacted

GOLDEN = Path(__file__).parents[1] / "golden"
OFFLINE = Attempt(at=7, duration=5, address="192.0.2.7:80", error="refused")


async def live_a_little(core: Core) -> None:
    """A bit of everything: keys used and used again, webhooks told and failed, contents kept and expired."""
    await core.do(submit("A", "B", key="k", webhook=WEBHOOK, secret="s"), submit("C"), Note(event=DEGRADED))
    await core.do(StartLoading(job_id="A", evicts=None), Note(event=SWAPPED), StartWorking(job_id="A", swapped=True))
    await core.do(FinishJob(job_id="A", metrics=Metrics(run_s=1.5), artifacts=(ANSWER, STREAM)))
    failed = Attempted(job_id="A", position=Position(1), attempt=OFFLINE, status=Status.PENDING, due=9)
    await core.do(RecordAttempt(job_id="A", attempted=failed), StartWorking(job_id="C"))
    await core.do(ExpireJob(job_id="A"), CancelJob(job_id="B", by=CancelledBy.API), submit("D", key="l"))
    tried = next(item for item in core.ledger.outbox.lanes["B"].pending)
    gone = Attempted(job_id="B", position=tried.position, attempt=OFFLINE, status=Status.DEAD)
    await core.do(RecordAttempt(job_id="B", attempted=gone))
    await core.do(CancelJob(job_id="D", by=CancelledBy.API), ExpireJob(job_id="D"))
    await core.do(submit("E", key="l", webhook=WEBHOOK), submit("F", load_key="b"))
    core.clock.at += 90_000_000
    await core.do(StartWorking(job_id="E"), FinishJob(job_id="E", metrics=Metrics(), artifacts=(ANSWER,)))


async def a_log(folder: Path) -> Path:
    async with opened(folder) as core:
        await live_a_little(core)
    return folder / "foreman.db"


def dumped(path: Path) -> list[str]:
    with still(path) as file:
        return list(canonical_dump(file))


async def test_rebuilt_database_has_every_row_of_the_original(tmp_path):
    path = await a_log(tmp_path)
    made = rebuilt(path, tmp_path / "new.db")
    assert everything(tmp_path / "new.db") == everything(path)
    assert dumped(tmp_path / "new.db") == dumped(path)
    assert (made.jobs, made.missing, made.refused) == (6, 0, 0)
    assert made.position == len(everything(path)["events"])


async def test_rebuilt_database_goes_on_as_the_original_would(tmp_path):
    path = await a_log(tmp_path)
    (tmp_path / "new").mkdir()
    rebuilt(path, tmp_path / "new" / "foreman.db")
    async with opened(tmp_path) as old, opened(tmp_path / "new") as new:
        for core in (old, new):
            await core.do(submit("G", key="l"), submit("H", webhook=WEBHOOK), StartWorking(job_id="F"))
        assert [item.hash for item in await audit(old)] == [item.hash for item in await audit(new)]
        assert new.ledger.tally == old.ledger.tally
        assert new.ledger.timeline == old.ledger.timeline


async def test_database_with_archives_gives_what_it_was_before_it_was_compacted(tmp_path):
    path = await lived(tmp_path)
    before, last = everything(path), dumped(path)
    assert await compacted(path, day(6)) is not None
    assert len(everything(path)["events"]) < len(before["events"])
    rebuilt(path, tmp_path / "new.db")
    assert everything(tmp_path / "new.db") == before
    assert dumped(tmp_path / "new.db") == last


async def test_archive_that_is_missing_is_said_and_leaves_nothing(tmp_path):
    path = await lived(tmp_path)
    await compacted(path, day(6))
    next((tmp_path / "archive").iterdir()).unlink()
    with pytest.raises(ArchiveUnusable, match="cannot be read"):
        rebuilt(path, tmp_path / "new.db")
    assert not list(tmp_path.glob("new.db*"))


async def test_the_log_alone_tells_nobody_once_more(tmp_path):
    path = await a_log(tmp_path)
    (tmp_path / "new").mkdir()
    made = rebuilt(path, tmp_path / "new" / "foreman.db", contents=(), beside=None)
    assert made.missing == len(everything(path)["artifacts"])
    assert dumped(tmp_path / "new" / "foreman.db") == dumped(path)
    async with opened(tmp_path / "new") as core:
        assert core.ledger.outbox.pending == 0
        await core.submitted("G", webhook=WEBHOOK)
        assert core.ledger.outbox.pending == 1


async def test_artifact_that_is_not_what_its_event_says_is_left_out_and_named(tmp_path):
    path = await a_log(tmp_path)
    with still(path) as file:
        rows = [tuple(row) for row in contents_of(file)]
    first, second, *others = rows
    odd = [(*first[:-1], b"something else"), (*second[:5], "deflate", b"no stream"), ("nobody", *first[1:])]
    made = rebuilt(path, tmp_path / "new.db", contents=[*odd, *others])
    assert (made.contents, made.missing, made.refused) == (len(others), 2, 3)
    assert made.refused_names[0] == f"{first[1]} of {first[0]}"


async def test_change_of_one_event_is_named_by_its_position_and_makes_nothing(tmp_path):
    path = await a_log(tmp_path)
    with still(path) as file:
        events = list(History(file).events())
    changed = events[6]._replace(at=events[6].at + 1)
    for wrong in (
        [*events[:6], changed, *events[7:]],
        [*events[:6], *events[7:]],
        [*events[:5], events[6], events[5], *events[7:]],
        events[6:],
    ):
        with pytest.raises(LogCorrupt, match=r"event \d+: it "):
            rebuild(tmp_path / "new.db", wrong)
        assert not list(tmp_path.glob("new.db*[!k]"))


@pytest.mark.parametrize(
    ("stream", "version", "type_", "text", "error"),
    [
        ("A", 2, "job.done", '{"v":1,"attempt":1,"artifacts":[]}', "event 2: a job that is queued"),
        ("A", 3, "job.cancelled", '{"v":1,"by":"api"}', "event 2: event 3 of A stands where event 2"),
        ("B", 2, "job.cancelled", '{"v":1,"by":"api"}', "event 2: a job that is new"),
        ("daemon", 2, "daemon.stopped", '{"v":1,"waiting":0}', "event 2: daemon.stopped of version 2"),
        ("daemon", 1, "job.cancelled", '{"v":1,"by":"api"}', "event 2: job.cancelled of version 1"),
        ("A", 2, "job.cancelled", '{"v":1}', "event 2: the log holds a job.cancelled event that cannot"),
    ],
)
async def test_chained_event_that_cannot_be_is_named_by_its_position(tmp_path, stream, version, type_, text, error):
    async with opened(tmp_path) as core:
        await core.submitted("A")
    with still(tmp_path / "foreman.db") as file:
        (first,) = History(file).events()
    hash_ = chain_hash(first.hash, 2, stream, version, type_, 5, text)
    with pytest.raises(LogCorrupt, match=error):
        rebuild(tmp_path / "new.db", [first, StoredEvent(2, stream, version, type_, 5, text, hash_)])


def test_event_from_the_future_is_no_corruption(tmp_path):
    hash_ = chain_hash(bytes(32), 1, "daemon", 1, "daemon.dreamt", 5, "{}")
    with pytest.raises(UnknownEvent, match=r"event 1: .*daemon.dreamt"):
        rebuild(tmp_path / "new.db", [StoredEvent(1, "daemon", 1, "daemon.dreamt", 5, "{}", hash_)])


def test_existing_file_is_never_written_over(tmp_path):
    (tmp_path / "new.db").write_bytes(b"precious")
    with pytest.raises(DatabaseUnusable, match="there already"):
        rebuild(tmp_path / "new.db", [])
    assert (tmp_path / "new.db").read_bytes() == b"precious"


def test_rest_of_another_database_is_not_taken_for_a_part_of_the_new_one(tmp_path):
    (tmp_path / "new.db-wal").write_bytes(b"frames")
    with pytest.raises(DatabaseUnusable, match="left of another"):
        rebuild(tmp_path / "new.db", [])


def test_name_that_a_daemon_holds_is_refused(tmp_path):
    lock = FileLock(tmp_path / "new.db")
    lock.acquire()
    with pytest.raises(DatabaseLocked):
        rebuild(tmp_path / "new.db", [])
    lock.release()


def test_folder_that_is_missing_is_said(tmp_path):
    with pytest.raises(DatabaseUnusable, match="no-folder"):
        rebuild(tmp_path / "no-folder" / "new.db", [])


KILLED = """
import os, resource, signal, sys
from pathlib import Path
from foreman.commands.rebuild import rebuild
from foreman.events.history import History
from foreman.storage.still import still
if sys.argv[3] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
def events(file):
    for event in History(file).events():
        yield event
    if sys.argv[3] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
with still(Path(sys.argv[1])) as file:
    rebuild(Path(sys.argv[2]), events(file))
"""


async def test_killed_rebuild_leaves_nothing_under_the_name_and_the_next_one_begins_anew(tmp_path):
    path = await a_log(tmp_path)
    ended = subprocess.run([sys.executable, "-c", KILLED, path, tmp_path / "new.db", "kill"], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "new.db").exists()
    rebuilt(path, tmp_path / "new.db")
    assert everything(tmp_path / "new.db") == everything(path)
    assert not (tmp_path / "new.db.partial").exists()


async def test_file_that_cannot_grow_is_said_and_leaves_nothing(tmp_path):
    path = await a_log(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, path, tmp_path / "new.db", "full"],
        check=False, capture_output=True, text=True, env=unmeasured(),
    )  # fmt: skip
    assert "foreman.errors." in ended.stderr.splitlines()[-1]
    assert "new.db" in ended.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("new.db*"))


def test_full_disk_is_said_and_leaves_nothing(tmp_path):
    rows = [("J", str(number), "", 0, "", "", bytes(4_000)) for number in range(40)]

    def fill() -> None:
        with fresh(tmp_path / "new.db", MIGRATIONS) as file:
            assert list(file.rows("PRAGMA max_page_count = 40")) == [(40,)]
            file.insert(contents.INSERT, rows)

    with pytest.raises(StorageFull, match="was not written"):
        fill()
    assert not list(tmp_path.glob("new.db*"))


async def test_first_difference_of_two_dumps_is_the_row_that_was_changed(tmp_path):
    path = await a_log(tmp_path)
    rebuilt(path, tmp_path / "new.db")
    changed = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    changed.execute("UPDATE jobs SET state = 'done' WHERE job_id = 'B'")
    changed.close()
    difference = first_difference(dumped(path), dumped(tmp_path / "new.db"))
    assert [json.loads(line)[:4] for line in difference] == [["job", "B", 2, "cancelled"], ["job", "B", 2, "done"]]
    assert digest(dumped(path)) != digest(dumped(tmp_path / "new.db"))


def test_golden_log_of_the_first_event_versions_replays_for_ever(tmp_path):
    """Each line stands as it was released; a view may have learnt new members since, but lost or changed none."""
    with (GOLDEN / "log-1.jsonl").open("rb") as lines:
        rebuild(tmp_path / "new.db", CheckedLines(lines, "log-1.jsonl").events())
    now = [json.loads(line) for line in dumped(tmp_path / "new.db")]
    golden = [json.loads(line) for line in (GOLDEN / "log-1.dump").read_text().splitlines()]
    found = [line for line in now if line[0] != "projection"]
    assert [line[:-1] if line[0] == "job" else line for line in found] == [
        line[:-1] if line[0] == "job" else line for line in golden
    ]
    for line, before in zip(found, golden, strict=True):
        if line[0] == "job":
            assert {name: line[-1][name] for name in before[-1]} == before[-1]
    assert {line[4] for line in golden if line[0] == "event"} == set(CODEC.types)
    assert {line[3] for line in now if line[0] == "projection"} == {sum(line[0] == "event" for line in golden)}


async def test_a_queue_once_full_of_finished_jobs_takes_no_room_in_memory(tmp_path):
    """Finished jobs are forgotten with each write, and found again when they expire."""
    async with opened(tmp_path, max_queue=10_000) as core:
        ids = [f"J{number:05}" for number in range(2_500)]
        await core.do(submit(*ids, key="many"))
        await core.do(*(CancelJob(job_id=job_id, by=CancelledBy.API) for job_id in ids))
        await core.do(*(ExpireJob(job_id=job_id) for job_id in ids))
    rebuilt(tmp_path / "foreman.db", tmp_path / "new.db")
    assert everything(tmp_path / "new.db") == everything(tmp_path / "foreman.db")
    assert everything(tmp_path / "new.db")["idempotency"] == []
