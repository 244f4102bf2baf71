"""What migrations make of an empty database, to hold a file's own schema against. Touches no file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from typing import Final

from foreman.storage.reading import Row

#: Tables of SQLite's own that ANALYZE makes say nothing of a database's rules.
SELECT: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'"


@lru_cache
def blueprint(migrations: Sequence[str]) -> frozenset[Row]:
    """The rows of SELECT in a database on which just these ran."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in migrations:
            connection.executescript(script)
        return frozenset(connection.execute(SELECT))
