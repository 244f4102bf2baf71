"""The `snapshots` table: each state that is kept there is the fold of the log up to its position."""

from __future__ import annotations

from collections.abc import Iterable
from math import isclose
from typing import Any, Final

import orjson

from foreman import __version__
from foreman.audit.findings import Code, Finding, Findings
from foreman.clock import Micros
from foreman.events.daemon import DaemonStarted
from foreman.events.types import JobCancelled, JobDone, JobFailed, JobQueued, Recorded
from foreman.projections import snapshots
from foreman.projections.snapshots import Projection
from foreman.projections.tally import NO_JOB, Facts, facts_of
from foreman.storage.still import Still

TABLE: Final = "snapshots"
SELECT: Final = "SELECT projection, version, position, state FROM snapshots ORDER BY projection"
#: The one figure that a library of the machine's computes, by `exp`; its last digits need not be those of another's.
DECAYING: Final = "number"
TOLERANCE: Final = 1e-12
_FINAL: Final = frozenset({JobDone, JobFailed, JobCancelled})


class States:
    """Folds what the daemon keeps in memory, as far as a snapshot of it reaches."""

    def __init__(self, still: Still, findings: Findings) -> None:
        self._findings = findings
        self._states = snapshots.States.empty()
        self._folds: dict[str, Projection] = {state.NAME: state for state in self._states}
        self._rows = {row[0]: row for row in still.rows(SELECT)}
        #: The projections that have a snapshot at a position.
        self._due: dict[int, list[str]] = {}
        for name, version, position, _ in self._rows.values():
            if name in self._folds and version == self._folds[name].VERSION:
                self._due.setdefault(position, []).append(name)
        self._until = max(self._due, default=0)
        #: Of unfinished jobs.
        self._facts: dict[str, Facts] = {}
        self._started_by: str | None = None
        self._compare(0, None)

    def take(self, events: Iterable[Recorded]) -> None:
        """The next events."""
        batch: list[Recorded] = []
        facts: list[Facts] = []
        open_ = self._facts
        for recorded in events:
            position, event = recorded.position, recorded.event
            if isinstance(event, DaemonStarted):
                self._started_by = event.foreman_version
            if position > self._until:
                continue
            if isinstance(event, JobQueued):
                own = open_[recorded.stream] = facts_of(event)
            elif type(event) in _FINAL:
                own = open_.pop(recorded.stream, NO_JOB)
            else:
                own = open_.get(recorded.stream, NO_JOB)
            batch.append(recorded)
            facts.append(own)
            if position in self._due:
                self._states.take(batch, facts)
                self._compare(position, recorded.at)
                batch, facts = [], []
        self._states.take(batch, facts)

    def end(self, head: int) -> None:
        """The log is over at that position."""
        for position, names in self._due.items():
            for name in names:
                self._find(name, None, None, f"was taken at event {position}, and the log ends at {head}")
        # A foreman that is newer than what ran here last takes its snapshots when it starts, and drops the older.
        if self._rows and self._started_by in {None, __version__}:
            for name, fold in self._folds.items():
                if name not in self._rows:
                    self._find(name, None, None, "is missing, though others are there")
                elif self._rows[name][1] != fold.VERSION:
                    self._find(name, None, None, f"says version {self._rows[name][1]}, and is of {fold.VERSION}")
            for name in self._rows.keys() - self._folds.keys():
                self._find(name, None, None, "is of nothing that foreman keeps")

    def _compare(self, position: int, at: Micros | None) -> None:
        for name in self._due.pop(position, ()):
            text, mine = self._rows[name][3], self._folds[name].dump()
            if text != mine and not _is_written_alike(text, mine):
                self._find(name, position, at, f"is not what the log comes to at event {position}")

    def _find(self, name: str, position: int | None, at: Micros | None, how: str) -> None:
        text = f"the snapshot of {name!r} {how}"
        self._findings.add(Finding(code=Code.SNAPSHOT_DIFFERS, sentence=text, table=TABLE, position=position, at=at))


def _is_written_alike(one: str, other: str) -> bool:
    """Whether two texts are of the same state, and the first is as foreman writes one."""
    try:
        said = orjson.loads(one)
        return orjson.dumps(said).decode() == one and _is_alike(said, orjson.loads(other))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # it reads deeper nesting than it writes
        return False


def _is_alike(one: Any, other: Any) -> bool:
    """Whether two states are the same, but for what two machines' libraries may compute differently."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _is_close(one[key], other[key]) if key == DECAYING else _is_alike(one[key], other[key]) for key in one
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_is_alike, one, other))
    return bool(one == other)


def _is_close(one: Any, other: Any) -> bool:
    return isinstance(one, float) and isinstance(other, float) and isclose(one, other, rel_tol=TOLERANCE)
