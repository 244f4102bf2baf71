"""The database's tables, by migration. A released migration is never edited; a change is a new one."""

from __future__ import annotations

from typing import Final

from foreman.events import archives, log
from foreman.projections import contents, deliveries, jobs, keys, snapshots, webhook_totals

MIGRATIONS: Final[tuple[str, ...]] = (
    log.SCHEMA + contents.SCHEMA + jobs.SCHEMA + keys.SCHEMA + snapshots.SCHEMA,
    deliveries.SCHEMA,
    webhook_totals.SCHEMA,
    archives.SCHEMA,
    jobs.SMALLER,
)
