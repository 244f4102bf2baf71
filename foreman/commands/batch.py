"""What one transaction will write, built command by command on top of what is durable. Pure; the ledger commits it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from foreman.clock import Micros
from foreman.commands.decide import Decision, Known, decide
from foreman.commands.types import Command
from foreman.events import log
from foreman.events.codec import CODEC, chain_hash
from foreman.events.types import DAEMON, Event, IdempotencyKey, JobQueued, Position, Recorded
from foreman.projections import contents, deliveries, jobs, keys
from foreman.projections.job import Job, fold
from foreman.projections.keys import KnownKey
from foreman.projections.outbox import Change
from foreman.storage.database import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command did: the jobs it was about as it left them, and the events it made."""

    jobs: tuple[Job, ...]
    recorded: tuple[Recorded, ...]
    repeated: bool = False


@dataclass(slots=True, kw_only=True)
class Batch:
    """Commands carried out so far, one after the other, each seeing what those before it did."""

    now: Micros
    position: Position
    hash: bytes
    daemon_version: int
    #: Places left in the queue.
    room: int
    jobs: dict[str, Job] = field(default_factory=dict)
    keys: dict[str, KnownKey] = field(default_factory=dict)
    recorded: list[Recorded] = field(default_factory=list)
    #: Jobs whose views have changed, and those whose contents go.
    touched: set[str] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)
    outbox: list[Change] = field(default_factory=list)
    _events: list[tuple[Any, ...]] = field(default_factory=list)
    _artifacts: list[tuple[Any, ...]] = field(default_factory=list)
    _keys: list[tuple[Any, ...]] = field(default_factory=list)
    _secrets: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.recorded or self.outbox)

    def carry_out(self, command: Command) -> Outcome:
        """Judge a command and take in what it does, whole or not at all. Raises ForemanError."""
        decision = decide(command, Known(now=self.now, room=self.room, jobs=self.jobs, keys=self.keys))
        made = self._record(decision)
        self._artifacts += [contents.row(job_id, item) for job_id, item in decision.artifacts]
        self._secrets += decision.secrets
        self.emptied.update(decision.emptied)
        self.outbox += decision.outbox
        answer = tuple(self.jobs[job_id] for job_id in decision.answer)
        return Outcome(jobs=answer, recorded=made, repeated=decision.repeated)

    def _record(self, decision: Decision) -> tuple[Recorded, ...]:
        """Give the decision's events their places; nothing changes before all of them are known to be legal."""
        position, hash_, daemon_version = self.position, self.hash, self.daemon_version
        made: list[Recorded] = []
        rows: list[tuple[Any, ...]] = []
        views: dict[str, Job] = {}
        told: list[Change] = []
        for stream, event in decision.events:
            job = views.get(stream) or self.jobs.get(stream)
            version = daemon_version + 1 if stream == DAEMON else (job.version if job else 0) + 1
            text = CODEC.encode(event)
            position = Position(position + 1)
            hash_ = chain_hash(hash_, position, stream, version, event.type, self.now, text)
            item = Recorded(position=position, stream=stream, version=version, at=self.now, hash=hash_, event=event)
            if stream == DAEMON:
                daemon_version = version
            else:
                view = views[stream] = fold(job, item)
                if deliveries.is_told(view):
                    told.append(deliveries.told(view))
            made.append(item)
            rows.append(log.row(item, text))
        self.position, self.hash, self.daemon_version = position, hash_, daemon_version
        self.jobs.update(views)
        self.touched.update(views)
        self.recorded += made
        self.outbox += told
        self._events += rows
        for stream, event in decision.events:
            self._count(stream, event)
        return tuple(made)

    def _count(self, stream: str, event: Event) -> None:
        if isinstance(event, JobQueued):
            self.room -= 1
            if event.idempotency is not None:
                self._learn(event.idempotency, stream)

    def _learn(self, key: IdempotencyKey, job_id: str) -> None:
        known = self.keys.get(key.key)
        job_ids = (*known.job_ids, job_id) if known else (job_id,)
        self.keys[key.key] = KnownKey(fingerprint=key.fingerprint, job_ids=job_ids)
        self._keys.append((key.key, key.ordinal, job_id, key.fingerprint))

    def statements(self) -> list[Statement]:
        """What to run. Keys come last: whether one is spent shows in the views of its jobs."""
        expired = [self.jobs[job_id].idempotency for job_id in self.emptied]
        return [
            Statement(log.INSERT, self._events),
            Statement(jobs.UPSERT, [jobs.row(self.jobs[job_id]) for job_id in self.touched]),
            Statement(contents.INSERT, self._artifacts),
            Statement(contents.DELETE, [(job_id,) for job_id in self.emptied]),
            Statement(deliveries.INSERT_SECRET, self._secrets),
            *deliveries.statements(self.outbox, self.now),
            Statement(keys.INSERT, self._keys),
            Statement(keys.DELETE_SPENT, [(key,) for key in {key.key for key in expired if key is not None}]),
        ]
