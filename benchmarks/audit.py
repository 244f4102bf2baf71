"""`foreman audit` of a long log, as an operator runs it: events a second, and its memory beside that of a short log."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from benchmarks.harness import ROOT, Figure
from foreman import __version__
from foreman.clock import Micros
from foreman.commands.batch import Batch
from foreman.commands.schema import MIGRATIONS
from foreman.commands.types import (
    CancelJob,
    Command,
    ExpireJob,
    FinishJob,
    Note,
    RecordAttempt,
    RequeueJob,
    StartLoading,
    StartWorking,
    Submission,
    SubmitJobs,
)
from foreman.events.codec import GENESIS
from foreman.events.daemon import DaemonStarted
from foreman.events.types import CancelledBy, IdempotencyKey, Position, RequeueReason, Webhook
from foreman.fsm.job import State
from foreman.projections import contents, snapshots
from foreman.projections.contents import artifact
from foreman.projections.job import Job, Metrics
from foreman.projections.outbox import Attempt, Attempted, Status
from foreman.projections.statistics import Statistics
from foreman.projections.tally import NO_JOB, Tally, facts_of
from foreman.projections.timeline import Timeline
from foreman.storage.database import Statement
from tests.core import QUEUED

#: The long log; BENCH_EVENTS sets another.
EVENTS = int(os.environ.get("BENCH_EVENTS", "1000000"))
JOBS_AT_A_TIME = 500
#: Of a hundred jobs, so many have a webhook, a key, a load, a second attempt, are cancelled, and expire.
WEBHOOKS, KEYS, LOADS, RETRIES, CANCELS, EXPIRES = 5, 10, 20, 3, 5, 30
WEBHOOK = Webhook(url="http://hooks.example/", events=("done",))
METRICS = Metrics(
    done_reason="stop", prompt_tokens=26, generated_tokens=298, total_duration=10_706_818_083,
    load_duration=6_338_219_291, prompt_eval_duration=130_079_000, eval_duration=4_232_710_000,
    first_token_s=0.25, run_s=10.75,
)  # fmt: skip


class Log:
    """A database that grows as the ledger would make it grow, but for the waiting."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")
        for number, script in enumerate(MIGRATIONS, start=1):
            self.connection.executescript(f"BEGIN;{script};PRAGMA user_version={number};COMMIT;")
        self.states = (Statistics(), Tally(), Timeline())
        self.batch = Batch(
            now=Micros(1_800_000_000_000_000), position=Position(0), hash=GENESIS, daemon_version=0, room=10**9
        )
        self.number = 0

    def grow(self, events: int) -> None:
        """Until there are so many."""
        started = DaemonStarted(foreman_version=__version__, sqlite_version="3", waiting=0, requeued=0, cancelled=0)
        self.commit([Note(event=started)])
        while self.batch.position < events:
            numbers = range(self.number, self.number + JOBS_AT_A_TIME)
            self.number += JOBS_AT_A_TIME
            self.commit([submit(number) for number in numbers])
            # They run one after the other, so that their events lie beside each other as in a real log.
            self.commit([command for number in numbers for command in life(number)])
            self.commit([self.delivered(number) for number in numbers if has_webhook(number)])
            expiring = range(numbers[0] - 10 * JOBS_AT_A_TIME, numbers[-1] - 10 * JOBS_AT_A_TIME + 1)
            self.commit([ExpireJob(job_id=id_of(n)) for n in expiring if n >= 0 and is_one_of(n, EXPIRES)])

    def commit(self, commands: list[Command]) -> None:
        """One transaction."""
        before = self.batch
        self.batch = Batch(
            now=Micros(before.now + 1_000_000), position=before.position, hash=before.hash,
            daemon_version=before.daemon_version, room=10**9, jobs=before.jobs,
        )  # fmt: skip
        for command in commands:
            self.batch.carry_out(command)
        for recorded in self.batch.recorded:
            facts = NO_JOB if recorded.stream == "daemon" else facts_of(self.batch.jobs[recorded.stream])
            for state in self.states:
                state.apply(recorded, facts) if isinstance(state, Tally) else state.apply(recorded)
        self.connection.execute("BEGIN")
        for statement in (
            *self.batch.statements(),
            Statement(snapshots.UPSERT, [snapshots.row(state) for state in self.states]),
        ):
            if statement.rows:
                self.connection.executemany(statement.sql, statement.rows)
        self.connection.execute("COMMIT")
        for job_id in [id_ for id_, job in self.batch.jobs.items() if is_over(job)]:
            del self.batch.jobs[job_id]

    def delivered(self, number: int) -> RecordAttempt:
        """The delivery of the job's end."""
        job = self.batch.jobs[id_of(number)]
        attempt = Attempt(at=self.batch.now, duration=5_000, address="192.0.2.7:80", status=204)
        attempted = Attempted(job_id=job.job_id, position=job.position, attempt=attempt, status=Status.DELIVERED)
        return RecordAttempt(job_id=job.job_id, attempted=attempted)


