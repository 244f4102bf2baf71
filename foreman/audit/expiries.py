"""Jobs that have expired, by their rows: each row is taken at its word until the event comes that has to bear it out.

Says nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from foreman.clock import Micros
from foreman.events.history import END, History
from foreman.events.types import JobExpired, Recorded
from foreman.projections.job import Job
from foreman.storage.still import Still

SELECT_EXPIRED: Final = """
SELECT jobs.job_id, jobs.view FROM jobs WHERE state = 'expired' ORDER BY ordinal
"""
SELECT_TYPE: Final = "SELECT type FROM events WHERE stream = ? AND position = ?"
#: Claims that are remembered until their event comes; of others the row is asked once more.
MOST_CLAIMS: Final = 20_000


class Expiries:
    """What rows claim of the last event of their jobs, and how much of it was confirmed."""

    def __init__(self, still: Still) -> None:
        self._still = still
        #: Rows that say that their job has expired, and the events that say so.
        self._said = self._confirmed = 0
        #: By the position of such an event, what it has to be.
        self._claims: dict[int, tuple[str, int, Micros, bytes]] = {}

    def claimed(self, job: Job, view: str) -> Recorded:
        """The event that the job's view claims to have seen last.

        Raises ValueError, TypeError or KeyError if it claims none.
        """
        self._said += 1
        said = orjson.loads(view)
        version, hash_ = job.version + 1, bytes.fromhex(said["log_hash"])
        position, at = said["position"], said["updated_at"]
        if len(self._claims) < MOST_CLAIMS:
            self._claims[position] = (job.job_id, version, at, hash_)
        return Recorded(position, job.job_id, version, at, hash_, JobExpired(removed=()))

    def is_due(self, recorded: Recorded) -> bool:
        """Whether an event is one that was claimed and is remembered."""
        if not isinstance(recorded.event, JobExpired):
            return False
        seen = (recorded.stream, recorded.version, recorded.at, recorded.hash)
        if self._claims.pop(recorded.position, None) != seen:
            return False
        self._confirmed += 1
        return True

    def is_claimed(self, recorded: Recorded, view: str) -> bool:
        """Whether this view claims just this event."""
        self._confirmed += 1
        said = members_of(view)
        mine = ("expired", recorded.at, recorded.position, recorded.version, recorded.hash.hex())
        return tuple(said.get(key) for key in ("state", "updated_at", "position", "version", "log_hash")) == mine

    def unconfirmed(self) -> Iterator[str]:
        """The jobs of whose expiry no event speaks. Slow, and only looked for when it is known that there is one."""
        if self._said <= self._confirmed:
            return
        history, archived = History(self._still), dict[str, int]()
        last = max((archive.last for archive in history.archives()), default=0)
        for job_id, view in self._still.rows(SELECT_EXPIRED):
            position = members_of(view).get("position")
            if not isinstance(position, int) or not 0 < position < END:
                yield job_id
            elif position <= last:
                archived[job_id] = position
            elif next(self._still.rows(SELECT_TYPE, (job_id, position)), None) is None:
                yield job_id
        for position, stream, *_ in history.rows(0, last) if archived else ():
            if archived.get(stream) == position:
                del archived[stream]
        yield from archived


def members_of(view: str) -> dict[str, Any]:
    """The view's members; none for what is no object."""
    try:
        members = orjson.loads(view)
    except orjson.JSONDecodeError:
        return {}
    return members if isinstance(members, dict) else {}
