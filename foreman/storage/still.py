"""A database file as it stands at one moment, for who only reads it: a daemon may go on writing meanwhile.

For the commands that read a file beside the daemon or without one. They have a process of their own and nothing else
to do meanwhile, so they wait for their rows; nothing here can write, checkpoint or migrate.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from foreman.errors import DatabaseBroke, DatabaseUnusable
from foreman.storage.reading import Row


class Still:
    """The open file. All that is read through it is of the same moment."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows as they are asked for; a few in memory at a time. Several queries may be read side by side."""
        # Not the cursor itself: a generator that is given up calls its `close`, perhaps after the connection's own.
        return chain(self._connection.execute(sql, parameters))

    async def read(self, sql: str, parameters: Sequence[Any] = (), /) -> list[Row]:
        """The same as read models ask for it (`storage.reading.Read`); it does not give way to other tasks."""
        return self._connection.execute(sql, parameters).fetchall()

    def pour(self, into: sqlite3.Connection, pages: int, told: Callable[[int, int], None]) -> None:
        """Copy every page, so many at a time; `told` hears how many are done and how many there are.

        However long it takes, it is not begun anew when the daemon writes: this connection's moment does not pass.
        """
        self._connection.backup(into, pages=pages, progress=lambda _, left, total: told(total - left, total))


@contextmanager
def still(path: Path) -> Iterator[Still]:
    """Open a database file to read it.

    Raises DatabaseUnusable if there is no such file or it is no database; DatabaseBroke if it cannot be read to its
    end, or a daemon was started on it meanwhile.
    """
    path = _found(path)
    # Read plainly, a file in WAL mode needs two more beside it, which SQLite makes and leaves there; a folder that
    # may not be written to cannot have them. With no writer and nothing in the WAL the file is all there is.
    alone = not _is_in_use(path) and not _size(_wal(path))
    before = _stamp(path)
    opened = False
    uri = f"{path.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the moment is that of the first read
            opened = True
            yield Still(path, connection)
    except sqlite3.Error as error:
        said = f"reading from {path} failed: {error}"
        raise (DatabaseBroke(said) if opened else DatabaseUnusable(said, hint=hint_for(error))) from error
    if alone and (_is_in_use(path) or _size(_wal(path)) or _stamp(path) != before):
        raise DatabaseBroke(f"a foreman was started on {path} while it was read", hint="try again")


def hint_for(error: Exception) -> str | None:
    """What helps if a file cannot be opened for this reason; None if the reason is like any other."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "let FOREMAN_DB_PATH, or --db, name a database of foreman's; if this was one, restore a backup"
    return DatabaseBroke.hint if code == sqlite3.SQLITE_CORRUPT else None


def _found(path: Path) -> Path:
    """The file itself: its lock and its WAL are beside it, and not beside a link to it."""
    try:
        reason = None if path.is_file() else "it is a folder" if path.is_dir() else "there is no such file"
    except OSError as error:
        reason = error.strerror
    if reason is not None:
        raise DatabaseUnusable(f"cannot open {path}: {reason}", hint="check FOREMAN_DB_PATH, or --db")
    return path.resolve()


def _is_in_use(path: Path) -> bool:
    """Whether a daemon has the file open: it holds a lock for as long as it lives."""
    try:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with whatever is written to the file."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
