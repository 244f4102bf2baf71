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

    Whoever fails before there is a database takes the file that it made along. That is safe: only its holder removes
    it, and whoever gets a lock looks whether it is on the file that has the name.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        file = Path(os.path.realpath(database))
        self.path = file.with_name(file.name + ".lock")
        self._descriptor: int | None = None
        self._is_litter = False

    def acquire(self) -> None:
        """Take the lock. Raises DatabaseLocked, naming the holder, or DatabaseUnusable."""
        while (descriptor := self._locked()) is None:
            pass  # its holder has just removed it
        with suppress(OSError):  # on a full disk the holder stays unnamed, but it holds the lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def _locked(self) -> int | None:
        """The descriptor of the locked file; None if that has lost its name meanwhile."""
        descriptor = self._opened()
        try:
            _lock(descriptor)
            if self._has_name(descriptor):
                return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise DatabaseLocked(f"{self.database} is in use by another foreman (process {holder})") from None
        except OSError as error:
            os.close(descriptor)
            raise DatabaseUnusable(f"cannot lock {self.path}: {error.strerror}") from error
        os.close(descriptor)
        return None

    def _opened(self) -> int:
        try:
            self._is_litter = not self.path.exists()  # if wrong, a file too many stays, or its holder removes it
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError as error:
            raise DatabaseUnusable(
                f"cannot create {self.database}: there is no folder {self.path.parent}",
                hint="make the folder, or name a file in another",
            ) from error
        except OSError as error:
            raise DatabaseUnusable(
                f"cannot create {self.path}: {error.strerror}",
                hint=f"see who may write to {self.path.parent}, and what room is left there",
            ) from error
        return descriptor

    def _has_name(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def keep(self) -> None:
        """There is a database now: the file stays when the lock is given back."""
        self._is_litter = False

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            if self._is_litter:
                with suppress(OSError):
                    self.path.unlink()
            os.close(self._descriptor)
            self._descriptor = None
