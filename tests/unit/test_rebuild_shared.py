"""A rebuild comes to the same whoever folds, and however much of the log is remembered."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.replay import stored
from foreman.commands.dump import canonical_dump, first_difference
from foreman.commands.rebuild import rebuild
from foreman.commands.refolding import Folding
from foreman.commands.sharing import Sharing
from foreman.commands.types import CancelJob, ExpireJob
from foreman.errors import DatabaseUnusable, LogCorrupt
from foreman.events.codec import chain_hash
from foreman.events.history import StoredEvent
from foreman.events.types import CancelledBy
from foreman.storage.still import still
from tests.core import WEBHOOK, opened, submit
from tests.rebuilding import everything, rebuilt

EVENTS = 6_000
ALONE, AT_ONCE = 1_000_000, 0


def shared() -> Sharing:
    return Sharing(worth_a_process=AT_ONCE)


def stray(before: StoredEvent) -> StoredEvent:
    """An event that fits the chain and nothing else."""
    position, stream, type_, text = before.position + 1, "nobody", "job.cancelled", '{"v":1,"by":"api"}'
    hash_ = chain_hash(before.hash, position, stream, 2, type_, 5, text)
    return StoredEvent(position, stream, 2, type_, 5, text, hash_)


def contradicting(at: int) -> Iterator[StoredEvent]:
    """A log with a stray event at that position, and behind it events that do not fit the chain any more."""
    events = stored(EVENTS)
    *_, last = islice(events, at - 2, at - 1)
    yield from islice(stored(EVENTS), at - 1)
    yield stray(last)
    yield from islice(events, 1, None)


@pytest.mark.parametrize("worth_a_process", [ALONE, AT_ONCE], ids=["alone", "shared"])
@pytest.mark.parametrize("remembered", [0, 40, 20_000], ids=["none", "some", "all"])
def test_database_is_the_same_whoever_folds_and_however_much_is_remembered(tmp_path, worth_a_process, remembered):
    usual = rebuild(tmp_path / "usual.db", stored(EVENTS, kept=300))
    sharing = Sharing(Folding(remembered), worth_a_process)
    assert rebuild(tmp_path / "new.db", stored(EVENTS, kept=300), sharing=sharing) == usual
    assert everything(tmp_path / "new.db") == everything(tmp_path / "usual.db")
    with still(tmp_path / "new.db") as one, still(tmp_path / "usual.db") as other:
        assert first_difference(canonical_dump(one), canonical_dump(other)) is None
        assert len(list(one.rows("SELECT 1 FROM jobs WHERE state = 'expired'"))) > 1_000


@pytest.mark.parametrize("worth_a_process", [ALONE, AT_ONCE], ids=["alone", "shared"])
async def test_key_and_deliveries_of_many_jobs_go_with_the_last_of_them(tmp_path, worth_a_process):
    ids = [f"J{number:05}" for number in range(1_500)]
    async with opened(tmp_path, max_queue=10_000) as core:
        await core.do(submit(*ids, key="many", webhook=WEBHOOK))
        await core.do(*(CancelJob(job_id=job_id, by=CancelledBy.API) for job_id in ids))
        await core.do(*(ExpireJob(job_id=job_id) for job_id in ids), submit("again", key="other"))
        await core.do(submit("last", key="many"))
    rebuilt(tmp_path / "foreman.db", tmp_path / "new.db", sharing=Sharing(Folding(10), worth_a_process))
    assert everything(tmp_path / "new.db") == everything(tmp_path / "foreman.db")
    assert [row[2] for row in everything(tmp_path / "new.db")["idempotency"]] == ["last", "again"]


@pytest.mark.parametrize("worth_a_process", [ALONE, AT_ONCE], ids=["alone", "shared"])
@pytest.mark.parametrize("at", [2, 1_000, 1_001, 3_500])
def test_first_of_two_contradictions_is_named_whoever_finds_it(tmp_path, worth_a_process, at):
    with pytest.raises(LogCorrupt, match=rf"^event {at}: a job that is new"):
        rebuild(tmp_path / "new.db", contradicting(at), sharing=Sharing(worth_a_process=worth_a_process))
    assert not list(tmp_path.glob("new.db*"))


def test_second_process_that_is_killed_ends_the_rebuild_and_leaves_nothing(tmp_path):
    def killing() -> Iterator[StoredEvent]:
        for event in stored(EVENTS):
            yield event
            if event.position == EVENTS // 2:
                (second,) = multiprocessing.active_children()
                os.kill(second.pid, signal.SIGKILL)

    with pytest.raises(DatabaseUnusable, match="was ended before it was done"):
        rebuild(tmp_path / "new.db", killing(), sharing=shared())
    assert not list(tmp_path.glob("new.db*"))


def test_second_process_ends_with_whatever_ends_the_rebuild(tmp_path):
    def interrupted() -> Iterator[StoredEvent]:
        yield from islice(stored(EVENTS), EVENTS // 2)
        assert len(multiprocessing.active_children()) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(tmp_path / "new.db", interrupted(), sharing=shared())
    assert multiprocessing.active_children() == []
    assert not list(tmp_path.glob("new.db*"))


KILLED = """
import multiprocessing, os, signal, sys
from pathlib import Path
from benchmarks.replay import stored
from foreman.commands.rebuild import rebuild
from foreman.commands.sharing import Sharing
def killing():
    for event in stored(6_000):
        yield event
        if event.position == 3_000:
            os.kill(os.getpid(), signal.SIGKILL)
rebuild(Path(sys.argv[1]), killing(), sharing=Sharing(worth_a_process=0))
"""


def test_second_process_does_not_outlive_a_killed_rebuild(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, tmp_path / "new.db"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as process:
        # The second one has this pipe, too: it ends when both have.
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "new.db").exists()
