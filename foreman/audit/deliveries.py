"""The webhook outbox: every event that should have a delivery has one, and each is in keeping with its attempts.

What came of attempts is in no event: it is written beside the log. Held against the log is which deliveries there are
and whom they tell of what; the rest is held against itself as far as one follows from the other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple

from foreman.audit.findings import Code, Finding, Findings
from foreman.projections import deliveries, webhook_totals
from foreman.projections.job import Job
from foreman.projections.outbox import Status
from foreman.storage.still import Still

TABLE: Final = "deliveries"
SELECT: Final = """
SELECT position, job_id, version, state, receiver, status, attempts, failures, due, ended FROM deliveries
ORDER BY position
"""
SELECT_ATTEMPTS: Final = """
SELECT position, number, address, status, error FROM delivery_attempts ORDER BY position, number
"""
SELECT_STRANGE_SECRETS: Final = """
SELECT job_id FROM webhook_secrets WHERE job_id NOT IN (
    SELECT job_id FROM jobs WHERE state != 'expired'
    AND json_extract(CASE WHEN json_valid(view) THEN view ELSE '{}' END, '$.webhook') IS NOT NULL
)
"""


class Stored(NamedTuple):
    """One delivery as its table has it."""

    position: int
    job_id: str
    version: int
    state: str
    receiver: str
    status: str
    attempts: int
    failures: int
    due: int
    ended: int | None


class Made(NamedTuple):
    """One attempt as its table has it, as far as anything follows from it."""

    position: int
    number: int
    address: str | None
    status: int | None
    error: str | None


@dataclass(slots=True)
class Lane:
    """What is known of an unfinished job's deliveries so far."""

    #: One of them has never ended, so that none after it may have been sent.
    waits: bool = False
    #: The receiver has answered one of them with 410.
    is_gone: bool = False


class Deliveries:
    """Follows the log and the tables side by side. In memory is one lane for each unfinished job with a webhook."""

    def __init__(self, still: Still, findings: Findings) -> None:
        self.count = 0
        #: Jobs of which something is said already: their deliveries are not spoken of.
        self.ignored: set[str] = set()
        self._still = still
        self._findings = findings
        self._totals: Counter[str] = Counter()
        self._rows = map(Stored._make, still.rows(SELECT))
        self._next = self._row()
        self._attempts = map(Made._make, still.rows(SELECT_ATTEMPTS))
        self._attempt = next(self._attempts, None)
        self._lanes: dict[str, Lane] = {}
        #: Whether deliveries have gone with their jobs' contents: what came of them is in the totals only.
        self._some_went = False

    def take(self, job: Job, *, expired: bool) -> None:
        """A job with a webhook, as its last event left it; `expired` if its contents have gone since."""
        if expired:
            self._some_went = True
        if not deliveries.is_told(job):
            return
        self._skip_to(job.position)
        row = self._next if self._next is not None and self._next.position == job.position else None
        if row is not None:
            self._next = self._row()
        if expired:
            if row is not None:
                self._unknown(row)
        elif row is None:
            text = f"event {job.position} ({job.state} of {job.job_id}) should have a delivery, and has none"
            self._say(Code.DELIVERY_MISSING, text, job)
        else:
            self._compare(job, row)

    def forget(self, job_id: str) -> None:
        """The job has its final state: nothing more is told of it."""
        self._lanes.pop(job_id, None)

    def end(self) -> None:
        """The log is over: compare what is left, the secrets, and what all attempts came to."""
        self._skip_to(None)
        for (job_id,) in self._still.rows(SELECT_STRANGE_SECRETS):
            if job_id not in self.ignored:
                text = f"there is a webhook secret of {job_id}, which is no job with a receiver to be told"
                self._findings.add(
                    Finding(code=Code.SECRET_UNKNOWN, sentence=text, table="webhook_secrets", job_id=job_id)
                )
        self._compare_totals()

    def _row(self) -> Stored | None:
        row = next(self._rows, None)
        if row is not None:
            self.count += 1
            self._totals["dead"] += row.status == Status.DEAD
        return row

    def _skip_to(self, position: int | None) -> None:
        """Deliveries and attempts before this position (None: all) are of no event that should have any."""
        while self._next is not None and (position is None or self._next.position < position):
            self._unknown(self._next)
            self._next = self._row()
        strangers = []
        while (made := self._attempt) is not None and (position is None or made.position < position):
            strangers.append(made.position)
            self._advance(made)
        for stranger in dict.fromkeys(strangers):
            text = f"there are attempts at a delivery of event {stranger}, and there should be no such delivery"
            self._findings.add(
                Finding(code=Code.DELIVERY_UNKNOWN, sentence=text, table="delivery_attempts", position=stranger)
            )

    def _made(self, position: int) -> list[Made]:
        """The attempts at this delivery."""
        found: list[Made] = []
        while (made := self._attempt) is not None and made.position == position:
            found.append(made)
            self._advance(made)
        return found

    def _advance(self, made: Made) -> None:
        self._totals[_result(made)] += 1
        self._attempt = next(self._attempts, None)

    def _compare(self, job: Job, row: Stored) -> None:
        webhook = job.webhook
        assert webhook is not None
        mine = (job.job_id, job.version, job.state.value, deliveries.receiver_of(webhook.url))
        if (row.job_id, row.version, row.state, row.receiver) != mine:
            text = (
                f"the delivery of event {job.position} tells {row.receiver} that {row.job_id} is {row.state}, "
                f"in version {row.version}; it should tell {mine[3]} that {mine[0]} is {mine[2]}, in version {mine[1]}"
            )
            self._say(Code.DELIVERY_DIFFERS, text, job)
        lane = self._lanes.setdefault(job.job_id, Lane())
        made = self._made(job.position)
        if fault := _fault(row, made, lane):
            text = f"the delivery of event {job.position} is {row.status} after {row.attempts} attempts, but {fault}"
            self._say(Code.DELIVERY_DIFFERS, text, job)
        lane.waits = lane.waits or row.ended is None
        lane.is_gone = lane.is_gone or any(one.status == HTTPStatus.GONE for one in made)

    def _compare_totals(self) -> None:
        stored: dict[str, int] = dict(self._still.rows(webhook_totals.SELECT))
        for name in (*webhook_totals.RESULTS, "dead"):
            found, least = stored.pop(name, None), self._totals[name]
            is_exact = name == "dead" or not self._some_went
            if found is None or found < least or (is_exact and found != least):
                words = "" if is_exact else "at least "
                text = f"the total of {name} is {found}, and the tables have {words}{least}"
                self._findings.add(Finding(code=Code.TOTALS_DIFFER, sentence=text, table="webhook_totals"))
        for name in stored:
            text = f"there is a total of {name!r}, which nothing counts"
            self._findings.add(Finding(code=Code.TOTALS_DIFFER, sentence=text, table="webhook_totals"))

    def _unknown(self, row: Stored) -> None:
        if row.job_id in self.ignored:
            return
        text = f"there is a delivery of event {row.position} to {row.receiver}, and there should be none"
        self._findings.add(
            Finding(code=Code.DELIVERY_UNKNOWN, sentence=text, table=TABLE, position=row.position, job_id=row.job_id)
        )

    def _say(self, code: Code, sentence: str, job: Job) -> None:
        self._findings.add(
            Finding(
                code=code, sentence=sentence, table=TABLE, position=job.position, at=job.updated_at, job_id=job.job_id
            )
        )


