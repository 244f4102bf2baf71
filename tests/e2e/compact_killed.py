"""Compacts a database and dies on the way, as by a power cut: `python -m tests.e2e.compact_killed DB STEP`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from foreman.archive.compact import compact, plan
from foreman.commands.schema import MIGRATIONS
from foreman.storage.database import Database, Statement
from foreman.storage.still import still
from tests.archive_kit import day

#: In this order; the last is not reached by any fault.
STEPS = ("writing", "os.rename", "before_moving", "after_moving", "shrinking", "never")


def die(here: str) -> None:
    if sys.argv[2] == here:
        os.kill(os.getpid(), signal.SIGKILL)


class Dying(Database):
    """A database whose process ends beside a transaction."""

    async def transact(self, statements: Sequence[Statement]) -> None:
        die("before_moving")
        await super().transact(statements)
        die("after_moving")

    async def give_back_space(self) -> int:
        left = await super().give_back_space()
        die("shrinking")
        return left


async def main() -> None:
    path = Path(sys.argv[1])
    sys.addaudithook(lambda event, _: die(event))
    database = Dying(path, MIGRATIONS)
    await database.open()
    with still(path) as file:
        planned = plan(file, day(3))
    await compact(database, planned, path.with_name("archive"), lambda _: die("writing"))
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
