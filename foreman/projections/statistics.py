"""What the log says of how long things take, small enough for memory and for a snapshot. A fold, nothing more.

What is measured per load key is kept for the most recent of them only: a caller can make up as many as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import exp, sqrt
from typing import Any, ClassVar, Final

import msgspec
import orjson

from foreman.clock import Micros, seconds_between
from foreman.events.daemon import ModelSwapped
from foreman.events.types import Instant, JobClass, JobDone, JobQueued, Position, Recorded, Whole

#: Weight of the newest load in its average: about the last ten count.
NEWEST_LOAD: Final = 0.2
#: Runs differ more from each other than loads do, so more of them count.
NEWEST_RUN: Final = 0.05
#: So many runs count alike.
FEW_RUNS: Final = 20
#: How far back arrivals count: after this time each counts for a third of what it did.
ARRIVALS_S: Final = 1_800.0
#: Arrivals of a shorter time than this are no rate yet.
SHORTEST_RATE_S: Final = 600.0
#: Load keys that measurements are kept for.
MOST_KEYS: Final = 256
#: A shorter phase than this says nothing of a speed.
SHORTEST_PHASE_S: Final = 0.01
NANOSECONDS: Final = 1e9
START: Final = Position(0)


@dataclass(slots=True)
class Measured:
    """A running mean of one quantity, and its variance."""

    count: Whole = 0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, value: float, weight: float) -> None:
        """Take one more value in, as part `weight` of the whole."""
        self.count += 1
        off = value - self.mean
        self.mean += weight * off
        self.variance = (1 - weight) * (self.variance + weight * off * off)

    def take(self, value: float | None) -> None:
        """Take one more run's value in, if it has one: at first all count alike, later the newest for more."""
        if value is not None:
            # `add` once more, for what is done ten times for each job of a log.
            weight = NEWEST_RUN if self.count >= FEW_RUNS else 1 / (self.count + 1)
            self.count += 1
            off = value - self.mean
            self.mean += weight * off
            self.variance = (1 - weight) * (self.variance + weight * off * off)

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return sqrt(self.variance)


@dataclass(slots=True)
class Arrivals:
    """How often jobs come: their number, the older the less."""

    number: float = 0.0
    first: Instant | None = None
    last: Instant | None = None

    def add(self, at: Micros) -> None:
        """One more has come."""
        self.number = self._by(at) + 1
        self.first = at if self.first is None else self.first
        self.last = at

    def a_second(self, now: Micros) -> float:
        """How many come in a second."""
        if self.first is None:
            return 0.0
        known_s = max(SHORTEST_RATE_S, seconds_between(self.first, now))
        return self._by(now) / (ARRIVALS_S * (1 - exp(-known_s / ARRIVALS_S)))

    def _by(self, now: Micros) -> float:
        return 0.0 if self.last is None else self.number * exp(-seconds_between(self.last, now) / ARRIVALS_S)


@dataclass(slots=True)
class Figures:
    """What has been measured of one load key, or of all of them."""

    #: Seconds that a load takes.
    load_s: Measured = field(default_factory=Measured)
    #: Seconds between a job's request and the end of its answer: of all jobs, and by class.
    run_s: Measured = field(default_factory=Measured)
    run_s_of: dict[JobClass, Measured] = field(default_factory=dict)
    #: Tokens of an answer.
    tokens: Measured = field(default_factory=Measured)
    #: Tokens a second: made, and read from the prompt.
    tokens_per_s: Measured = field(default_factory=Measured)
    prompt_tokens_per_s: Measured = field(default_factory=Measured)
    #: Interactive jobs; batch jobs come in heaps that nobody can foresee.
    arrivals: Arrivals = field(default_factory=Arrivals)

    def take(self, done: JobDone, tokens_per_s: float | None, prompt_tokens_per_s: float | None) -> None:
        """Take one finished job's figures in, as far as it has them, and the rates that follow from them."""
        self.run_s.take(done.run_s)
        if done.job_class is not None:
            of_class = self.run_s_of.get(done.job_class)
            if of_class is None:
                of_class = self.run_s_of[done.job_class] = Measured()
            of_class.take(done.run_s)
        self.tokens.take(done.generated_tokens)
        self.tokens_per_s.take(tokens_per_s)
        self.prompt_tokens_per_s.take(prompt_tokens_per_s)


@dataclass(slots=True)
class Statistics:
    """What has been measured so far, as of `position`."""

    #: Part of the snapshot's key: a snapshot of another version is dropped and the log folded anew.
    VERSION: ClassVar[int] = 3
    NAME: ClassVar[str] = "statistics"

    position: Position = START
    #: Over all load keys, and by load key, the one measured longest ago first.
    overall: Figures = field(default_factory=Figures)
    by_key: dict[str, Figures] = field(default_factory=dict)

    def apply(self, recorded: Recorded) -> None:
        """Take one more event into account."""
        self.position = recorded.position
        rule = _RULES.get(type(recorded.event))
        if rule is not None:
            rule(self, recorded.event, recorded.at)

    @property
    def run_s(self) -> float | None:
        """Seconds that a run takes, over all models; None before the first."""
        return self.overall.run_s.mean if self.overall.run_s.count else None

    def typical_load_s(self, default: float) -> float:
        """Seconds that a load takes, as the mean over all models; `default` before the first."""
        loads = [figures.load_s.mean for figures in self.by_key.values() if figures.load_s.count]
        return sum(loads) / len(loads) if loads else default

    def dump(self) -> str:
        """The state as a snapshot's text."""
        return orjson.dumps(self, option=orjson.OPT_NON_STR_KEYS).decode()

    def of(self, load_key: str) -> Figures:
        """The key's figures, from now on the newest; the oldest give way when there are too many."""
        figures = self.by_key.pop(load_key) if load_key in self.by_key else Figures()
        self.by_key[load_key] = figures
        if len(self.by_key) > MOST_KEYS:
            del self.by_key[next(iter(self.by_key))]
        return figures


_read: Final = msgspec.json.Decoder(Statistics).decode


def load(text: str) -> Statistics:
    """The state that `dump` wrote. Raises ValueError for anything else."""
    return _read(text)


def _queued(state: Statistics, event: JobQueued, at: Micros) -> None:
    if event.job_class is JobClass.INTERACTIVE:
        state.of(event.load_key).arrivals.add(at)


def _swapped(state: Statistics, event: ModelSwapped, at: Micros) -> None:
    for figures in (state.overall, state.of(event.load_key)):
        figures.load_s.add(event.load_s, NEWEST_LOAD if figures.load_s.count else 1.0)


def _done(state: Statistics, event: JobDone, at: Micros) -> None:
    made = _rate(event.generated_tokens, event.eval_duration)
    read = _rate(event.prompt_tokens, event.prompt_eval_duration)
    state.overall.take(event, made, read)
    if event.load_key is not None:
        state.of(event.load_key).take(event, made, read)


def _rate(tokens: int | None, nanoseconds: int | None) -> float | None:
    seconds = (nanoseconds or 0) / NANOSECONDS
    return tokens / seconds if tokens and seconds >= SHORTEST_PHASE_S else None


_RULES: Final[Mapping[type[Any], Callable[[Statistics, Any, Micros], None]]] = {
    JobQueued: _queued,
    ModelSwapped: _swapped,
    JobDone: _done,
}
