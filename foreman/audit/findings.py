"""What an audit finds wrong: where, since when, and what to do about each kind. Looks at nothing itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from foreman.clock import Micros, rfc3339

#: Findings of one kind that are kept; of the others only their number is known.
MOST: Final = 100


class Code(StrEnum):
    """The kinds of findings. The strings are stable: scripts ask for them."""

    FILE_DAMAGED = "file_damaged"
    SCHEMA_DIFFERS = "schema_differs"
    SEQUENCE_DIFFERS = "sequence_differs"
    LOG_GAP = "log_gap"
    CHAIN_BROKEN = "chain_broken"
    TAIL_CUT = "tail_cut"
    WITNESS_DIFFERS = "witness_differs"
    ARCHIVE_DIFFERS = "archive_differs"
    EVENT_UNREADABLE = "event_unreadable"
    EVENT_ILLEGAL = "event_illegal"
    JOB_DIFFERS = "job_differs"
    JOB_MISSING = "job_missing"
    JOB_UNKNOWN = "job_unknown"
    KEY_DIFFERS = "key_differs"
    ARTIFACT_DIFFERS = "artifact_differs"
    ARTIFACT_MISSING = "artifact_missing"
    ARTIFACT_UNKNOWN = "artifact_unknown"
    DELIVERY_DIFFERS = "delivery_differs"
    DELIVERY_MISSING = "delivery_missing"
    DELIVERY_UNKNOWN = "delivery_unknown"
    SECRET_UNKNOWN = "secret_unknown"  # noqa: S105  (a kind of finding)
    TOTALS_DIFFER = "totals_differ"
    SNAPSHOT_DIFFERS = "snapshot_differs"


_RESTORE: Final = (
    "stop foreman, keep this file for a look, and restore the last backup made before that; "
    "`foreman audit` on a backup tells whether it is sound"
)
_REBUILD: Final = (
    "the log is the truth: stop foreman and make the table anew with `foreman replay --into NEW.db`, which reads "
    "this file and changes nothing in it"
)
_REMEDIES: Final[dict[Code, str]] = {
    Code.FILE_DAMAGED: "stop foreman, look at the disk's own messages, keep this file, and restore the last backup",
    Code.SCHEMA_DIFFERS: "somebody changed the database's own rules: " + _REBUILD,
    Code.SEQUENCE_DIFFERS: _REBUILD,
    Code.LOG_GAP: _RESTORE,
    Code.CHAIN_BROKEN: _RESTORE,
    Code.TAIL_CUT: "events were removed from the log's end: " + _RESTORE,
    Code.WITNESS_DIFFERS: "the log that the witness saw was another: find out which backup was restored, or "
    + _RESTORE,
    Code.ARCHIVE_DIFFERS: "put the archive's file back where it was, from a backup if need be",
    Code.EVENT_UNREADABLE: "if a newer foreman wrote it, audit with that version; otherwise " + _RESTORE,
    Code.EVENT_ILLEGAL: "no foreman writes such an event: " + _RESTORE,
    Code.JOB_DIFFERS: _REBUILD,
    Code.JOB_MISSING: _REBUILD,
    Code.JOB_UNKNOWN: _REBUILD,
    Code.KEY_DIFFERS: _REBUILD,
    Code.ARTIFACT_DIFFERS: "do not trust these bytes: take them from a backup, or submit the job again",
    Code.ARTIFACT_MISSING: "take the artifact from a backup, or submit the job again",
    Code.ARTIFACT_UNKNOWN: _REBUILD,
    Code.DELIVERY_DIFFERS: _REBUILD + "; ask the receiver what it has got",
    Code.DELIVERY_MISSING: _REBUILD + "; then ask for it: `POST /jobs/{job_id}/deliveries/redeliver`",
    Code.DELIVERY_UNKNOWN: _REBUILD,
    Code.SECRET_UNKNOWN: _REBUILD,
    Code.TOTALS_DIFFER: "figures of `/metrics` only, nothing else rests on them: " + _REBUILD,
    Code.SNAPSHOT_DIFFERS: "foreman starts from it: " + _REBUILD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    code: Code
    #: What is wrong, in words.
    sentence: str
    table: str
    #: The event that it is about, or the last one before it came about; None if nobody can say.
    position: int | None = None
    #: That event's time: since when it is wrong, or not before when it became so.
    at: Micros | None = None
    job_id: str | None = None

    @property
    def what_to_do(self) -> str:
        """The operator's next step."""
        return _REMEDIES[self.code]

    @property
    def since(self) -> str | None:
        """Its time in words; None if nobody can say."""
        return None if self.at is None else rfc3339(self.at)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "code": self.code,
            "sentence": self.sentence,
            "table": self.table,
            "job_id": self.job_id,
            "since": {"position": self.position, "at": self.since},
            "what_to_do": self.what_to_do,
        }


class Findings:
    """All that was found: how much of each kind, and the first of each kind in full."""

    def __init__(self) -> None:
        self.counts: Counter[Code] = Counter()
        self.kept: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """One more."""
        self.counts[finding.code] += 1
        if self.counts[finding.code] <= MOST:
            self.kept.append(finding)

    def take_in(self, other: Findings) -> None:
        """Those of another look at the same file; what both have seen counts once."""
        seen, kept = set(self.kept), Counter(finding.code for finding in self.kept)
        for finding in other.kept:
            if finding in seen:
                self.counts[finding.code] -= 1
            elif kept[finding.code] < MOST:
                kept[finding.code] += 1
                self.kept.append(finding)
        self.counts += other.counts
