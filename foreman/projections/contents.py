"""The bytes that jobs take and give: request bodies, completions, streams. They expire; the log keeps their digests."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any, Final

from foreman.events.types import ArtifactRef
from foreman.storage.reading import Read, Row

SCHEMA: Final = """
CREATE TABLE artifacts (
    job_id       TEXT NOT NULL,
    name         TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size         INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    encoding     TEXT NOT NULL CHECK (encoding IN ('', 'deflate')),
    bytes        BLOB NOT NULL,
    PRIMARY KEY (job_id, name)
) STRICT;
"""

INSERT: Final = """
INSERT INTO artifacts (job_id, name, content_type, size, sha256, encoding, bytes)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
DELETE: Final = "DELETE FROM artifacts WHERE job_id = ?"
#: All rows as INSERT takes them, in the order of their jobs.
SELECT_ALL: Final = """
SELECT job_id, name, content_type, size, sha256, encoding, bytes FROM artifacts ORDER BY job_id, name
"""
SELECT: Final = "SELECT content_type, size, sha256, encoding, bytes FROM artifacts WHERE job_id = ? AND name = ?"
SELECT_SMALL: Final = """
SELECT name, encoding, bytes FROM artifacts WHERE job_id = ? AND name NOT IN ('request', 'stream') AND size <= ?
"""

#: The job's request body, the completion assembled from its answer, and the answer as it came.
REQUEST: Final = "request"
COMPLETION: Final = "completion"
STREAM: Final = "stream"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Some bytes of a job's, with what the log says of them. Size and digest are those of the plain bytes."""

    ref: ArtifactRef
    data: bytes


def artifact(name: str, content_type: str, data: bytes) -> Artifact:
    """The bytes with their digest."""
    sha256 = hashlib.sha256(data).hexdigest()
    return Artifact(ref=ArtifactRef(name=name, content_type=content_type, size=len(data), sha256=sha256), data=data)


def row(job_id: str, item: Artifact) -> tuple[Any, ...]:
    """The artifact as parameters of INSERT. Streams are compressed: each token costs some 100 bytes as a line."""
    ref = item.ref
    encoding, data = ("deflate", zlib.compress(item.data, 6)) if ref.name == STREAM else ("", item.data)
    return (job_id, ref.name, ref.content_type, ref.size, ref.sha256, encoding, data)


def _plain(encoding: str, data: bytes) -> bytes:
    return zlib.decompress(data) if encoding == "deflate" else data


def is_sound(row: Row) -> bool:
    """Whether a row's bytes are those that it names. Raises zlib.error if they cannot be unpacked."""
    *_, size, sha256, encoding, data = row
    # One byte more than there should be is enough to see that it is too long.
    plain = zlib.decompressobj().decompress(data, size + 1) if encoding else data
    return bool(len(plain) == size) and hashlib.sha256(plain).hexdigest() == sha256


async def find(read: Read, job_id: str, name: str) -> Artifact | None:
    """One artifact of a job's, or None."""
    rows = await read(SELECT, (job_id, name))
    if not rows:
        return None
    content_type, size, sha256, encoding, data = rows[0]
    ref = ArtifactRef(name=name, content_type=content_type, size=size, sha256=sha256)
    return Artifact(ref=ref, data=_plain(encoding, data))


async def inline(read: Read, job_id: str, limit: int) -> dict[str, bytes]:
    """The job's artifacts of up to `limit` bytes by name, its request and its stream left out."""
    rows = await read(SELECT_SMALL, (job_id, limit))
    return {name: _plain(encoding, data) for name, encoding, data in rows}
