"""The `artifacts` table: each has the bytes that its event names, none is missing and none too many."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import Final

from foreman.audit.findings import MOST, Code, Finding, Findings
from foreman.audit.share import Share
from foreman.events.types import ArtifactRef, JobDone, JobQueued, Recorded
from foreman.fsm.job import State
from foreman.storage.reading import Row
from foreman.storage.still import Still

TABLE: Final = "artifacts"
#: Jobs in the order of their first events, each with its artifacts; one that has none gives one row too.
SELECT: Final = """
SELECT jobs.job_id, ordinal, state, model, class, source, endpoint, completed, view,
    name, content_type, size, sha256, encoding, bytes
FROM jobs LEFT JOIN artifacts ON artifacts.job_id = jobs.job_id WHERE {share} ORDER BY jobs.ordinal
"""
#: Of these columns, so many are the job's.
JOBS_OWN: Final = 9
SELECT_OWNERLESS: Final = """
SELECT job_id, name FROM artifacts WHERE job_id NOT IN (SELECT job_id FROM jobs) ORDER BY job_id, name LIMIT ?
"""
#: Bytes of a compressed artifact that are unpacked at a time.
CHUNK: Final = 1 << 20
#: What an event and the table both say of an artifact beside its name: its type, size and digest.
Described = tuple[str, int, str]


class Contents:
    """Reads jobs and artifacts side by side with the log; in memory is what an unfinished job has beside its request.

    One query for both, because the rows of jobs have to be passed for either.
    """

    def __init__(self, still: Still, findings: Findings, share: Share) -> None:
        self.count = 0
        self._still = still
        self._findings = findings
        self._share = share
        condition, parameters = share.where
        self._rows = still.rows(SELECT.format(share=condition), parameters)
        self._next: Row | None = next(self._rows, None)
        #: By unfinished job, the artifacts that its end has to name; None for a job whose contents are not looked at.
        self._rest: dict[str, dict[str, Described] | None] = {}

    def skip_to(self, position: int | None) -> Iterator[Row]:
        """The rows of jobs that begin before this position (None: all that are left)."""
        before = None
        while (row := self._next) is not None and (position is None or row[1] < position):
            self.count += row[JOBS_OWN] is not None
            self._next = next(self._rows, None)
            if row[1] != before:
                before = row[1]
                yield row[:JOBS_OWN]

    def begin(self, recorded: Recorded, event: JobQueued) -> Row | None:
        """The row of the job that begins with this event, or whichever stands there."""
        position, stream = recorded.position, recorded.stream
        first = row = self._next
        if first is None or first[1] != position:
            self._rest[stream] = None  # the jobs' own audit says so
            return None
        found: dict[str, Described] = {}
        while row is not None and row[1] == position:
            if row[JOBS_OWN] is not None:
                self.count += 1
                found[row[JOBS_OWN]] = row[10:13]
                self._check_bytes(recorded, row)
            row = next(self._rows, None)
        self._next = row
        rest: dict[str, Described] | None = None
        if first[0] == stream:
            if first[2] == State.EXPIRED:
                self._too_many(stream, found, recorded)
            else:
                self._compare(recorded, event.request, found.pop(event.request.name, None))
                rest = found
        self._rest[stream] = rest
        return first[:JOBS_OWN]

    def finish(self, recorded: Recorded) -> None:
        """A job's last event but for its expiry."""
        kept = self._rest.pop(recorded.stream, None)
        if kept is None:
            return
        if isinstance(recorded.event, JobDone):
            for ref in recorded.event.artifacts:
                self._compare(recorded, ref, kept.pop(ref.name, None))
        if kept:
            self._too_many(recorded.stream, kept, recorded)

    def end(self) -> None:
        """The log is over, and all rows were passed: what nobody has named is too much."""
        for job_id, kept in self._rest.items():
            self._too_many(job_id, kept, None)
        if self._share.has_log:
            for job_id, name in self._still.rows(SELECT_OWNERLESS, (MOST,)):
                self._find(Code.ARTIFACT_UNKNOWN, f"there is an artifact {name} of {job_id}, and no such job", job_id)

    def _check_bytes(self, recorded: Recorded, row: Row) -> None:
        """Whether the bytes are those that their own row names."""
        name, _, size, sha256, encoding, data = row[JOBS_OWN:]
        try:
            found = _digest(encoding, data, size)
        except (zlib.error, ValueError) as error:
            job_id = row[0]
            self._find(
                Code.ARTIFACT_DIFFERS, f"artifact {name} of {job_id} cannot be unpacked: {error}", job_id, recorded
            )
            return
        if found != (sha256, size):
            text = f"artifact {name} of {row[0]} has other bytes than its digest says"
            self._find(Code.ARTIFACT_DIFFERS, text, row[0], recorded)

    def _compare(self, recorded: Recorded, ref: ArtifactRef, found: Described | None) -> None:
        job_id = recorded.stream
        if found is None:
            text = f"artifact {ref.name} of {job_id} is missing, and no event says that it was removed"
            self._find(Code.ARTIFACT_MISSING, text, job_id, recorded)
        elif found != (ref.content_type, ref.size, ref.sha256):
            text = f"artifact {ref.name} of {job_id} is not the one that event {recorded.position} names"
            self._find(Code.ARTIFACT_DIFFERS, text, job_id, recorded)

    def _too_many(self, job_id: str, kept: dict[str, Described] | None, recorded: Recorded | None) -> None:
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
