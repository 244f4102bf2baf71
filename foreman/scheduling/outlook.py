"""The forecast of this moment, made when somebody asks and kept for as long as it is good.

Owns what a forecast needs beside the queue: how far the running jobs are. Must not spend more than a small part of the
time on forecasts, however often it is asked, nor decide anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from foreman.clock import Clock, Micros, seconds_between
from foreman.commands.ledger import Ledger
from foreman.events.types import (
    JobCancelled,
    JobDone,
    JobFailed,
    JobLoading,
    JobQueued,
    JobRequeued,
    JobWorking,
    Position,
    Recorded,
)
from foreman.logs import get_logger
from foreman.projections.contents import NDJSON
from foreman.scheduling.forecast import Running, Situation, forecast
from foreman.scheduling.promises import Promises
from foreman.scheduling.scheduler import Policy, Turn
from foreman.scheduling.timetable import Eta, Forecast, Span
from foreman.tails import Tails
from foreman.target.inventory import Inventory
from foreman.target.residency import Residency

log = get_logger(__name__)

#: A forecast is good for this long if nothing happens.
GOOD_FOR_S: Final = 1.0
#: After a forecast, so many times the time that it took goes by before the next, unless it has to be fresh.
PAUSES: Final = 20
#: Even then it must not take more than a fifth of the time.
PAUSES_IF_FRESH: Final = 4


@dataclass(frozen=True, slots=True)
class Begun:
    """A job that loads or works, and since when."""

    loading: bool
    at: Micros
    attempt: int


@dataclass(slots=True)
class Outlook:
    """What is to come. Follows the log from the moment that it is made."""

    ledger: Ledger
    inventory: Inventory
    residency: Residency
    tails: Tails
    policy: Policy
    #: The scheduler's memory, which the worker holds.
    turn: Callable[[], Turn]
    #: How good the forecasts have been.
    promises: Promises = field(default_factory=Promises)
    begun: dict[str, Begun] = field(default_factory=dict)
    _made: Forecast | None = None
    _made_at: float = 0.0
    _took_s: float = 0.0
    _position: Position | None = None

    def __post_init__(self) -> None:
        self.ledger.feed.listeners.append(self._heard)

    @property
    def clock(self) -> Clock:
        """The daemon's."""
        return self.ledger.clock

    @property
    def serving(self) -> str | None:
        """The load key that the target works for now, or last."""
        running = self.ledger.work.running
        return next(iter(running.values())).load_key if running else self.residency.key

    def now(self, *, fresh: bool = False) -> Forecast:
        """The forecast. It may be a little older than the last event, unless it is to be `fresh`."""
        asked = self.clock.monotonic()
        age_s = asked - self._made_at
        if self._made is not None and (
            (self._position == self.ledger.feed.position and age_s < GOOD_FOR_S)
            or age_s < (PAUSES_IF_FRESH if fresh else PAUSES) * self._took_s
        ):
            return self._made
        now, work = self.clock.now(), self.ledger.work
        work.queue.settle(now)
        running = tuple(
            Running(
                job_id=job_id,
                load_key=entry.load_key,
                job_class=entry.job_class,
                loading=begun.loading,
                elapsed_s=seconds_between(begun.at, now),
                tokens=self.tokens(job_id),
            )
            for job_id, entry in work.running.items()
            if (begun := self.begun.get(job_id)) is not None
        )
        situation = Situation(now=now, turn=self.turn(), resident=self.serving, running=running)
        self._made = forecast(work.queue, situation, self.ledger.statistics, self.policy)
        self._made_at, self._position = self.clock.monotonic(), self.ledger.feed.position
        self._took_s = self._made_at - asked
        return self._made

    def eta(self, made: Forecast, job_id: str) -> Eta | None:
        """When a waiting job starts, counted from now; None if it does not wait."""
        eta = made.of(self.ledger.work.queue, job_id)
        return None if eta is None else Eta(self._from_now(made, eta.start), eta.turn, eta.exact)

    def end(self, made: Forecast, job_id: str) -> Span | None:
        """When a running job ends, counted from now; None if that was not forecast."""
        span = made.ends.get(job_id)
        return None if span is None else self._from_now(made, span)

    def _from_now(self, made: Forecast, span: Span) -> Span:
        return span.later(seconds_between(made.at, self.clock.now()))

    def tokens(self, job_id: str) -> int | None:
        """Tokens that a running job has made so far; None if its answer does not come in lines."""
        tail = self.tails.get(job_id)
        return tail.run.lines if tail is not None and tail.run.content_type.startswith(NDJSON) else None

    def _heard(self, recorded: Recorded) -> None:
        """Follow the log: what runs since when, and whether promises were kept."""
        event, job_id = recorded.event, recorded.stream
        if isinstance(event, JobQueued):
            self._promise(job_id, recorded.at)
        elif isinstance(event, JobLoading | JobWorking):
            loading = isinstance(event, JobLoading)
            self.begun[job_id] = Begun(loading, recorded.at, event.attempt)
            if not loading:
                self.promises.started(job_id, recorded.at)
        elif isinstance(event, JobDone | JobFailed | JobCancelled | JobRequeued):
            self.begun.pop(job_id, None)
            self.promises.forget(job_id)

    def _promise(self, job_id: str, at: Micros) -> None:
        work = self.ledger.work
        # A job that finds nobody before it is told nothing that could be wrong.
        if self.promises.full or not self.inventory.up or len(work.queue) + len(work.running) < 2:
            return
        try:
            eta = self.eta(self.now(), job_id)
        except Exception as error:
            # This runs while the ledger publishes: a forecast that goes wrong must not stop it.
            log.error("forecast.failed", job_id=job_id, exc_info=error)
            return
        if eta is not None:
            self.promises.make(job_id, at, eta.start.expected_s)
