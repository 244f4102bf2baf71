"""The `jobs` table against the fold of the log: every transition legal, every view what its events make of it.

In memory are the unfinished jobs only. A finished one is compared at its last event and forgotten. If its row says that
it has expired since, the row is taken at its word as to that one event, and the word is kept when the event comes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from foreman.audit.contents import Contents
from foreman.audit.deliveries import Deliveries
from foreman.audit.expiries import Expiries, members_of
from foreman.audit.findings import Code, Finding, Findings
from foreman.audit.share import Share
from foreman.clock import Micros
from foreman.errors import ForemanError, ViewCorrupt
from foreman.events.types import JobCancelled, JobDone, JobExpired, JobFailed, JobQueued, Recorded
from foreman.fsm.job import State
from foreman.projections import jobs
from foreman.projections.job import Job, fold_in
from foreman.storage.reading import Row
from foreman.storage.still import Still

TABLE: Final = "jobs"
COLUMNS: Final = ("job_id", "ordinal", "state", "model", "class", "source", "endpoint", "completed", "view")
SELECT_ONE: Final = """
SELECT job_id, ordinal, state, model, class, source, endpoint, completed, view FROM jobs WHERE job_id = ?
"""
EXPIRED: Final = State.EXPIRED.value
LAST: Final = (JobDone, JobFailed, JobCancelled)


class Open(NamedTuple):
    """A job whose last event has not come, and its row."""

    job: Job
    row: Row
    #: Whether the row says that it has expired.
    has_expired: bool


class Jobs:
    """Folds every job of its share and holds it against its row; tells `deliveries` of each that has a webhook.

    Deliveries are looked at by one pass. There the jobs of the other share that have a webhook are followed as guests.
    """

    def __init__(
        self, still: Still, findings: Findings, contents: Contents, deliveries: Deliveries | None, share: Share
    ) -> None:
        self.count = 0
        #: The unfinished ones.
        self.open: dict[str, Open] = {}
        self._still = still
        self._findings = findings
        self._contents = contents
        self._deliveries = deliveries
        self._owns = share.owns
        #: Streams that something was said of already.
        self._faulty: set[str] = set() if deliveries is None else deliveries.ignored
        self._expiries = Expiries(still)

    def take(self, recorded: Recorded) -> None:
        """The next event of one of its jobs, or of a guest."""
        stream, event = recorded.stream, recorded.event
        if isinstance(event, JobQueued):
            self._begin(recorded, event)
            return
        is_last = isinstance(event, LAST)
        if is_last:
            self._contents.finish(recorded)
        entry = self.open.get(stream)
        if entry is None:
            if stream not in self._faulty:
                self._take_late(recorded)
            return
        try:
            fold_in(entry.job, recorded)
        except ForemanError as error:
            self._illegal(recorded, error)
            return
        if entry.job.webhook is not None and self._deliveries is not None:
            self._deliveries.take(entry.job, expired=entry.has_expired)
        if is_last:
            del self.open[stream]
            self._close(entry)

    def unreadable(self, row: Row) -> None:
        """This event cannot be decoded: nothing can be said of its job any more."""
        position, stream, version, *_ = row
        if version == 1 and self._owns(stream):
            self._skip_to(position)
            for _ in self._contents.skip_to(position + 1):
                pass  # it is this job's
        self.open.pop(stream, None)
        self._faulty.add(stream)

    def end(self) -> None:
        """The log is over: compare what is unfinished, and look for rows that no event accounts for."""
        for entry in self.open.values():
            self._compare(entry)
        self._skip_to(None)
        self._contents.end()
        for job_id in self._expiries.unconfirmed():
            self._say(Code.JOB_DIFFERS, f"the row of job {job_id} says expired, and no event does", job_id)
        if self._deliveries is not None:
            self._deliveries.end()

    def _begin(self, recorded: Recorded, event: JobQueued) -> None:
        stream = recorded.stream
        owned = self._owns(stream)
        if owned:
            self._skip_to(recorded.position)
            row = self._contents.begin(recorded, event)
            if row is not None and (row[0] != stream or stream in self._faulty):
                self._unknown(row)
                row = None
        else:
            row = next(self._still.rows(SELECT_ONE, (stream,)), None)
            if row is not None and row[1] != recorded.position:
                row = None
        if stream in self._faulty:
            return
        self.count += owned
        entry = self.open.get(stream)
        try:
            job = fold_in(None if entry is None else entry.job, recorded)
        except ForemanError as error:
            self._illegal(recorded, error)
            return
        if row is None:
            self._missing(recorded)
            return
        has_expired = row[2] == EXPIRED
        self.open[stream] = Open(job, row, has_expired)
        if job.webhook is not None and self._deliveries is not None:
            self._deliveries.take(job, expired=has_expired)

    def _skip_to(self, position: int | None) -> None:
        """Rows before this position (None: all) are of no event."""
        for row in self._contents.skip_to(position):
            self._unknown(row)

    def _close(self, entry: Open) -> None:
        job = entry.job
        if job.webhook is not None and self._deliveries is not None:
            self._deliveries.forget(job.job_id)
        if entry.has_expired and self._owns(job.job_id):
            try:
                fold_in(job, self._expiries.claimed(job, entry.row[8]))
            except (ValueError, TypeError, KeyError):
                self._differs(job, "its view cannot be read")
                return
        self._compare(entry)

    def _take_late(self, recorded: Recorded) -> None:
        """An event of a job that has its final state: it can only be its expiry, and the row must know of it."""
        position, stream, at, event = recorded.position, recorded.stream, recorded.at, recorded.event
        if self._expiries.is_due(recorded) or not self._owns(stream):
            return
        found = next(self._still.rows(SELECT_ONE, (stream,)), None)
        if not isinstance(event, JobExpired) or found is None:
            text = (
                f"event {position} is {event.type} of version {recorded.version}, "
                "which the events of its job before it do not allow"
            )
            self._say(Code.EVENT_ILLEGAL, text, stream, position, at, table="events")
            return
        if not self._expiries.is_claimed(recorded, found[8]):
            text = f"job {stream} expired with event {position}, and its row says otherwise"
            self._say(Code.JOB_DIFFERS, text, stream, position, at)

    def _compare(self, entry: Open) -> None:
        job, row = entry.job, entry.row
        if not self._owns(job.job_id):
            return
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
        self.open.pop(recorded.stream, None)
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
            if self._owns(job_id):  # of a guest the other pass says it
                self._findings.add(
                    Finding(code=code, sentence=sentence, table=table, position=position, at=at, job_id=job_id)
                )


def _is_same_view(job: Job, mine: str, its: str) -> bool:
    """Whether a view that is not written as today's foreman writes it says the same.

    An older one did not write members that came later; what they default to is what it meant. Nothing else may differ.
    """
    members, said = members_of(mine), members_of(its)
    if msgspec.json.encode(said).decode() != its or any(
        key not in members or members[key] != said[key] for key in said
    ):
        return False
    try:
        return jobs.from_view(its) == job
    except ViewCorrupt:
        return False


def _members_that_differ(mine: str, its: str) -> str:
    members, said = members_of(mine), members_of(its)
    names = sorted(key for key in members.keys() | said if members.get(key) != said.get(key))
    return f" ({', '.join(names)})" if names else ""
