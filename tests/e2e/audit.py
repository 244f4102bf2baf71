"""Reads a database that no foreman has open and says what in it does not fit together. Changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreman.events import log
from foreman.events.codec import GENESIS, chain_hash
from foreman.events.types import DAEMON, DaemonStarted, Event, JobDone, JobLoading, JobQueued, JobWorking, Recorded
from foreman.fsm.job import ACTIVE
from foreman.projections.job import Job, fold
from foreman.projections.jobs import from_view
from foreman.projections.work import Work

_EVENTS = "SELECT position, stream, version, type, at, data, hash FROM events ORDER BY position"


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
        for recorded in self.events:
            if recorded.stream != DAEMON:
                self.jobs[recorded.stream] = fold(self.jobs.get(recorded.stream), recorded)

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
        connection.close()

    def completion(self, job_id: str) -> Any:
        """The job's answer as one object."""
        return json.loads(self.artifacts[job_id, "completion"][1])

    def faults(self) -> list[str]:
        """All that is wrong, in words; empty for a sound database."""
        return [*self._log(), *self._projections(), *self._contents(), *self._starts()]

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


def _as_dict(work: Work) -> tuple[dict[str, Any], dict[str, Any]]:
    return {entry.job_id: entry for entry in work.queue}, {
        # What is kept of a running job is what it needs to wait again; when its last backoff ended says nothing more.
        job_id: (entry.load_key, entry.job_class, entry.order, entry.queued_at)
        for job_id, entry in work.running.items()
    }
