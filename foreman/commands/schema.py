"""The database's tables, by migration. A released migration is never edited; a change is a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from foreman.events import archives, log
from foreman.projections import contents, deliveries, jobs, keys, snapshots, webhook_totals
from foreman.storage.blueprint import SELECT, SELECT_VERSION, refuse_foreign
from foreman.storage.still import Still, still

MIGRATIONS: Final[tuple[str, ...]] = (
    log.SCHEMA + contents.SCHEMA + jobs.SCHEMA + keys.SCHEMA + snapshots.SCHEMA,
    deliveries.SCHEMA,
    webhook_totals.SCHEMA,
    archives.SCHEMA,
    jobs.SMALLER,
)


@contextmanager
def still_ours(path: Path) -> Iterator[Still]:
    """Open a database of foreman's to read it. Raises DatabaseUnusable if it is another program's, and as `still`."""
    with still(path) as file:
        ((version,),) = file.rows(SELECT_VERSION)
        refuse_foreign(path, MIGRATIONS, version, list(file.rows(SELECT)))
        yield file
