"""A pass: one reading of the whole log, and the checks that follow it. Starts no process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from foreman.audit.chain import TABLE, Chain
from foreman.audit.contents import Contents
from foreman.audit.deliveries import Deliveries
from foreman.audit.findings import Code, Finding, Findings
from foreman.audit.jobs import Jobs
from foreman.audit.keys import Keys
from foreman.audit.shape import check_pages
from foreman.audit.share import Share
from foreman.audit.states import States
from foreman.audit.witness import Witness
from foreman.errors import ArchiveUnusable, DatabaseUnusable, LogCorrupt, UnknownEvent
from foreman.events.codec import CODEC
from foreman.events.history import History
from foreman.events.types import DAEMON, JobQueued, Recorded
from foreman.storage.reading import Row
from foreman.storage.still import Still, still

#: Told how many events have been read.
Told = Callable[[int], None]
#: Events between two calls of it; of so many a processor's cache has room.
STEP: Final = 250


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a pass has come to."""

    findings: Findings = field(default_factory=Findings)
    position: int = 0
    hash: bytes = b""
    jobs: int = 0
    artifacts: int = 0
    deliveries: int = 0


class Pass:
    """One reading for a share."""

    def __init__(self, still: Still, share: Share, witnesses: Collection[Witness] = ()) -> None:
        self.seen = Seen()
        self._still = still
        self._history = History(still)
        self._has_events, self._owns = share.has_events, share.owns
        findings = self.seen.findings
        self.chain = Chain(findings, witnesses, self._history.archives()) if share.has_log else None
        self._states = States(still, findings) if share.has_events else None
        self._keys = Keys(still, findings) if share.has_events else None
        self._deliveries = Deliveries(still, findings) if share.has_events else None
        self._contents = Contents(still, findings, share)
        self._jobs = Jobs(still, findings, self._contents, self._deliveries, share)

    def run(self, told: Told) -> None:
        """Read the log to its end and compare."""
        try:
            self._read(told)
        except ArchiveUnusable as error:
            # What comes after it cannot be told from what has gone.
            text = f"{error}; what comes after event {self.seen.position} was not looked at"
            position = self.seen.position + 1
            finding = Finding(code=Code.ARCHIVE_DIFFERS, sentence=text, table="archives", position=position)
            self.seen.findings.add(finding)
        else:
            self._end()

    def _read(self, told: Told) -> None:
        rows, seen = self._history.rows(), self.seen
        is_over = False
        while not is_over:
            step: list[Row] = []
            try:
                step.extend(islice(rows, STEP))
            finally:  # what stands before the place that cannot be read is looked at all the same
                is_over = len(step) < STEP
                if step:
                    self._look_at(step)
                    seen.position, seen.hash = step[-1][0], step[-1][6]
                    told(seen.position)

    def _look_at(self, step: list[Row]) -> None:
        if self.chain is not None:
            self.chain.take(step)
        self._decode(step)

    def _decode(self, step: list[Row]) -> None:
        """What is done to one event is done to all of the step first: code and data are at hand then."""
        has_events, owns, decode = self._has_events, self._owns, CODEC.decode
        events: list[Recorded] = []
        for row in step:
            position, stream, version, type_, at, data, hash_ = row
            if has_events or owns(stream):
                try:
                    event = decode(type_, data)
                except (UnknownEvent, LogCorrupt) as error:
                    self._take(events)
                    events = []
                    self._unreadable(row, error)
                else:
                    events.append(Recorded(position, stream, version, at, hash_, event))
        self._take(events)

    def _take(self, events: list[Recorded]) -> None:
        take = self._jobs.take
        if self._states is None or self._keys is None:
            for recorded in events:
                if recorded.stream != DAEMON:
                    take(recorded)
            return
        self._states.take(events)
        owns, open_ = self._owns, self._jobs.open
        for recorded in events:
            stream, event = recorded.stream, recorded.event
            is_ours = stream in open_ or owns(stream)
            if isinstance(event, JobQueued):
                is_ours = is_ours or event.webhook is not None  # a guest
                if event.idempotency is not None:
                    self._keys.take(recorded, event.idempotency)
            if is_ours and stream != DAEMON:
                take(recorded)

    def _unreadable(self, row: Row, error: UnknownEvent | LogCorrupt) -> None:
        self._jobs.unreadable(row)
        if not self._has_events:
            return  # the other pass says so
        position, stream, _, type_, at, *_ = row
        text = f"event {position} ({type_} of {stream}) cannot be read: {error}"
        job_id = None if stream == DAEMON else stream
        finding = Finding(
            code=Code.EVENT_UNREADABLE, sentence=text, table=TABLE, position=position, at=at, job_id=job_id
        )
        self.seen.findings.add(finding)

    def _end(self) -> None:
        seen = self.seen
        if self.chain is not None:
            self.chain.end(self._still)
            check_pages(self._still, seen.findings)
        if self._states is not None:
            self._states.end(seen.position)
        if self._keys is not None:
            self._keys.end()
        self._jobs.end()
        seen.jobs, seen.artifacts = self._jobs.count, self._contents.count
        if self._deliveries is not None:
            seen.deliveries = self._deliveries.count


def look(path: Path, share: Share, witnesses: Collection[Witness], told: Told) -> tuple[Seen, Chain | None]:
    """Open a file and make one pass over it. That it cannot be read to its end is a finding.

    Raises DatabaseUnusable if it cannot be opened, or a daemon was started on it meanwhile.
    """
    one = None
    try:
        with still(path) as file:
            one = Pass(file, share, witnesses)
            one.run(told)
    except DatabaseUnusable as error:
        if one is None or error.__cause__ is None:
            raise
        position = one.seen.position
        text = f"{error}; what comes after event {position} was not looked at"
        one.seen.findings.add(Finding(code=Code.FILE_DAMAGED, sentence=text, table="", position=position))
    return one.seen, one.chain
