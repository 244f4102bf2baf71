"""Files that are there whole or not at all, and that one at a time writes. Knows nothing of what is in them."""

from __future__ import annotations

import fcntl
import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from foreman.errors import CopyFailed

#: More costs twice the time for some percent.
LEVEL: Final = 6
#: Added to the name of what is not whole yet.
PARTIAL: Final = ".partial"


@contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` at the end of the block, and is removed after an error.

    What was written there must be durable by then. Raises CopyFailed.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with _alone(partial):
            try:
                yield partial
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            sync_folder(path.parent)
    except BlockingIOError as error:
        raise CopyFailed(f"cannot write {path}: somebody else is writing it") from error
    except OSError as error:
        raise CopyFailed(f"cannot write {path}: {error.strerror or error}") from error


def removed(partial: Path) -> bool:
    """Remove what a killed run has left; not if somebody is writing it. Raises OSError."""
    try:
        with _alone(partial):
            partial.unlink()
    except BlockingIOError:
        return False
    return True


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Keep the file for oneself; one that a killed run has left is free. Raises BlockingIOError, OSError."""
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between the two, whoever had it may have given it its name.
        if not (partial.exists() and os.path.samestat(os.fstat(descriptor), partial.stat())):
            raise BlockingIOError
        yield
    finally:
        os.close(descriptor)


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, its owner's alone, and durable at the end of the block. Raises CopyFailed."""
    with in_place(path) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)


@contextmanager
def lines_to(path: Path) -> Iterator[IO[bytes]]:
    """The same for lines, compressed if the name ends in `.gz`."""
    with written(path) as file:
        if path.name.endswith(".gz"):
            # No name and no time in it: the same lines are the same file.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=LEVEL, mtime=0) as packed:
                yield cast(IO[bytes], packed)
        else:
            yield file


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