def id_of(number: int) -> str:
    """A job's id; they sort by age."""
    return f"01J{number:023}"


def has_webhook(number: int) -> bool:
    """Some of those that expire have one, and as many of the others."""
    return (number + 20) % 100 < WEBHOOKS


def is_one_of(number: int, of_a_hundred: int) -> bool:
    """Whether the job is one of so many of each hundred, each kind another selection."""
    return number * 37 % 100 < of_a_hundred


def is_over(job: Job) -> bool:
    """Whether nothing more will happen to it."""
    number = int(job.job_id[3:])
    if job.finished and not is_one_of(number, EXPIRES):
        return job.webhook is None
    return job.state is State.EXPIRED


def submit(number: int) -> SubmitJobs:
    """A job with a body of its own."""
    body = artifact(
        contents.REQUEST, contents.JSON, b'{"model":"a","messages":[{"role":"user","content":"hello %d"}]}' % number
    )
    key = IdempotencyKey(key=f"jobs:{number}", fingerprint="f") if (number + 50) % 100 < KEYS else None
    queued = replace(
        QUEUED,
        model="abc"[number % 3],
        load_key="abc"[number % 3],
        request=body.ref,
        webhook=WEBHOOK if has_webhook(number) else None,
        idempotency=key,
    )
    return SubmitJobs(
        submissions=(Submission(job_id=id_of(number), queued=queued, body=body),),
        key=key.key if key else None,
        fingerprint="f" if key else "",
    )


def life(number: int) -> Iterator[Command]:
    """What becomes of the job."""
    job_id = id_of(number)
    if (number + 25) % 100 < CANCELS:
        yield CancelJob(job_id=job_id, by=CancelledBy.API)
        return
    if (number + 40) % 100 < RETRIES:
        yield StartWorking(job_id=job_id, swapped=False)
        yield RequeueJob(job_id=job_id, reason=RequeueReason.CONNECTION, error="it broke")
    if (number + 70) % 100 < LOADS:
        yield StartLoading(job_id=job_id, evicts="b")
    yield StartWorking(job_id=job_id, swapped=False)
    answer = artifact(contents.COMPLETION, contents.JSON, b'{"message":{"content":"hello %d"}}' % number * 20)
    yield FinishJob(job_id=job_id, metrics=METRICS, artifacts=(answer,))


def run(path: Path) -> tuple[float, float]:
    """Audit it with the real command: events a second as it reports them, and megabytes of both processes at most."""
    command = [sys.executable, "-m", "foreman", "audit", "--db", str(path), "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    most_mb = 0.0
    while process.poll() is None:
        most_mb = max(most_mb, sum(map(memory_mb, family(process.pid))))
        time.sleep(0.1)
    assert process.stdout is not None
    found = json.loads(process.stdout.read())
    if not found["clean"]:
        raise RuntimeError(f"the audit of a clean log found {found['counts']}")
    return found["events"] / found["seconds"], most_mb


def family(pid: int) -> list[int]:
    """The process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *map(int, children)]


def memory_mb(pid: int) -> float:
    """What it has for itself, MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


async def audit() -> list[Figure]:
    """A tenth of the log first, then all of it."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        log = Log(Path(folder) / "foreman.db")
        log.grow(EVENTS // 10)
        _, shorter_mb = run(Path(folder) / "foreman.db")
        log.grow(EVENTS)
        rate, mb = run(Path(folder) / "foreman.db")
        log.connection.close()
    return [
        Figure(name=f"audit of {EVENTS:,} events", value=rate, unit="events/s", target=">= 150,000 events/s"),
        Figure(
            name="memory of both its processes",
            value=mb,
            unit="MB",
            beside=f"{shorter_mb:.0f} MB for a tenth of the events",
            target="the same",
        ),
    ]


ALL = (audit,)
