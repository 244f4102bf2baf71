"""The `jobs` table against the fold of the log: every transition legal, every view what its events make of it.

In memory are the unfinished jobs only. A finished one is compared at its last event and forgotten. If its row says that
it has expired since, the row is taken at its word as to that one event, and the word is kept when the event comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from foreman.audit.deliveries import Deliveries
from foreman.audit.findings import Code, Finding, Findings
from foreman.clock import Micros
from foreman.errors import ForemanError
from foreman.events.lines import StoredEvent
from foreman.events.types import DAEMON, JobExpired, JobQueued, Recorded
from foreman.fsm.job import FINISHED, State
from foreman.projections import jobs
from foreman.projections.job import Job, fold, fold_in
from foreman.storage.reading import Row
from foreman.storage.still import Still

TABLE: Final = "jobs"
COLUMNS: Final = ("job_id", "ordinal", "state", "model", "class", "source", "endpoint", "completed", "view")
SELECT: Final = """
SELECT job_id, ordinal, state, model, class, source, endpoint, completed, view FROM jobs ORDER BY ordinal
"""
SELECT_ONE: Final = """
SELECT job_id, ordinal, state, model, class, source, endpoint, completed, view FROM jobs WHERE job_id = ?
"""
SELECT_EXPIRED: Final = """
SELECT jobs.job_id, jobs.view FROM jobs WHERE state = 'expired' ORDER BY ordinal
"""
SELECT_TYPE: Final = "SELECT type FROM events WHERE stream = ? AND position = ?"
EXPIRED: Final = State.EXPIRED.value


@dataclass(slots=True)
class Open:
    """A job whose last event has not come, and its row."""

    job: Job
    row: Row

    @property
    def has_expired(self) -> bool:
        """Whether the row says so."""
        return bool(self.row[2] == EXPIRED)


class Jobs:
    """Folds every job and holds it against its row; tells `deliveries` of each that has a webhook."""

    def __init__(self, still: Still, findings: Findings, deliveries: Deliveries) -> None:
        self.count = 0
        self._still = still
        self._findings = findings
        self._deliveries = deliveries
        self._rows = still.rows(SELECT)
        self._next: Row | None = next(self._rows, None)
        self._open: dict[str, Open] = {}
        #: Streams that something was said of already.
        self._faulty = deliveries.ignored
        #: Rows that say that their job has expired, and the events that say so.
        self._claimed = self._confirmed = 0

    def take(self, recorded: Recorded) -> None:
        """The next event."""
        stream = recorded.stream
        if stream == DAEMON or stream in self._faulty:
            return
        is_first = isinstance(recorded.event, JobQueued)
        entry = self._open.get(stream)
        if entry is None and not is_first:
            self._take_late(recorded)
            return
        try:
            job = fold_in(None if entry is None else entry.job, recorded)
        except ForemanError as error:
            self._illegal(recorded, error)
            return
        if entry is None:
            row = self._row_of(recorded)
            if row is None:
                self._missing(recorded)
                return
            entry = self._open[stream] = Open(job, row)
        if job.webhook is not None:
            self._deliveries.take(job, expired=entry.has_expired)
        if job.state in FINISHED:
            del self._open[stream]
            self._close(entry)

    def unreadable(self, stored: StoredEvent) -> None:
        """This event cannot be decoded: nothing can be said of its job any more."""
        if stored.version == 1 and self._next is not None and self._next[1] == stored.position:
            self._next = next(self._rows, None)
        self._open.pop(stored.stream, None)
        self._faulty.add(stored.stream)

    def end(self) -> None:
        """The log is over: compare what is unfinished, and look for rows that no event accounts for."""
        for entry in self._open.values():
            self._compare(entry.job, entry.row)
            self._deliveries.forget(entry.job.job_id)
        while self._next is not None:
            self._unknown(self._next)
            self._next = next(self._rows, None)
        if self._claimed > self._confirmed:
            self._find_never_expired()
        self._deliveries.end()

    def _row_of(self, recorded: Recorded) -> Row | None:
        """The row of the job that begins with this event."""
        self.count += 1
        while self._next is not None and self._next[1] < recorded.position:
            self._unknown(self._next)
            self._next = next(self._rows, None)
        row = self._next
        if row is None or row[1] != recorded.position:
            return None
        self._next = next(self._rows, None)
        if row[0] != recorded.stream:
            self._unknown(row)
            return None
        return row

    def _close(self, entry: Open) -> None:
        job, row = entry.job, entry.row
        if entry.has_expired:
            self._claimed += 1
            try:
                job = fold(job, _claimed_expiry(job, row[8]))
            except (ValueError, TypeError, KeyError):
                self._differs(job, "its view cannot be read")
                return
        self._compare(job, row)
        if job.webhook is not None:
            self._deliveries.forget(job.job_id)

    def _take_late(self, recorded: Recorded) -> None:
        """An event of a job that has its final state: it can only be its expiry, and the row must know of it."""
        found = next(self._still.rows(SELECT_ONE, (recorded.stream,)), None)
        event = recorded.event
        if not isinstance(event, JobExpired) or found is None:
            text = (
                f"event {recorded.position} is {event.type} of version {recorded.version}, "
                "which the events of its job before it do not allow"
            )
            self._say(Code.EVENT_ILLEGAL, text, recorded.stream, recorded.position, recorded.at, table="events")
            return
        self._confirmed += 1
        said = _members(found[8])
        mine = ("expired", recorded.at, recorded.position, recorded.version, recorded.hash.hex())
        if tuple(said.get(key) for key in ("state", "updated_at", "position", "version", "log_hash")) != mine:
            text = f"job {recorded.stream} expired with event {recorded.position}, and its row says otherwise"
            self._say(Code.JOB_DIFFERS, text, recorded.stream, recorded.position, recorded.at)

    def _find_never_expired(self) -> None:
        """Some rows say that their job has expired, and no event does: find them."""
        for job_id, view in self._still.rows(SELECT_EXPIRED):
            position = _members(view).get("position")
            if job_id not in self._faulty and next(self._still.rows(SELECT_TYPE, (job_id, position)), None) is None:
                self._say(Code.JOB_DIFFERS, f"the row of job {job_id} says expired, and no event does", job_id)

    def _compare(self, job: Job, row: Row) -> None:
        expected = jobs.row(job)
        if expected == row:
            return
        names = [
            name
            for name, mine, its in zip(COLUMNS, expected, row, strict=True)
            if mine != its and not (name == "view" and _is_same_view(job, mine, its))
        ]
        if names:
            self._differs(job, f"in {', '.join(names)}{_members_that_differ(expected[8], row[8])}")

    def _differs(self, job: Job, how: str) -> None:
        text = f"the row of job {job.job_id} is not what its {job.version} events make of it: {how}"
        self._say(Code.JOB_DIFFERS, text, job.job_id, job.position, job.updated_at)

    def _illegal(self, recorded: Recorded, error: ForemanError) -> None:
        text = f"event {recorded.position} ({recorded.event.type}): {error}"
        self._open.pop(recorded.stream, None)
        if isinstance(recorded.event, JobQueued):
            self._row_of(recorded)
        self._say(Code.EVENT_ILLEGAL, text, recorded.stream, recorded.position, recorded.at, table="events")

    def _missing(self, recorded: Recorded) -> None:
        text = f"job {recorded.stream} was queued with event {recorded.position} and has no row with that ordinal"
        self._say(Code.JOB_MISSING, text, recorded.stream, recorded.position, recorded.at)

    def _unknown(self, row: Row) -> None:
        text = f"the row of job {row[0]} says that it began with event {row[1]}, and the log does not"
        self._findings.add(Finding(code=Code.JOB_UNKNOWN, sentence=text, table=TABLE, job_id=row[0]))

    def _say(
        self,
        code: Code,
        sentence: str,
        job_id: str,
        position: int | None = None,
        at: Micros | None = None,
        table: str = TABLE,
    ) -> None:
        """Once for each job: what else is wrong with it follows from that, or shows when it is mended."""
        if job_id not in self._faulty:
            self._faulty.add(job_id)
            self._findings.add(
                Finding(code=code, sentence=sentence, table=table, position=position, at=at, job_id=job_id)
            )


def _claimed_expiry(job: Job, view: str) -> Recorded:
    """The event that the view claims to have seen last."""
    said = orjson.loads(view)
    return Recorded(
        position=said["position"],
        stream=job.job_id,
        version=job.version + 1,
        at=said["updated_at"],
        hash=bytes.fromhex(said["log_hash"]),
        event=JobExpired(removed=()),
    )


def _members(view: str) -> dict[str, Any]:
    """The view's members; none for what is no object."""
    try:
        members = orjson.loads(view)
    except orjson.JSONDecodeError:
        return {}
    return members if isinstance(members, dict) else {}


def _is_same_view(job: Job, mine: str, its: str) -> bool:
    """Whether a view that is not written as today's foreman writes it says the same.

    An older one did not write members that came later; what they default to is what it meant. Nothing else may differ.
    """
    members, said = _members(mine), _members(its)
    if orjson.dumps(said).decode() != its or any(key not in members or members[key] != said[key] for key in said):
        return False
    try:
        return jobs.from_view(its) == job
    except ValueError:
        return False


def _members_that_differ(mine: str, its: str) -> str:
    members, said = _members(mine), _members(its)
    names = sorted(key for key in members.keys() | said if members.get(key) != said.get(key))
    return f" ({', '.join(names)})" if names else ""
