"""What a database holds beside its log, for a rebuild: bytes of artifacts, and how deliveries went. No event has them.

SQL and rows; an artifact is believed only if it is what its job's events say.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

from foreman.events.types import ArtifactRef
from foreman.fsm.job import State
from foreman.projections import contents, jobs
from foreman.projections.job import Job
from foreman.storage.fresh import Fresh
from foreman.storage.reading import Row
from foreman.storage.still import Still

END_ALL: Final = "UPDATE deliveries SET status = 'dead', ended = due"
SELECT_OUTCOMES: Final = "SELECT status, attempts, failures, due, ended, position FROM deliveries ORDER BY position"
UPDATE_OUTCOME: Final = """
UPDATE deliveries SET status = ?, attempts = ?, failures = ?, due = ?, ended = ? WHERE position = ?
"""
SELECT_ATTEMPTS: Final = """
SELECT position, number, at, duration, address, status, reply, error FROM delivery_attempts ORDER BY position, number
"""
INSERT_ATTEMPT: Final = """
INSERT INTO delivery_attempts (position, number, at, duration, address, status, reply, error)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM deliveries WHERE position = ?1)
"""
SELECT_SECRETS: Final = "SELECT job_id, secret FROM webhook_secrets"
INSERT_SECRET: Final = """
INSERT INTO webhook_secrets (job_id, secret) SELECT ?1, ?2 WHERE EXISTS (
    SELECT 1 FROM jobs WHERE job_id = ?1 AND state != 'expired' AND view ->> '$.webhook' IS NOT NULL
)
"""  # noqa: S105  (a query)
SELECT_TOTALS: Final = "SELECT count, name FROM webhook_totals WHERE name != 'dead'"
#: Attempts go with their jobs' contents, so there may have been more than there are.
UPDATE_TOTAL: Final = "UPDATE webhook_totals SET count = max(count, ?) WHERE name = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a database knows of its webhooks that is in no event: how deliveries went, and what they are signed with."""

    outcomes: Iterable[Row]
    attempts: Iterable[Row]
    secrets: Iterable[Row]
    totals: Iterable[Row]

    @classmethod
    def of(cls, still: Still) -> Self:
        """What this database knows."""
        return cls(
            outcomes=still.rows(SELECT_OUTCOMES),
            attempts=still.rows(SELECT_ATTEMPTS),
            secrets=still.rows(SELECT_SECRETS),
            totals=still.rows(SELECT_TOTALS),
        )


def contents_of(still: Still) -> Iterator[Row]:
    """A database's artifacts, as `rebuild` takes them."""
    return still.rows(contents.SELECT_ALL)


def put_outcomes(file: Fresh, beside: Beside | None) -> None:
    """How deliveries went; those of which nobody knows are not to be sent again by themselves."""
    file.insert(END_ALL, [()])
    if beside is not None:
        file.insert(UPDATE_OUTCOME, beside.outcomes)
        file.insert(INSERT_ATTEMPT, beside.attempts)
        file.insert(INSERT_SECRET, beside.secrets)
        file.insert(UPDATE_TOTAL, beside.totals)


class Owner:
    """Says whether artifacts are what their jobs' events say, one job after the other."""

    def __init__(self, file: Fresh) -> None:
        self._file = file
        self._job_id: str | None = None
        self._refs: dict[str, ArtifactRef] = {}

    def has(self, row: Row) -> bool:
        """Whether the job has this artifact, with these bytes."""
        job_id, name, content_type, size, sha256, *_ = row
        if job_id != self._job_id:
            job = found(self._file, job_id)
            present = job is not None and job.state is not State.EXPIRED
            self._job_id = job_id
            self._refs = {ref.name: ref for ref in (job.request, *job.artifacts)} if job and present else {}
        ref = self._refs.pop(name, None)  # each once
        if ref is None or (content_type, size, sha256) != (ref.content_type, ref.size, ref.sha256):
            return False
        try:
            return contents.is_sound(row)
        except zlib.error:
            return False


def found(file: Fresh, job_id: Any) -> Job | None:
    """A job whose row has been written, or None."""
    row = next(file.rows(jobs.SELECT_ONE, (job_id,)), None)
    return None if row is None else jobs.from_view(row[0])
