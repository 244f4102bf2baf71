"""Files that are there whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from foreman.errors import CopyFailed

#: More costs twice the time for some percent.
LEVEL: Final = 6


@contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` at the end of the block, and is removed after an error.

    What was written there must be durable by then. Raises CopyFailed.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise CopyFailed(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


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
