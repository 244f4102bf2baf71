"""One daemon per database file: an advisory lock that dies with its holder."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from foreman.errors import DatabaseLocked, DatabaseUnusable

#: Who only looks whether somebody has the lock holds it for as long as that takes.
TRIES = 5
BETWEEN_S = 0.02


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError if somebody keeps it."""
    for left in reversed(range(TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(BETWEEN_S)
        else:
            return


class FileLock:
    """A lock on `<database>.lock`, which names its holder for whoever comes second.

    It is a file of its own: closing any descriptor of the database itself would drop SQLite's own POSIX locks. Whoever
    comes by a link meets the same one.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        file = Path(os.path.realpath(database))
        self.path = file.with_name(file.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises DatabaseLocked, naming the holder, or DatabaseUnusable."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DatabaseUnusable(f"cannot create {self.path}: {error.strerror}") from error
        try:
            _lock(descriptor)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise DatabaseLocked(f"{self.database} is in use by another foreman (process {holder})") from None
        except OSError as error:
            os.close(descriptor)
            raise DatabaseUnusable(f"cannot lock {self.path}: {error.strerror}") from error
        with suppress(OSError):  # on a full disk the holder stays unnamed, but it holds the lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; harmless when it is not held. The file stays: removing it would race a newcomer."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
