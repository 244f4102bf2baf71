"""A consistent copy of a database file that a daemon may be writing to. Says nothing of what is in it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from foreman.errors import CopyFailed
from foreman.storage.still import Still

#: Pages copied at a time: often enough to be interrupted and to show how far it is.
PAGES: Final = 2_000
#: Left free on the disk: a copy that fills it would stop whoever else writes there.
SPARED_BYTES: Final = 16 * 1024 * 1024


def copy(source: Still, target: Path, told: Callable[[int, int], None]) -> None:
    """Write the file as `source` sees it to `target`, its owner's alone, and make it durable.

    Raises CopyFailed if there is not enough room or it cannot be written, DatabaseUnusable if the source cannot be
    read; what was written by then is left to the caller to remove.
    """
    _must_have_room(source, target)
    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            # A copy that breaks off is thrown away, and one that does not is made durable below.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            source.pour(connection, PAGES, told)
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CopyFailed(f"cannot write {target}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise CopyFailed(f"copying {source.path} to {target} failed: {error}") from error


def size_of(source: Still) -> int:
    """Bytes of the database as `source` sees it."""
    ((pages,),), ((size,),) = source.rows("PRAGMA page_count"), source.rows("PRAGMA page_size")
    return int(pages) * int(size)


def _must_have_room(source: Still, target: Path) -> None:
    try:
        free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise CopyFailed(f"cannot write {target}: {error.strerror}") from error
    needed = size_of(source)
    if free < needed + SPARED_BYTES:
        raise CopyFailed(f"{target.parent} has {free / 1e6:,.0f} MB free, and the copy needs {needed / 1e6:,.0f} MB")
