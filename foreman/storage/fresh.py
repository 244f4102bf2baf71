"""A database file made anew, in one go, for who has all that belongs into it. Knows no word of the domain.

It is written under another name and gets its own once it is whole and on the disk: whoever is killed, or fills the
disk, leaves nothing under that name. Nobody reads it meanwhile, so there is no journal and one fsync for all of it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import ENOSPC
from itertools import chain
from pathlib import Path
from typing import Any, Final

from foreman.errors import DatabaseBroke, DatabaseUnusable, StorageFull
from foreman.storage.lock import FileLock
from foreman.storage.reading import Row

#: KiB of pages in memory, whatever the file's size.
CACHE_KIB: Final = 64 * 1024
#: Rows that one statement inserts.
ROWS: Final = 50
WRITING: Final = "see who may write to its folder, and whether its disk is well; or name a file on another"


class Fresh:
    """The file while it is being written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def insert(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run a statement once for each row; how many rows of the file it changed."""
        return max(0, self._connection.executemany(sql, rows).rowcount)

    def insert_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """The same for an INSERT that ends with its VALUES, several rows to a statement: in two thirds of the time."""
        head, values, row = sql.rpartition("VALUES")
        several = head + values + ",".join([row] * ROWS)
        whole = len(rows) - len(rows) % ROWS
        groups = (rows[start : start + ROWS] for start in range(0, whole, ROWS))
        self._connection.executemany(several, (list(chain.from_iterable(group)) for group in groups))
        self._connection.executemany(sql, rows[whole:])

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """What is in the file so far."""
        return self._connection.execute(sql, parameters)


@contextmanager
def fresh(path: Path, migrations: Sequence[str]) -> Iterator[Fresh]:
    """Make the file with its tables; at the end of the block, and only then, it is there under its name.

    Raises DatabaseLocked if a daemon has that name, DatabaseUnusable if there is such a file or it cannot be made,
    StorageFull.
    """
    lock = FileLock(path)
    lock.acquire()  # no daemon may begin a file under this name meanwhile, and no second one of these
    try:
        _refuse_existing(path)
        partial = path.with_name(path.name + ".partial")
        try:
            partial.unlink(missing_ok=True)  # one that was killed left it
            # Its owner's alone: prompts and secrets are in it.
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with _connected(partial) as connection:
                _prepare(connection, migrations)
                yield Fresh(connection)
                connection.execute("COMMIT")
            _keep(partial, path)
            lock.keep()
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_FULL:
            raise _full(path) from error
        raise DatabaseBroke(f"writing {path} failed: {error}", hint=WRITING) from error
    except OSError as error:
        if error.errno == ENOSPC:
            raise _full(path) from error
        raise DatabaseBroke(f"cannot write {path}: {error.strerror}", hint=WRITING) from error
    finally:
        lock.release()


def _full(path: Path) -> StorageFull:
    return StorageFull(
        f"the disk is full: {path} was not written", hint="free some space there, or name a file on another disk"
    )


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise DatabaseUnusable(f"{path} is there already, and nothing is written over", hint="give another name")
    for rest in ("-wal", "-journal"):
        # SQLite would take what is in it for a part of the new file.
        if (beside := path.with_name(path.name + rest)).exists():
            raise DatabaseUnusable(f"{beside} is left of another database", hint="move it away, or give another name")


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def _prepare(connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # as the daemon makes its file
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    for script in migrations:
        connection.executescript(script)
    connection.execute(f"PRAGMA user_version = {len(migrations)}")
    connection.execute("BEGIN EXCLUSIVE")


def _keep(partial: Path, path: Path) -> None:
    _sync(partial, os.O_RDWR)
    partial.rename(path)
    _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
