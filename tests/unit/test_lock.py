"""The lock beside the database: one holder, named to whoever comes second, gone when the holder is."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys

import pytest

from foreman.errors import DatabaseLocked, DatabaseUnusable
from foreman.storage.lock import FileLock

HOLD = """
import sys
from pathlib import Path
from foreman.storage.lock import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def database(tmp_path):
    return tmp_path / "foreman.db"


def test_second_holder_is_refused_with_the_name_of_the_first(database):
    first = FileLock(database)
    first.acquire()
    with pytest.raises(DatabaseLocked, match=rf"in use by another foreman \(process {os.getpid()}\)"):
        FileLock(database).acquire()
    first.release()


def test_lock_of_another_process_is_held_until_that_is_gone(database):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DatabaseLocked, match=f"process {other.pid}"):
            FileLock(database).acquire()
        other.kill()
    second = FileLock(database)
    second.acquire()
    second.release()


def test_released_lock_can_be_had_again(database):
    lock = FileLock(database)
    lock.release()
    lock.acquire()
    lock.release()
    lock.release()
    lock.acquire()
    lock.release()


def test_shorter_process_id_replaces_a_longer_one(database):
    lock = FileLock(database)
    lock.path.write_text("99999999999\n")
    lock.acquire()
    assert lock.path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_full_disk_leaves_the_holder_unnamed_but_holding(database):
    lock = FileLock(database)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # every write fails, as on a full disk
    try:
        lock.acquire()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(DatabaseLocked, match="process unknown"):
        FileLock(database).acquire()
    lock.release()


def test_lock_that_cannot_be_made_is_no_other_foremans_fault(tmp_path):
    with pytest.raises(DatabaseUnusable, match=r"cannot create .*foreman\.db: there is no folder .*nowhere"):
        FileLock(tmp_path / "nowhere" / "foreman.db").acquire()


def test_who_comes_by_a_link_meets_the_same_lock(tmp_path, database):
    link = tmp_path / "link.db"
    link.symlink_to(database)
    lock = FileLock(database)
    lock.acquire()
    with pytest.raises(DatabaseLocked):
        FileLock(link).acquire()
    lock.release()


def test_lock_goes_with_whoever_made_it_and_no_database(database):
    lock = FileLock(database)
    lock.acquire()
    lock.release()
    assert not lock.path.exists()
    lock.acquire()
    lock.keep()
    lock.release()
    assert lock.path.exists()
    lock.acquire()
    lock.release()
    assert lock.path.exists(), "it was there before"


def test_lock_without_its_name_is_not_taken_for_the_lock(database):
    first, second = FileLock(database), FileLock(database)
    first.acquire()
    waiting = os.open(first.path, os.O_RDWR)  # whoever opened it before it went
    first.release()
    second.acquire()
    try:
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it may be had, and says nothing
        with pytest.raises(DatabaseLocked, match=f"process {os.getpid()}"):
            FileLock(database).acquire()
    finally:
        os.close(waiting)
    second.release()


MANY = """
import sys
from pathlib import Path
from foreman.errors import DatabaseLocked
from foreman.storage.lock import FileLock
database, held = Path(sys.argv[1]), Path(sys.argv[1] + ".held")
for _ in range(300):
    lock = FileLock(database)
    try:
        lock.acquire()
    except DatabaseLocked:
        continue
    held.touch(exist_ok=False)  # fails if somebody else has it too
    held.unlink()
    lock.release()
"""


def test_lock_has_one_holder_however_often_its_file_comes_and_goes(database):
    others = [subprocess.Popen([sys.executable, "-c", MANY, str(database)]) for _ in range(4)]
    assert [other.wait() for other in others] == [0] * 4
