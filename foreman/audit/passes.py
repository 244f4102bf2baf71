"""A pass: one reading of the whole log, and the checks that follow it. Starts no process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Flag, auto
from itertools import islice
from pathlib import Path
from typing import Final

from foreman.audit.chain import Chain
from foreman.audit.contents import Contents
from foreman.audit.deliveries import Deliveries
from foreman.audit.findings import Code, Finding, Findings
from foreman.audit.jobs import Jobs
from foreman.audit.keys import Keys
from foreman.audit.shape import check_pages
from foreman.audit.states import States
from foreman.audit.witness import Witness
from foreman.errors import ArchiveUnusable, DatabaseUnusable, LogCorrupt, UnknownEvent
from foreman.events import log
from foreman.events.history import History
from foreman.events.lines import StoredEvent
from foreman.events.types import Recorded
from foreman.storage.still import Still, still

#: Told how many events have been read.
Told = Callable[[int], None]
#: Events between two calls of it.
STEP: Final = 5_000


class Part(Flag):
    """What a pass looks at: any part can be looked at by itself, so processes can share the work."""

    #: The log as it is stored, the snapshots, and idempotency keys.
    LOG = auto()
    #: Jobs and deliveries.
    JOBS = auto()
    #: Artifacts, of each half of the jobs.
    EVEN = auto()
    ODD = auto()


CONTENTS: Final = Part.EVEN | Part.ODD
ALL: Final = Part.LOG | Part.JOBS | CONTENTS


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
    """One reading for some of the parts."""

    def __init__(self, still: Still, parts: Part, witnesses: Collection[Witness] = ()) -> None:
        self.seen = Seen()
        self._still = still
        self._history = History(still)
        findings = self.seen.findings
        is_of = parts.__contains__
        self.chain = Chain(findings, witnesses, self._history.archives()) if is_of(Part.LOG) else None
        self._states = States(still, findings) if is_of(Part.LOG) else None
        self._keys = Keys(still, findings) if is_of(Part.LOG) else None
        self._contents = _contents(still, parts, findings)
        self._deliveries = Deliveries(still, findings) if is_of(Part.JOBS) else None
        self._jobs = Jobs(still, findings, self._deliveries) if self._deliveries is not None else None

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
        checks = (self._states, self._jobs, self._contents, self._keys)
        takers = [check.take for check in checks if check is not None]
        take_stored = None if self.chain is None else self.chain.take
        events, seen = self._history.events(), self.seen
        while step := list(islice(events, STEP)):
            for stored in step:
                if take_stored is not None:
                    take_stored(stored)
                try:
                    recorded: Recorded = log.from_row(stored)
                except (UnknownEvent, LogCorrupt) as error:
                    self._unreadable(stored, error)
                    continue
                for take in takers:
                    take(recorded)
            seen.position, seen.hash = step[-1].position, step[-1].hash
            told(seen.position)

    def _unreadable(self, stored: StoredEvent, error: UnknownEvent | LogCorrupt) -> None:
        if self.chain is not None:
            self.chain.unreadable(stored, error)
        if self._jobs is not None:
            self._jobs.unreadable(stored)

    def _end(self) -> None:
        seen = self.seen
        if self.chain is not None:
            self.chain.end(self._still)
            check_pages(self._still, seen.findings)
        if self._states is not None:
            self._states.end(seen.position)
        if self._jobs is not None and self._deliveries is not None:
            self._jobs.end()
            seen.jobs, seen.deliveries = self._jobs.count, self._deliveries.count
        if self._contents is not None:
            self._contents.end()
            seen.artifacts = self._contents.count
        if self._keys is not None:
            self._keys.end()


def _contents(still: Still, parts: Part, findings: Findings) -> Contents | None:
    if CONTENTS in parts:
        return Contents(still, findings)
    if not parts & CONTENTS:
        return None
    return Contents(still, findings, share=1 if Part.ODD in parts else 0, shares=2)


def look(path: Path, parts: Part, witnesses: Collection[Witness], told: Told) -> tuple[Seen, Chain | None]:
    """Open a file and make one pass over it. That it cannot be read to its end is a finding.

    Raises DatabaseUnusable if it cannot be opened, or a daemon was started on it meanwhile.
    """
    one = None
    try:
        with still(path) as file:
            one = Pass(file, parts, witnesses)
            one.run(told)
    except DatabaseUnusable as error:
        if one is None or error.__cause__ is None:
            raise
        position = one.seen.position
        text = f"{error}; what comes after event {position} was not looked at"
        one.seen.findings.add(Finding(code=Code.FILE_DAMAGED, sentence=text, table="", position=position))
    return one.seen, one.chain
