"""Backups: a copy of a database that a daemon may be writing to, looked through before it gets its name.

What "looked through" means is the caller's to say: this package does not know the audit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from foreman.archive.output import PARTIAL, in_place, removed, written
from foreman.clock import Micros
from foreman.commands.schema import still_ours
from foreman.errors import CopyFailed
from foreman.events.archives import Archive, file_digest
from foreman.events.history import History
from foreman.storage.copy import copy, size_of
from foreman.storage.still import Still

#: What backups are called in a folder of them; only such files are ever removed.
PATTERN: Final = "foreman-[0-9]*T[0-9]*Z.db"
SQLITE: Final = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A copy that was made."""

    path: Path
    position: int
    hash: bytes
    size_bytes: int
    #: Archives copied now, and those that the copy refers to where they are.
    archives_copied: int
    archives_elsewhere: tuple[str, ...]


def dated(folder: Path, now: Micros) -> Path:
    """The next backup's path in a folder of them: of this second, or of the next one that nobody has yet."""
    for second in count(now // 1_000_000):
        path = folder / datetime.fromtimestamp(second, UTC).strftime("foreman-%Y%m%dT%H%M%SZ.db")
        if not (path.exists() or path.with_name(path.name + PARTIAL).exists()):
            break
    return path


def rotate(folder: Path, keep: int, made: Path) -> list[Path]:
    """Remove all but the newest backups of a folder, and what killed runs have left; the paths of all that went.

    The one just made stays, whatever the clock called it, and so do archives: the others need them.
    """
    old = sorted((path for path in folder.glob(PATTERN) if path != made), reverse=True)[keep - 1 :]
    try:
        for path in old:
            path.unlink()
        return old + [path for path in folder.glob(PATTERN + PARTIAL) if removed(path)]
    except OSError as error:
        raise CopyFailed(f"cannot remove an old backup in {folder}: {error}") from error


def backup(source: Path, target: Path, judge: Callable[[Path], None], told: Callable[[int, int], None]) -> Backup:
    """Copy the database with its archives. `judge` raises if the copy is not sound, which then gets no name.

    `told` hears how many pages are done and how many there are. Raises CopyFailed, DatabaseUnusable, ArchiveUnusable.
    """
    if target.is_symlink():
        target = target.resolve()  # archives have to be beside the file itself
    _refuse(source, target)
    with in_place(target) as partial:
        with still_ours(source) as file:
            copy(file, partial, told)
            position, hash_ = History(file).head()
            size = size_of(file)
            archives = History(file).archives()
            copied = _copy_archives(archives, file, target)
        judge(partial)
    return Backup(
        path=target,
        position=position,
        hash=hash_,
        size_bytes=size,
        archives_copied=copied,
        archives_elsewhere=tuple(archive.file for archive in archives if Path(archive.file).is_absolute()),
    )


def _copy_archives(archives: Iterable[Archive], file: Still, target: Path) -> int:
    """Put the archives beside the copy as they are beside the database; those that are there already stay."""
    copied = 0
    for archive in archives:
        to = archive.path(target)
        archive.check(file.path)
        if Path(archive.file).is_absolute():
            continue
        if to.exists():
            if file_digest(to) != (archive.sha256, archive.bytes):
                # Other bytes for the same events, by another version of foreman or zlib; or damaged.
                raise CopyFailed(f"{to} is another file than the archive, and older backups there may need it")
            continue
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with archive.path(file.path).open("rb") as read, written(to) as out:
            shutil.copyfileobj(read, out)
        copied += 1
    return copied


def _refuse(source: Path, target: Path) -> None:
    """Not to write over what is no older backup."""
    beside = [target.with_name(target.name + rest) for rest in ("-wal", "-journal")]
    if left := [path for path in beside if path.exists()]:
        # A database in use, or what is left of one: SQLite would take it for a part of the copy.
        raise CopyFailed(f"{left[0]} is there: {target} is a database in use, or was one")
    if not target.exists():
        return
    if source.exists() and target.samefile(source):
        raise CopyFailed(f"{target} is the database itself")
    if not is_database(target):
        raise CopyFailed(f"{target} is there already, and is no older backup")


def is_database(path: Path) -> bool:
    """Whether there is such a file, and SQLite's. Raises CopyFailed."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise CopyFailed(f"cannot read {path}: {error.strerror}") from error