def _result(made: Made) -> str:
    """What the attempt counts as; the same as the triggers of `webhook_totals` make of it."""
    if made.error is None:
        return "delivered"
    if made.status == HTTPStatus.GONE:
        return "gone"
    return "not_sent" if made.address is None else "failed"


def _fault(row: Stored, made: list[Made], lane: Lane) -> str | None:
    """What of a delivery does not go together with its attempts, or with those before it; None if all does.

    Somebody may have asked for it once more, at any time: it is pending then, has ended before, and its failures are
    counted anew.
    """
    if row.attempts != len(made) or any(one.number != number for number, one in enumerate(made, 1)):
        return f"its attempts are numbered {[one.number for one in made]}"
    if row.ended is None and row.status != Status.PENDING:
        return "nothing says when it ended"
    if lane.waits and (made or row.ended is not None):
        return "one before it has never ended, and it was sent all the same"
    if not 0 <= row.failures <= row.attempts:
        return f"{row.failures} of them failed"
    return _fault_of_status(row, made, lane)


def _fault_of_status(row: Stored, made: list[Made], lane: Lane) -> str | None:
    last = made[-1] if made else None
    match row.status:
        case Status.PENDING:
            if any(one.error is None for one in made[row.attempts - row.failures :]):
                return f"of the last {row.failures} some did not fail"
        case Status.DELIVERED:
            if last is None or last.error is not None:
                return "the last did not succeed"
        case Status.DEAD:
            # One that a log brought with it was never tried here, and ended when it was due.
            if last is None and row.ended != row.due:
                return "none was made"
            if last is not None and (last.error is None or last.status == HTTPStatus.GONE):
                return "the last was not what it was given up for"
        case _:
            if not lane.is_gone and (last is None or last.status != HTTPStatus.GONE):
                return "its receiver has not said that it wants no more"
    return None
