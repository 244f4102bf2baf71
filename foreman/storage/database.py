"""One SQLite file: a single connection that writes and a few that only read.

Exactly one connection ever commits or checkpoints: besides being rule 2, it is what keeps SQLite before 3.51.3 out
of its WAL-reset race, which needs two (ADR 3). Errors of SQLite's leave this module as foreman's own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiosqlite

from foreman.errors import CommitUnknown, DatabaseBroke, DatabaseUnusable, StorageFull
from foreman.storage.blueprint import SELECT, SELECT_VERSION, refuse_foreign
from foreman.storage.lock import FileLock
from foreman.storage.reading import Row
from foreman.storage.still import hint_for, still

READERS: Final = 3
SQLITE_VERSION: Final = sqlite3.sqlite_version
#: Pages given back to the file system per step; a step is one short write transaction.
VACUUM_PAGES: Final = 2_000
#: A write-ahead log that has grown larger is cut back to this once its pages are in the database.
WAL_KEPT_BYTES: Final = 16 * 1024 * 1024
#: Rows that aiosqlite fetches at a time when it iterates, which nothing here does.
ITERATED: Final = 64


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and the rows of parameters to run it with."""

    sql: str
    rows: Sequence[Sequence[Any]]


class Writer(aiosqlite.Connection):
    """The connection that writes: a whole transaction is one visit to its thread.

    So whoever awaits it may be cancelled without leaving half a transaction behind, and a commit costs one change of
    threads instead of one for each statement.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(partial(sqlite3.connect, path, isolation_level=None), ITERATED)

    async def transact(self, statements: Sequence[Statement]) -> None:
        """Run all statements in one transaction. Raises sqlite3.Error."""
        await self._execute(_transact, self._conn, statements)  # type: ignore[no-untyped-call]


class Database:
    """The open file. `open()` takes the lock and migrates; `close()` is idempotent."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        """`migrations` are scripts in order; `user_version` counts those that ran."""
        self.path = path
        self.migrations = migrations
        self._lock = FileLock(path)
        self._writer: Writer | None = None
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._readers = 0
        #: Who waits for a reader, in order. The queue alone would give it back to who has just put it there.
        self._line = asyncio.Semaphore(READERS)

    async def open(self) -> None:
        """Lock, open, migrate. Raises DatabaseLocked or DatabaseUnusable."""
        if self.path.is_dir():
            raise DatabaseUnusable(f"cannot open {self.path}: it is a folder, and the database is a file")
        self._look()
        self._lock.acquire()
        try:
            # Here and not by SQLite, whose connection would meet the error in a thread of its own. A new file is its
            # owner's alone: prompts and secrets are in it. What SQLite puts beside it takes its mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._writer = Writer(self.path)
            await self._writer
            await self._prepare(self._writer)
            for _ in range(READERS):
                uri = f"{self.path.absolute().as_uri()}?mode=ro"
                self._idle.put_nowait(await aiosqlite.connect(uri, uri=True, isolation_level=None))
                self._readers += 1
            self._lock.keep()
        except (sqlite3.Error, OSError) as error:
            await self.close()
            reason = error.strerror if isinstance(error, OSError) else error
            raise DatabaseUnusable(f"cannot open {self.path}: {reason}", hint=hint_for(error)) from error
        except BaseException:
            await self.close()
            raise

    def _look(self) -> None:
        """Refuse another program's file before there is so much as a lock beside it."""
        try:
            with still(self.path) as file:
                ((version,),) = file.rows(SELECT_VERSION)
                found = list(file.rows(SELECT))
        except DatabaseUnusable:
            return  # none yet, or one that cannot be read: opening it will tell
        self._refuse(version, found)

    def _refuse(self, version: int, found: Sequence[Row]) -> None:
        if not version and not found:
            return  # new
        refuse_foreign(self.path, self.migrations, version, found)
        if version > (known := len(self.migrations)):
            raise DatabaseUnusable(
                f"{self.path} was written by a newer foreman (schema {version}, this one knows {known})",
                hint="run that version or newer",
            )

    async def _prepare(self, writer: Writer) -> None:
        ((done,),) = await writer.execute_fetchall(SELECT_VERSION)
        self._refuse(done, list(await writer.execute_fetchall(SELECT)))  # type: ignore[arg-type]
        # Must come before the first table is made, or it does nothing.
        await writer.execute_fetchall("PRAGMA auto_vacuum = INCREMENTAL")
        ((mode,),) = await writer.execute_fetchall("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise DatabaseUnusable(f"{self.path} cannot have a write-ahead log, only a journal of kind {mode!r}")
        await writer.execute_fetchall("PRAGMA synchronous = FULL")
        # Else the file keeps the size that one long reader made it grow to, and says for ever that there is one.
        await writer.execute_fetchall(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        await writer.execute_fetchall("PRAGMA foreign_keys = ON")
        # Many builds of SQLite write zeros over what is dropped: of a table that was only moved that is for nothing.
        ((kept,),) = await writer.execute_fetchall("PRAGMA secure_delete")
        await writer.execute_fetchall("PRAGMA secure_delete = FAST")
        for number, script in enumerate(self.migrations[done:], start=done + 1):
            await writer.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        await writer.execute_fetchall(f"PRAGMA secure_delete = {kept}")

    async def transact(self, statements: Sequence[Statement]) -> None:
        """Run all statements in one transaction; on return they are durable.

        Raises StorageFull when the disk was full and nothing was written, CommitUnknown when only a fresh look at
        the disk can tell (durability: an fsync that failed must not be retried). Cancelled, it may be either.
        """
        try:
            await self._opened().transact(statements)
        except sqlite3.Error as error:
            if _is_full(error):
                raise StorageFull from error
            raise CommitUnknown(f"writing to {self.path} failed: {_named(error)}") from error

    async def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows from a connection that cannot write. Sees everything that was durable when it was called."""
        self._opened()
        async with self._line:
            reader = await self._idle.get()
            try:
                return await self._fetch(reader, sql, parameters)
            finally:
                # After a cancellation the statement still runs in this reader's thread; the next one queues behind it.
                self._idle.put_nowait(reader)

    async def read_as_writer(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows as the one writer sees them; for the ledger, between its transactions."""
        return await self._fetch(self._opened(), sql, parameters)

    async def give_back_space(self) -> int:
        """Return some free pages to the file system; the number of free pages that remain."""
        try:
            await self._opened().execute_fetchall(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        except sqlite3.Error as error:
            if not _is_full(error):
                raise CommitUnknown(f"shrinking {self.path} failed: {_named(error)}") from error
        ((free,),) = await self.read_as_writer("PRAGMA freelist_count")
        return int(free)

    async def close(self) -> None:
        """Close everything and give the lock back; harmless when repeated or when never opened."""
        writer, self._writer = self._writer, None  # from here on nobody gets in line for a reader
        # Readers first: the last connection to close checkpoints, and that must be the writer.
        while self._readers:
            self._readers -= 1
            async with self._line:
                await (await self._idle.get()).close()
        if writer is not None:
            await writer.close()
        self._lock.release()

    def _opened(self) -> Writer:
        if self._writer is None:
            raise DatabaseUnusable(f"{self.path} is not open")
        return self._writer

    async def _fetch(self, connection: aiosqlite.Connection, sql: str, parameters: Sequence[Any]) -> list[Row]:
        try:
            return list(await connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]
        except sqlite3.Error as error:
            raise DatabaseBroke(f"reading from {self.path} failed: {_named(error)}") from error


def _transact(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            if statement.rows:
                connection.executemany(statement.sql, statement.rows)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        # Only of a full disk is it known that nothing was written; SQLite may have rolled back by itself.
        if _is_full(error) and connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_FULL


def _named(error: sqlite3.Error) -> str:
    """SQLite's words and its name for the error, which tells a failed write from a failed fsync."""
    return f"{error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
