"""The log itself: no position missing, each hash fits the one before it, and what witnesses saw is still there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from foreman.audit.findings import Code, Finding, Findings
from foreman.audit.witness import Witness
from foreman.clock import Micros
from foreman.events.archives import Archive
from foreman.events.codec import GENESIS, chain_hash
from foreman.events.daemon import DAEMON_EVENTS
from foreman.events.history import SELECT, History
from foreman.events.types import DAEMON
from foreman.storage.reading import Row
from foreman.storage.still import Still

TABLE: Final = "events"
SELECT_BEFORE_FIRST: Final = "SELECT count(*) FROM events WHERE position < 1"
SELECT_SEQUENCE: Final = "SELECT name, seq FROM sqlite_sequence ORDER BY rowid"
_DAEMONS: Final = frozenset(event.type for event in DAEMON_EVENTS)


class Chain:
    """Follows the chain from its beginning. After a fault it goes on from what is stored, so that each is told once."""

    def __init__(self, findings: Findings, witnesses: Iterable[Witness] = (), archives: Iterable[Archive] = ()) -> None:
        self.position = 0
        self.hash = GENESIS
        self.at: Micros | None = None
        self._findings = findings
        self._daemon_version = 0
        self._seen: dict[int, set[bytes]] = {}
        for witness in witnesses:
            self._seen.setdefault(witness.position, set()).add(witness.hash)
        #: What the table of archives says of the ends of each.
        self._edges: dict[int, set[bytes]] = {}
        for archive in archives:
            self._edges.setdefault(archive.first - 1, set()).add(archive.previous_hash)
            self._edges.setdefault(archive.last, set()).add(archive.hash)
        self._latest = max((*self._seen, *self._edges), default=-1)
        self._compare()

    def take(self, rows: Iterable[Row]) -> None:
        """The next events, as they are stored."""
        last, latest, own = (self.position, self.hash, self.at), self._latest, DAEMON
        for row in rows:
            position, stream, version, type_, at, data, hash_ = row
            if (
                last[0] + 1 == position > latest
                and stream != own
                and chain_hash(last[1], position, stream, version, type_, at, data) == hash_
            ):
                last = (position, hash_, at)
            else:  # there is more to look at than that it fits
                self.position, self.hash, self.at = last
                self._take_one(row)
                last = (self.position, self.hash, self.at)
        self.position, self.hash, self.at = last

    def _take_one(self, row: Row) -> None:
        position, stream, version, type_, at, data, hash_ = row
        due = self.position + 1
        if position != due:
            missing = f"event {due} is" if position == due + 1 else f"events {due} to {position - 1} are"
            self._find(Code.LOG_GAP, f"{missing} missing: event {position} comes next", due)
        elif chain_hash(self.hash, position, stream, version, type_, at, data) != hash_:
            self.at = Micros(at)
            text = (
                f"event {position} ({type_} of {stream}) does not fit its hash: it, or the one before it, was changed"
            )
            self._find(Code.CHAIN_BROKEN, text, position)
        self.position, self.hash, self.at = position, hash_, Micros(at)
        if stream == DAEMON:
            self._take_daemons(position, version, type_)
        if position <= self._latest:
            self._compare()

    def end(self, still: Still) -> None:
        """The log is over: is that its end? What SQLite says of that, it never takes back."""
        rows = list(still.rows(SELECT_SEQUENCE))
        given = rows[0][1] if len(rows) == 1 and rows[0][0] == TABLE else 0
        if given > self.position:
            text = f"positions up to {given} were given to events, and the log ends at {self.position}"
            self._find(Code.TAIL_CUT, text, self.position + 1)
        elif rows != ([(TABLE, self.position)] if self.position else []):
            text = f"SQLite's record of the last position is {rows}, and the log ends at {self.position}"
            self._findings.add(Finding(code=Code.SEQUENCE_DIFFERS, sentence=text, table="sqlite_sequence"))
        ((before,),) = still.rows(SELECT_BEFORE_FIRST)
        if before:
            self._find(Code.LOG_GAP, f"there are events at positions below 1: {before} of them", 0)
        self._compare_left_over(still)

    def end_witnesses(self) -> None:
        """No further event comes: those that witnesses have seen after the last one are gone."""
        for position in sorted(position for position in self._seen if position > self.position):
            text = f"a witness saw event {position}, and the log ends at {self.position}"
            self._find(Code.TAIL_CUT, text, self.position + 1)

    def _take_daemons(self, position: int, version: int, type_: str) -> None:
        self._daemon_version += 1
        if version != self._daemon_version or type_ not in _DAEMONS:
            text = (
                f"event {position} is {type_} of version {version}, where version "
                f"{self._daemon_version} of the daemon's own events belongs"
            )
            self._find(Code.EVENT_ILLEGAL, text, position)
            self._daemon_version = version

    def _compare(self) -> None:
        """Hold the hash at this position against what others say that it is."""
        for seen in self._seen.get(self.position, ()):
            if seen != self.hash:
                text = f"at position {self.position} a witness saw the hash {seen.hex()}, and it is {self.hash.hex()}"
                self._find(Code.WITNESS_DIFFERS, text, self.position)
        for edge in self._edges.get(self.position, ()):
            if edge != self.hash:
                text = f"the table of archives does not have the hash of the log at position {self.position}"
                self._findings.add(
                    Finding(code=Code.ARCHIVE_DIFFERS, sentence=text, table="archives", position=self.position)
                )

    def _compare_left_over(self, still: Still) -> None:
        """Who was killed while moving events to an archive has left some in the table too: they must be the same."""
        last = max(self._edges, default=0)
        left = still.rows(SELECT, (0, last))
        first = next(left, None)
        if first is None:
            return
        archived = History(still).events(first[0] - 1, last)
        if [first, *left] != [tuple(event) for event in archived]:
            text = f"events {first[0]} to {last} are in an archive, and what the table has of them too is another"
            self._find(Code.CHAIN_BROKEN, text, first[0])

    def _find(self, code: Code, sentence: str, position: int, job_id: str | None = None) -> None:
        self._findings.add(
            Finding(code=code, sentence=sentence, table=TABLE, position=position, at=self.at, job_id=job_id)
        )
