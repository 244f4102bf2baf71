"""The `artifacts` table: each has the bytes that its event names, none is missing and none too many."""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

from foreman.audit.findings import MOST, Code, Finding, Findings
from foreman.events.types import ArtifactRef, JobCancelled, JobDone, JobFailed, JobQueued, Recorded
from foreman.fsm.job import State
from foreman.storage.reading import Row
from foreman.storage.still import Still

TABLE: Final = "artifacts"
#: In the order of the jobs' first events; a job that has none gives one row too.
SELECT: Final = """
SELECT jobs.ordinal, jobs.job_id, jobs.state, name, content_type, size, sha256, encoding, bytes
FROM jobs LEFT JOIN artifacts ON artifacts.job_id = jobs.job_id WHERE jobs.ordinal % ? = ? ORDER BY jobs.ordinal
"""
SELECT_OWNERLESS: Final = """
SELECT job_id, name FROM artifacts WHERE job_id NOT IN (SELECT job_id FROM jobs) ORDER BY job_id, name LIMIT ?
"""
#: Bytes of a compressed artifact that are unpacked at a time.
CHUNK: Final = 1 << 20


class Contents:
    """Follows the log and the table side by side; in memory is what an unfinished job has beside its request."""

    def __init__(self, still: Still, findings: Findings, share: int = 0, shares: int = 1) -> None:
        """One of so many shares of the jobs is looked at."""
        self.count = 0
        self._still = still
        self._findings = findings
        self._share, self._shares = share, shares
        self._rows = still.rows(SELECT, (shares, share))
        self._next: Row | None = next(self._rows, None)
        #: By unfinished job, the artifacts that its end has to name; None for a job whose contents are not looked at.
        self._rest: dict[str, dict[str, ArtifactRef] | None] = {}

    def take(self, recorded: Recorded) -> None:
        """The next event."""
        event = recorded.event
        if isinstance(event, JobQueued):
            if recorded.position % self._shares == self._share:
                self._begin(recorded, event)
        elif isinstance(event, JobDone):
            kept = self._rest.pop(recorded.stream, None)
            if kept is not None:
                for ref in event.artifacts:
                    self._compare(recorded, ref, kept.pop(ref.name, None))
                self._too_many(recorded.stream, kept, recorded)
        elif isinstance(event, JobFailed | JobCancelled):
            self._too_many(recorded.stream, self._rest.pop(recorded.stream, None), recorded)

    def end(self) -> None:
        """The log is over: what nobody has named is too much."""
        for job_id, kept in self._rest.items():
            self._too_many(job_id, kept, None)
        while self._next is not None:
            self._advance()
        for job_id, name in self._still.rows(SELECT_OWNERLESS, (MOST,)):
            self._find(Code.ARTIFACT_UNKNOWN, f"there is an artifact {name} of {job_id}, and no such job", job_id)

    def _begin(self, recorded: Recorded, event: JobQueued) -> None:
        while self._next is not None and self._next[0] < recorded.position:
            self._advance()
        found: dict[str, ArtifactRef] = {}
        has_row, has_expired = False, False
        while self._next is not None and self._next[0] == recorded.position:
            row = self._next
            has_row, has_expired = row[1] == recorded.stream, row[2] == State.EXPIRED
            if row[3] is not None:
                found[row[3]] = ArtifactRef(name=row[3], content_type=row[4], size=row[5], sha256=row[6])
                self._check_bytes(recorded, row)
            self._advance()
        if not has_row:
            self._rest[recorded.stream] = None  # the jobs' own audit says so
        elif has_expired:
            self._rest[recorded.stream] = None
            self._too_many(recorded.stream, found, recorded)
        else:
            self._compare(recorded, event.request, found.pop(event.request.name, None))
            self._rest[recorded.stream] = found

    def _advance(self) -> None:
        if self._next is not None and self._next[3] is not None:
            self.count += 1
        self._next = next(self._rows, None)

    def _check_bytes(self, recorded: Recorded, row: Row) -> None:
        """Whether the bytes are those that their own row names."""
        _, job_id, _, name, _, size, sha256, encoding, data = row
        try:
            found = _digest(encoding, data, size)
        except (zlib.error, ValueError) as error:
            self._find(
                Code.ARTIFACT_DIFFERS, f"artifact {name} of {job_id} cannot be unpacked: {error}", job_id, recorded
            )
            return
        if found != (sha256, size):
            text = f"artifact {name} of {job_id} has other bytes than its digest says"
            self._find(Code.ARTIFACT_DIFFERS, text, job_id, recorded)

    def _compare(self, recorded: Recorded, ref: ArtifactRef, found: ArtifactRef | None) -> None:
        job_id = recorded.stream
        if found is None:
            text = f"artifact {ref.name} of {job_id} is missing, and no event says that it was removed"
            self._find(Code.ARTIFACT_MISSING, text, job_id, recorded)
        elif found != ref:
            text = f"artifact {ref.name} of {job_id} is not the one that event {recorded.position} names"
            self._find(Code.ARTIFACT_DIFFERS, text, job_id, recorded)

    def _too_many(self, job_id: str, kept: dict[str, ArtifactRef] | None, recorded: Recorded | None) -> None:
        for name in kept or ():
            text = f"job {job_id} has an artifact {name} that the log does not give it"
            self._find(Code.ARTIFACT_UNKNOWN, text, job_id, recorded)

    def _find(self, code: Code, sentence: str, job_id: str, recorded: Recorded | None = None) -> None:
        position, at = (recorded.position, recorded.at) if recorded else (None, None)
        self._findings.add(Finding(code=code, sentence=sentence, table=TABLE, position=position, at=at, job_id=job_id))


def _digest(encoding: str, data: bytes, size: int) -> tuple[str, int]:
    """SHA-256 and length of the plain bytes, unpacked a piece at a time. Raises zlib.error or ValueError."""
    if encoding != "deflate":
        return hashlib.sha256(data).hexdigest(), len(data)
    unpacking, digest, length = zlib.decompressobj(), hashlib.sha256(), 0
    while not unpacking.eof:
        piece = unpacking.decompress(data, CHUNK)
        data = unpacking.unconsumed_tail
        digest.update(piece)
        length += len(piece)
        # More than there should be need not be read to its end; what gives nothing and is not over was cut off.
        if length > size or not (piece or data or unpacking.eof):
            break
    if not unpacking.eof and length <= size:
        raise ValueError("it was cut off")
    if unpacking.unused_data:
        raise ValueError("something follows its end")
    return digest.hexdigest(), length
