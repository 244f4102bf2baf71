"""Reads a database that no foreman has open and says what in it does not fit together. Changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from foreman.events import log
from foreman.events.codec import GENESIS, chain_hash
from foreman.events.daemon import DaemonStarted
from foreman.events.types import DAEMON, Event, JobDone, JobLoading, JobQueued, JobWorking, Recorded
from foreman.fsm.job import ACTIVE, State
from foreman.projections.deliveries import is_told, receiver_of
from foreman.projections.job import Job, fold
from foreman.projections.jobs import from_view
from foreman.projections.work import Work

_EVENTS = "SELECT position, stream, version, type, at, data, hash FROM events ORDER BY position"
_DELIVERIES = """
SELECT position, job_id, version, receiver, status, attempts, failures, ended FROM deliveries ORDER BY position
"""
_ATTEMPTS = "SELECT position, number, at FROM delivery_attempts ORDER BY position, number"
#: Whether the last attempt ended a delivery, by status: those end with no attempt that follow one answered with 410.
_LAST = {"pending": {0}, "delivered": {1}, "dead": {1}, "gone": {0, 1}}


class Row(NamedTuple):
    """One delivery as its table has it."""

    position: int
    job_id: str
    version: int
    receiver: str
    status: str
    attempts: int
    failures: int
    ended: int | None


class Book:
    """Everything in one database: its events, the jobs as a fold of them, and the tables beside."""

    def __init__(self, path: Path) -> None:
        # A copy, because opening recovers the log that a killed process left behind, and that is foreman's to do.
        with tempfile.TemporaryDirectory() as folder:
            for name in (path.name, f"{path.name}-wal"):
                if path.with_name(name).exists():
                    shutil.copy(path.with_name(name), folder)
            self._read(Path(folder, path.name))
        self.events: list[Recorded] = [log.from_row(row) for row in self.rows]
        self.jobs: dict[str, Job] = {}
        self.history: dict[str, list[Job]] = {}  #: each job as its events left it, one after the other
        for recorded in self.events:
            if recorded.stream != DAEMON:
                job = self.jobs[recorded.stream] = fold(self.jobs.get(recorded.stream), recorded)
                self.history.setdefault(job.job_id, []).append(job)

    def _read(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        self.intact = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        self.rows = connection.execute(_EVENTS).fetchall()
        self.views = {job_id: from_view(view) for job_id, view in connection.execute("SELECT job_id, view FROM jobs")}
        self.artifacts = {
            (job_id, name): (sha256, zlib.decompress(data) if encoding else data)
            for job_id, name, sha256, encoding, data in connection.execute(
                "SELECT job_id, name, sha256, encoding, bytes FROM artifacts"
            )
        }
        self.deliveries = [Row(*row) for row in connection.execute(_DELIVERIES)]
        self.attempts: dict[int, list[tuple[int, int]]] = {}  #: number and time of each, by the event's position
        for position, number, at in connection.execute(_ATTEMPTS):
            self.attempts.setdefault(position, []).append((number, at))
        self.keepers = {job_id for (job_id,) in connection.execute("SELECT job_id FROM webhook_secrets")}
        connection.close()

    def completion(self, job_id: str) -> Any:
        """The job's answer as one object."""
        return json.loads(self.artifacts[job_id, "completion"][1])

    def hash(self, position: int) -> str:
        """What the chain came to with this event, as it is written in JSON."""
        return str(self.rows[position - 1][-1].hex())

    def faults(self) -> list[str]:
        """All that is wrong, in words; empty for a sound database."""
        return [*self._log(), *self._projections(), *self._contents(), *self._starts(), *self._outbox()]

    def _log(self) -> Iterator[str]:
        if not self.intact:
            yield "SQLite finds the file damaged"
        versions: dict[str, int] = {}
        previous = GENESIS
        for number, (position, stream, version, type_, at, data, hash_) in enumerate(self.rows, start=1):
            versions[stream] = versions.get(stream, 0) + 1
            if (position, version) != (number, versions[stream]):
                yield f"event {position} (version {version} of {stream}) stands where {number} should"
            if chain_hash(previous, position, stream, version, type_, at, data) != hash_:
                yield f"event {position} does not fit the hash before it"
            previous = hash_

    def _projections(self) -> Iterator[str]:
        if self.views != self.jobs:
            differing = sorted(
                key for key in self.views.keys() | self.jobs if self.views.get(key) != self.jobs.get(key)
            )
            yield f"the jobs table differs from the fold of the log: {differing}"
        folded = Work()
        for recorded in self.events:
            folded.apply(recorded)
        unfinished = sorted((job for job in self.views.values() if job.state in ACTIVE), key=lambda job: job.order)
        restored = Work.of(unfinished)
        if _as_dict(folded) != _as_dict(restored):
            yield "the queue restored from the jobs table differs from the fold of the log"

    def _contents(self) -> Iterator[str]:
        for recorded in self.events:
            event = recorded.event
            refs = (event.request,) if isinstance(event, JobQueued) else ()
            refs = event.artifacts if isinstance(event, JobDone) else refs
            for ref in refs:
                sha256, data = self.artifacts.get((recorded.stream, ref.name), ("", b""))
                if not ref.sha256 == sha256 == hashlib.sha256(data).hexdigest() or len(data) != ref.size:
                    yield f"artifact {ref.name} of {recorded.stream} is not what event {recorded.position} says"

    def _starts(self) -> Iterator[str]:
        running: dict[str, type[Event]] = {}
        for recorded in self.events:
            event, job_id = recorded.event, recorded.stream
            if isinstance(event, DaemonStarted):
                yield from (f"{left} still ran when event {recorded.position} began a new life" for left in running)
            elif isinstance(event, JobLoading | JobWorking):
                if job_id in running and not (running[job_id] is JobLoading and isinstance(event, JobWorking)):
                    yield f"{job_id} was started twice in one life, at event {recorded.position}"
                running[job_id] = type(event)
            else:
                running.pop(job_id, None)

    def _outbox(self) -> Iterator[str]:
        """Of a database in which nobody had anything redelivered: that undoes the order on purpose."""
        present = {job_id for job_id, job in self.jobs.items() if job.state is not State.EXPIRED}
        told = {
            (job.position, job.job_id, job.version, receiver_of(job.webhook.url))
            for job_id in present
            for job in self.history[job_id]
            if job.webhook is not None and is_told(job)
        }
        if wrong := told ^ {(row.position, row.job_id, row.version, row.receiver) for row in self.deliveries}:
            yield f"the deliveries are not those of the log: {sorted(wrong)}"
        if strangers := self.attempts.keys() - {row.position for row in self.deliveries}:
            yield f"there are attempts at no delivery: {sorted(strangers)}"
        if strangers := self.keepers - {job_id for job_id in present if self.jobs[job_id].webhook is not None}:
            yield f"there are secrets for no receiver: {sorted(strangers)}"
        for row in self.deliveries:
            numbers = [number for number, _ in self.attempts.get(row.position, ())]
            if numbers != [*range(1, row.attempts + 1)]:
                yield f"the attempts of delivery {row.position} are {numbers}, and it says {row.attempts}"
            if row.attempts - row.failures not in _LAST[row.status]:
                yield f"delivery {row.position} is {row.status} after {row.attempts} attempts, {row.failures} failed"
            if (row.ended is None) != (row.status == "pending"):
                yield f"delivery {row.position} is {row.status} and ended at {row.ended}"
        yield from self._lanes()

    def _lanes(self) -> Iterator[str]:
        in_lanes = sorted(self.deliveries, key=lambda row: (row.job_id, row.position))
        for _, lane in groupby(in_lanes, key=lambda row: row.job_id):
            for earlier, later in pairwise(lane):
                begun = self.attempts.get(later.position)
                ahead = later.ended is not None or begun is not None
                if ahead and (earlier.ended is None or (begun and begun[0][1] < earlier.ended)):
                    yield f"delivery {later.position} did not wait for the end of {earlier.position}"


def _as_dict(work: Work) -> tuple[dict[str, Any], dict[str, Any]]:
    return {entry.job_id: entry for entry in work.queue}, {
        # What is kept of a running job is what it needs to wait again; when its last backoff ended says nothing more.
        job_id: (entry.load_key, entry.job_class, entry.order, entry.queued_at)
        for job_id, entry in work.running.items()
    }
