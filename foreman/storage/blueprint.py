"""What migrations make of an empty database, to tell by a file's own schema whose it is. Touches no file."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Final

from foreman.errors import DatabaseUnusable
from foreman.storage.reading import Row

#: Tables of SQLite's own that ANALYZE makes say nothing of a database's rules.
SELECT: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'"
SELECT_VERSION: Final = "PRAGMA user_version"


@lru_cache
def blueprint(migrations: Sequence[str]) -> frozenset[Row]:
    """The rows of SELECT in a database on which just these ran."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in migrations:
            connection.executescript(script)
        return frozenset(connection.execute(SELECT))


def refuse_foreign(path: Path, migrations: Sequence[str], version: int, found: Collection[Row]) -> None:
    """Raises DatabaseUnusable unless the schema `found` in a file is what these migrations, or later ones, make.

    One table that is theirs to the letter will do: a file that somebody has changed is still foreman's, and damaged.
    The name of a table says nothing, and nor does `user_version`, which other programs count too.
    """
    done = tuple(migrations[:version]) if 0 < version <= len(migrations) else tuple(migrations)
    mine = {row for row in blueprint(done) if row[0] == "table" and not row[1].startswith("sqlite_")}
    if mine.isdisjoint(found):
        raise DatabaseUnusable(
            f"{path} is no database of foreman's: {_said(version, found)}",
            hint="let FOREMAN_DB_PATH, or --db, name another file",
        )
    if version <= 0:
        raise DatabaseUnusable(
            f"{path} has tables of foreman's, but says that its schema is {version}: somebody has changed that",
            hint="put the last backup in its place",
        )


def _said(version: int, found: Collection[Row]) -> str:
    names = sorted(row[1] for row in found if row[0] in ("table", "view") and not row[1].startswith("sqlite_"))
    if names:
        others = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        return f"it has a table {names[0]!r}{others} of another program's"
    return f"it says that its schema is {version}, and has no tables" if version else "there are no tables in it"
