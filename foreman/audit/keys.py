"""The `idempotency` table: a key stands for its jobs until the last of them has expired, and for nothing after that."""

from __future__ import annotations

from typing import Final

import orjson

from foreman.audit.findings import MOST, Code, Finding, Findings
from foreman.errors import ViewCorrupt
from foreman.events.types import IdempotencyKey, Recorded
from foreman.fsm.job import State
from foreman.projections import jobs
from foreman.storage.still import Still

TABLE: Final = "idempotency"
SELECT: Final = "SELECT ordinal, job_id, fingerprint FROM idempotency WHERE key = ? ORDER BY ordinal"
SELECT_ALL: Final = "SELECT key, ordinal, job_id FROM idempotency"
SELECT_COUNT: Final = "SELECT count(*) FROM idempotency"
SELECT_LIVE: Final = """
SELECT count(*) FROM jobs WHERE job_id IN (SELECT value FROM json_each(?)) AND state != ?
"""


class Keys:
    """Follows the log. Jobs of one key were submitted together, so their events are neighbours: these are in memory."""

    def __init__(self, still: Still, findings: Findings) -> None:
        self._still = still
        self._findings = findings
        self._family: list[tuple[Recorded, IdempotencyKey]] = []
        #: Rows that events account for.
        self._known = 0

    def take(self, recorded: Recorded, own: IdempotencyKey) -> None:
        """The first event of the next job that has a key."""
        if self._family:
            last, before = self._family[-1]
            if (own.key, own.ordinal, recorded.position) != (before.key, before.ordinal + 1, last.position + 1):
                self._end_family()
        self._family.append((recorded, own))

    def end(self) -> None:
        """The log is over: a row that no event accounts for is too much."""
        self._end_family()
        ((count,),) = self._still.rows(SELECT_COUNT)
        if count > self._known:
            self._find_unknown()

    def _end_family(self) -> None:
        if not self._family:
            return
        key = self._family[0][1].key
        mine = [(own.ordinal, recorded.stream, own.fingerprint) for recorded, own in self._family]
        found = list(self._still.rows(SELECT, (key,)))
        job_ids = [job_id for _, job_id, _ in mine]
        text = orjson.dumps(job_ids).decode()
        ((live,),) = self._still.rows(SELECT_LIVE, (text, State.EXPIRED.value))
        if live:
            self._known += len(mine)
            if found != mine:
                self._differs(f"the key of job {job_ids[0]} does not stand for what was submitted with it")
        elif any(job_id in job_ids for _, job_id, _ in found):
            self._known += len(found)
            self._differs(f"the key of job {job_ids[0]} is kept, though all of its jobs have expired")
        self._family.clear()

    def _differs(self, sentence: str) -> None:
        first = self._family[0][0]
        self._findings.add(
            Finding(
                code=Code.KEY_DIFFERS,
                sentence=sentence,
                table=TABLE,
                position=first.position,
                at=first.at,
                job_id=first.stream,
            )
        )

    def _find_unknown(self) -> None:
        """Slow, and only walked when it is known that there is one."""
        left = MOST
        for key, ordinal, job_id in self._still.rows(SELECT_ALL):
            if left and not self._is_of(key, ordinal, job_id):
                left -= 1
                text = f"a key stands for job {job_id} as its number {ordinal}, and no event says so"
                self._findings.add(Finding(code=Code.KEY_DIFFERS, sentence=text, table=TABLE, job_id=job_id))

    def _is_of(self, key: str, ordinal: int, job_id: str) -> bool:
        row = next(self._still.rows(jobs.SELECT_ONE, (job_id,)), None)
        try:
            own = jobs.from_view(row[0]).idempotency if row else None
        except ViewCorrupt:
            return False
        return own is not None and (own.key, own.ordinal) == (key, ordinal)
