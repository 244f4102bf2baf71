"""Makes a database anew from its log, and asserts that it is the same one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from foreman.commands.dump import canonical_dump, first_difference
from foreman.commands.rebuild import Beside, Rebuilt, contents_of, rebuild
from foreman.events.history import History
from foreman.storage.still import still


def rebuilt(path: Path, into: Path, **left_out: object) -> Rebuilt:
    """A new database of the log, with all that is beside it unless that is replaced."""
    with still(path) as file:
        given = {"contents": contents_of(file), "beside": Beside.of(file)} | left_out
        return rebuild(into, History(file).events(), **given)


def everything(path: Path) -> dict[str, list[tuple]]:
    """All rows of all tables but the snapshots, which are taken now and then."""
    with still(path) as file:
        names = [name for (name,) in file.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        return {name: sorted(file.rows(f"SELECT * FROM {name}")) for name in names if name != "snapshots"}


def assert_rebuilds(path: Path) -> None:
    """Assert that the database's log gives the database, by every row and by the canonical dump."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder, "new.db")
        made = rebuilt(path, new)
        assert (made.missing, made.refused) == (0, 0)
        assert everything(new) == everything(path)
        with still(path) as one, still(new) as other:
            assert first_difference(canonical_dump(one), canonical_dump(other)) is None
