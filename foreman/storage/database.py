"""One SQLite file: a single connection that writes and a few that only read.

Exactly one connection ever commits or checkpoints: besides being rule 2, it is what keeps SQLite before 3.51.3 out
of its WAL-reset race, which needs two (ADR 3).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite

from foreman.errors import CommitUnknown, DatabaseUnusable, StorageFull
from foreman.storage.lock import FileLock
from foreman.storage.reading import Row

READERS = 3
SQLITE_VERSION = sqlite3.sqlite_version
#: Pages given back to the file system per step; a step is one short write transaction.
VACUUM_PAGES = 2_000


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and the rows of parameters to run it with."""

    sql: str
    rows: Sequence[Sequence[Any]]


class Database:
    """The open file. `open()` takes the lock and migrates; `close()` is idempotent."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        """`migrations` are scripts in order; `user_version` counts those that ran."""
        self.path = path
        self.migrations = migrations
        self._lock = FileLock(path)
        self._writer: aiosqlite.Connection | None = None
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._readers: list[aiosqlite.Connection] = []

    async def open(self) -> None:
        """Lock, open, migrate. Raises DatabaseLocked or DatabaseUnusable."""
        self._lock.acquire()
        try:
            self._writer = await aiosqlite.connect(self.path, isolation_level=None)
            await self._prepare(self._writer)
            for _ in range(READERS):
                reader = await aiosqlite.connect(f"file:{_quoted(self.path)}?mode=ro", uri=True, isolation_level=None)
                self._readers.append(reader)
                self._idle.put_nowait(reader)
        except sqlite3.Error as error:
            await self.close()
            raise DatabaseUnusable(f"cannot open {self.path}: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def _prepare(self, connection: aiosqlite.Connection) -> None:
        # Must come before the first table is made, or it does nothing.
        await connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = FULL")
        await connection.execute("PRAGMA foreign_keys = ON")
        (done,) = (await self._fetch(connection, "PRAGMA user_version", ()))[0]
        if done > len(self.migrations):
            raise DatabaseUnusable(
                f"{self.path} was written by a newer foreman (schema {done}, this one knows {len(self.migrations)})"
            )
        for number, script in enumerate(self.migrations[done:], start=done + 1):
            await connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")

    async def transact(self, statements: Sequence[Statement]) -> None:
        """Run all statements in one transaction; on return they are durable.

        Raises StorageFull when the disk was full and nothing was written, CommitUnknown when only a fresh look at
        the disk can tell (durability: an fsync that failed must not be retried). Must not be cancelled.
        """
        writer = self._connection()
        try:
            await writer.execute("BEGIN IMMEDIATE")
            for statement in statements:
                if statement.rows:
                    await writer.executemany(statement.sql, statement.rows)
            await writer.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                with suppress(sqlite3.OperationalError):  # SQLite may have rolled back by itself
                    await writer.execute("ROLLBACK")
                raise StorageFull from error
            raise CommitUnknown(f"writing to {self.path} failed: {error} ({error.sqlite_errorname})") from error

    async def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows from a connection that cannot write. Sees everything that was durable when it was called."""
        reader = await self._idle.get()
        try:
            return await self._fetch(reader, sql, parameters)
        finally:
            # After a cancellation the statement still runs in this reader's thread; the next one queues behind it.
            self._idle.put_nowait(reader)

    async def read_as_writer(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows as the one writer sees them; for the ledger, between its transactions."""
        return await self._fetch(self._connection(), sql, parameters)

    async def give_back_space(self) -> int:
        """Return some free pages to the file system; the number of free pages that remain."""
        writer = self._connection()
        try:
            await writer.execute_fetchall(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise CommitUnknown(f"shrinking {self.path} failed: {error}") from error
        ((free,),) = await self._fetch(writer, "PRAGMA freelist_count", ())
        return int(free)

    async def close(self) -> None:
        """Close everything and give the lock back; harmless when repeated or when never opened."""
        # Readers first: the last connection to close checkpoints, and that must be the writer.
        for reader in self._readers:
            await reader.close()
        self._readers.clear()
        self._idle = asyncio.Queue()
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        self._lock.release()

    def _connection(self) -> aiosqlite.Connection:
        if self._writer is None:
            raise DatabaseUnusable(f"{self.path} is not open")
        return self._writer

    @staticmethod
    async def _fetch(connection: aiosqlite.Connection, sql: str, parameters: Sequence[Any]) -> list[Row]:
        return list(await connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]


def _quoted(path: Path) -> str:
    """A path as SQLite's URI form needs it."""
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
