"""The audit as a whole: shares the work between two processes if that pays, and puts together what they have seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from foreman.audit.beside import Beside
from foreman.audit.chain import Chain
from foreman.audit.passes import Seen, look
from foreman.audit.report import Report
from foreman.audit.shape import check_schema
from foreman.audit.share import Share
from foreman.audit.witness import Witness
from foreman.events.history import History
from foreman.processes import cores, no_collector
from foreman.storage.still import still

SELECT_COUNT: Final = "SELECT count(*) FROM events"
#: Told how much has been done, and of how much.
Progress = Callable[[int, int], None]
#: A process takes as long to start as so many events take to be read.
WORTH_A_PROCESS: Final = 60_000


def audit(
    path: Path,
    witnesses: Collection[Witness] = (),
    progress: Progress | None = None,
    worth_a_process: int = WORTH_A_PROCESS,
) -> Report:
    """Look at everything in a database, whether a daemon writes to it or not.

    `worth_a_process` is the number of events from which on a second process takes a part of the work, if there is a
    second core. Raises DatabaseUnusable if the file cannot be read or is not of this foreman's schema.
    """
    began = time.monotonic()
    report = Report(path=path)
    with still(path) as file:
        is_readable = check_schema(file, report.findings)
        if is_readable:
            archives = History(file).archives()
            report.archives = len(archives)
            report.events = next(file.rows(SELECT_COUNT))[0] + sum(one.last - one.first + 1 for one in archives)
    if is_readable:
        told = _Told(progress, report.events)
        with no_collector():
            _look(report, witnesses, told, worth_a_process)
    report.seconds = time.monotonic() - began
    return report


def _look(report: Report, witnesses: Collection[Witness], told: _Told, worth_a_process: int) -> None:
    if report.events >= worth_a_process and cores() > 1:
        _share(report, witnesses, told)
    else:
        seen, chain = look(report.path, Share.ALL, witnesses, told.mine)
        _take_in(report, seen, chain)


def _share(report: Report, witnesses: Collection[Witness], told: _Told) -> None:
    """Two processes, each with a moment of its own at which it reads the file; both see all of what they look at."""
    with Beside(report.path, Share.SECOND) as beside:

        def both(position: int) -> None:
            told.theirs = beside.poll()
            told.mine(position)

        seen, chain = look(report.path, Share.FIRST, witnesses, both)
        told.mine(told.of)
        theirs = beside.result(told.other)
    if chain is not None and theirs.position > seen.position == chain.position:
        _follow(report.path, chain, theirs.position)
    seen.jobs += theirs.jobs
    seen.artifacts += theirs.artifacts
    seen.deliveries = theirs.deliveries
    seen.findings.take_in(theirs.findings)
    _take_in(report, seen, chain)


def _follow(path: Path, chain: Chain, until: int) -> None:
    """The other process saw a later moment of a log that grows: the chain has to reach as far."""
    with still(path) as file:
        chain.take(History(file).rows(chain.position, until))


def _take_in(report: Report, seen: Seen, chain: Chain | None) -> None:
    if chain is not None:
        chain.end_witnesses()
        report.position, report.hash = chain.position, chain.hash
    report.jobs, report.artifacts, report.deliveries = seen.jobs, seen.artifacts, seen.deliveries
    report.findings.take_in(seen.findings)


class _Told:
    """Puts the progress of both together."""

    def __init__(self, progress: Progress | None, events: int) -> None:
        self._progress = progress
        self._mine = 0
        self.theirs: int | None = None
        self.of = events

    def mine(self, position: int) -> None:
        """This process has read so far."""
        self._mine = position
        self._tell()

    def other(self, position: int) -> None:
        """The other one has."""
        self.theirs = position
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            read = self._mine if self.theirs is None else (self._mine + self.theirs) // 2
            self._progress(min(read, self.of), self.of)
