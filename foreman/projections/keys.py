"""Idempotency keys: which jobs each stands for, and what it was sent with. A fold of job.queued and job.expired.

A key lives until the last of its jobs has expired: forgotten job by job, a batch would answer its repeat in part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import orjson

from foreman.storage.reading import Read

SCHEMA: Final = """
CREATE TABLE idempotency (
    key         TEXT NOT NULL,
    ordinal     INTEGER NOT NULL,
    job_id      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (key, ordinal)
) STRICT, WITHOUT ROWID;
"""
INSERT: Final = "INSERT INTO idempotency (key, ordinal, job_id, fingerprint) VALUES (?, ?, ?, ?)"
#: Run after the views are written: it forgets a key if nothing is left of any of its jobs.
DELETE_SPENT: Final = """
DELETE FROM idempotency WHERE key = ?1 AND NOT EXISTS (
    SELECT 1 FROM idempotency AS own JOIN jobs USING (job_id) WHERE own.key = ?1 AND jobs.state != 'expired'
)
"""
SELECT: Final = """
SELECT key, job_id, fingerprint FROM idempotency WHERE key IN (SELECT value FROM json_each(?)) ORDER BY key, ordinal
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """A key that was used: the jobs it made, in the order they were submitted."""

    fingerprint: str
    job_ids: tuple[str, ...]


async def find(read: Read, keys: Iterable[str]) -> dict[str, KnownKey]:
    """Those of the keys that are known."""
    found: dict[str, KnownKey] = {}
    for key, job_id, fingerprint in await read(SELECT, (orjson.dumps(list(keys)).decode(),)):
        before = found[key].job_ids if key in found else ()
        found[key] = KnownKey(fingerprint=fingerprint, job_ids=(*before, job_id))
    return found
