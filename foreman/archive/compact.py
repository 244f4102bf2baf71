"""Moves the oldest events into an archive file. Nothing is removed before the file has been read back and is durable.

Killed at any moment, each event is in the table, or in an archive that the table `archives` has on record, or in both.
"""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from foreman.archive.export import as_lines
from foreman.archive.output import lines_to, sync_folder
from foreman.clock import Micros, rfc3339
from foreman.errors import CopyFailed, ExportInvalid, ForemanError, LogCorrupt
from foreman.events import archives, log
from foreman.events.archives import Archive, file_digest
from foreman.events.codec import GENESIS
from foreman.events.history import SELECT, History
from foreman.events.lines import CheckedLines, Header, StoredEvent
from foreman.events.types import DAEMON
from foreman.fsm.job import State
from foreman.projections import snapshots
from foreman.storage.database import Database, Statement
from foreman.storage.still import Still, still

SELECT_FIRST_YOUNG: Final = "SELECT position, at FROM events WHERE at >= ? ORDER BY position LIMIT 1"
SELECT_FIRST_KEPT: Final = "SELECT ordinal, job_id, state FROM jobs WHERE state != ? ORDER BY ordinal LIMIT 1"
SELECT_LAST_OF_DAEMON: Final = "SELECT max(position) FROM events WHERE stream = ?"
SELECT_SIZE: Final = "SELECT coalesce(sum(length(data) + length(stream)), 0) FROM events WHERE position <= ?"
DELETE: Final = "DELETE FROM events WHERE position <= ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which events go, and why not more."""

    header: Header
    #: Their texts, before they are compressed.
    size_bytes: int
    #: What comes next and has to stay, in a sentence.
    because: str

    @property
    def count(self) -> int:
        """How many events."""
        return self.header.until - self.header.after

    @property
    def name(self) -> str:
        """What the file is called; the hash tells it from that of another log in the same folder."""
        first, last = self.header.after + 1, self.header.until
        return f"events-{first:012}-{last:012}-{self.header.hash.hex()[:8]}.jsonl.gz"


def plan(file: Still, before: Micros) -> Plan:
    """The longest beginning of the log of which every event is older than `before` and can go."""
    made = History(file).archives()
    after, previous_hash = (made[-1].last, made[-1].hash) if made else (0, GENESIS)
    bound, because = min(_bounds(file, before))
    until = max(after, bound - 1)
    last_hash = previous_hash
    if until > after:
        last = next(file.rows(SELECT, (until - 1, until)), None)
        if last is None:
            raise LogCorrupt(f"the log has no event at position {until}")
        last_hash = last[-1]
    ((size,),) = file.rows(SELECT_SIZE, (until,))
    header = Header(after=after, previous_hash=previous_hash, until=until, hash=last_hash)
    return Plan(header=header, size_bytes=size, because=because)


def _bounds(file: Still, before: Micros) -> Iterable[tuple[int, str]]:
    """Positions that have to stay in the table, each with the reason."""
    head = next(file.rows(log.SELECT_HEAD), (0, GENESIS))[0]
    yield max(head, 1), "the last event stays, since the chain goes on from it"
    for position, at in file.rows(SELECT_FIRST_YOUNG, (before,)):
        yield position, f"event {position} of {rfc3339(at)} is not older"
    for position, job_id, state in file.rows(SELECT_FIRST_KEPT, (State.EXPIRED.value,)):
        yield position, f"job {job_id}, which begins at event {position}, is {state} and not expired yet"
    for (position,) in file.rows(SELECT_LAST_OF_DAEMON, (DAEMON,)):
        if position is not None:
            yield position, f"event {position} stays, since the daemon's next one is numbered after it"


async def compact(database: Database, planned: Plan, folder: Path, told: Callable[[int], None]) -> Archive | None:
    """Carry the plan out on a database that nobody else has open; None if there was nothing to move.

    Raises CopyFailed if the archive cannot be written, ExportInvalid if the log contradicts itself: then nothing was
    removed.
    """
    archive = None
    if planned.count:
        archive = await _written(database.path, planned, folder, told)
        await _moved(database, archive)
    # Also what a run that was killed has left.
    free = await database.give_back_space()
    while free and (left := await database.give_back_space()) < free:
        free = left
    return archive


async def _written(database: Path, planned: Plan, folder: Path, told: Callable[[int], None]) -> Archive:
    header, path = planned.header, folder / planned.name
    _make(folder, database)
    # One that is whole stays as it is: a run that was killed has written it, or a copy of this database refers to it.
    if not (path.exists() and await _is_whole(path, header)):
        with still(database) as file, lines_to(path) as out:
            events = map(StoredEvent._make, file.rows(SELECT, (header.after, header.until)))
            lines = as_lines(header, events)
            while batch := list(islice(lines, snapshots.PAGE)):
                out.writelines(batch)
                told(len(batch))
                await asyncio.sleep(0)  # a cancellation, as by Ctrl-C, gets in here
        try:
            await _read_back(path, header)
        except ForemanError:
            path.unlink()
            raise
    _give(path, database)
    return _on_record(path, header, database)


def _on_record(path: Path, header: Header, database: Path) -> Archive:
    sha256, size = file_digest(path)
    home = database.resolve().parent
    resolved = path.resolve()
    name = resolved.relative_to(home) if resolved.is_relative_to(home) else resolved
    return Archive(
        first=header.after + 1,
        last=header.until,
        previous_hash=header.previous_hash,
        hash=header.hash,
        file=str(name),
        sha256=sha256,
        bytes=size,
    )


def _make(folder: Path, database: Path) -> None:
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            _give(folder, database)
        sync_folder(folder.parent)
    except OSError as error:
        raise CopyFailed(f"cannot write to {folder}: {error.strerror}") from error


def _give(path: Path, database: Path) -> None:
    """To the database's owner, who has to read it; as SQLite does with its files if root runs this."""
    if os.geteuid() == 0:
        owner = database.stat()
        with suppress(OSError):
            os.chown(path, owner.st_uid, owner.st_gid)


async def _is_whole(path: Path, header: Header) -> bool:
    try:
        await _read_back(path, header)
    except ForemanError:
        return False
    return True


async def _read_back(path: Path, header: Header) -> None:
    """Raises ExportInvalid unless the file holds just these events, and each of them fits its hash."""
    try:
        with gzip.open(path) as packed:
            lines = CheckedLines(packed, str(path))
            if replace(lines.header, foreman_version=header.foreman_version) != header:
                raise lines.wrong("this is another part of the log, or another log")
            for event in lines.events():
                if event.position % snapshots.PAGE == 0:
                    await asyncio.sleep(0)
            for _ in lines.rest():
                raise lines.wrong("this is no event")
    except OSError as error:
        raise ExportInvalid(f"cannot read {path}: {error.strerror}") from error


async def _moved(database: Database, archive: Archive) -> None:
    """Remove the events. The snapshots are taken anew, so that the next start need not look into archives."""
    read = database.read_as_writer
    states = await snapshots.states_now(read)
    await database.transact(
        [
            Statement(archives.INSERT, [archive]),
            Statement(DELETE, [(archive.last,)]),
            Statement(snapshots.UPSERT, [snapshots.row(state) for state in states]),
        ]
    )
