"""The metrics that the log gives, as a fold of it: each counter and histogram equals a query over all events.

A fold, nothing more: how they are written out is no matter of this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
import orjson

from foreman.events.daemon import DaemonStarted, ModelSwapped, TargetDegraded, TargetStalled
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
    Whole,
)
from foreman.projections import measures
from foreman.projections.job import Job
from foreman.projections.measures import OTHER, Series, Spread
from foreman.target.names import canonical

#: So many models have series of their own, the first ones of the log; later ones share the label OTHER.
MOST_MODELS: Final = 40
START: Final = Position(0)
NANOSECONDS: Final = 1_000_000_000


class Facts(NamedTuple):
    """What never changes about a job, which its later events do not repeat."""

    #: Its canonical name.
    model: str
    job_class: str


#: Goes with events that are no job's.
NO_JOB: Final = Facts("", "")


def facts_of(job: Job | JobQueued) -> Facts:
    """The facts of a job, from its view or its first event."""
    return _facts(job.model, str(job.job_class))


@lru_cache(maxsize=1_024)
def _facts(model: str, job_class: str) -> Facts:
    return Facts(canonical(model), job_class)


@dataclass(slots=True)
class Tally:
    """Every metric of the log, as of `position`."""

    #: Part of the snapshot's key. A change of what is counted, of a bucket or of a label takes the next number.
    VERSION: ClassVar[int] = 1
    NAME: ClassVar[str] = "tally"

    position: Position = START
    series: Series = field(default_factory=Series)
    #: The models with series of their own, in the order in which the log came to know them.
    models: dict[str, None] = field(default_factory=dict)
    #: Jobs that load or work: whoever ends and is not one of them has waited until now.
    running: set[str] = field(default_factory=set)
    last_arrived: str | None = None

    def apply(self, recorded: Recorded, facts: Facts) -> None:
        """Take one more event into account, with the facts of the job that it is about."""
        self.position = recorded.position
        rule = _RULES.get(type(recorded.event))
        if rule is not None:
            rule(self, recorded, facts)

    def label(self, model: str) -> str:
        """The label of a model, given its canonical name."""
        return model if model in self.models else OTHER

    def dump(self) -> str:
        """The state as a snapshot's text."""
        values = [(name, labels, value) for name, all_ in self.series.values.items() for labels, value in all_.items()]
        spreads = [
            (name, labels, spread.counts, spread.total)
            for name, all_ in self.series.spreads.items()
            for labels, spread in all_.items()
        ]
        state = {
            "position": self.position,
            "values": values,
            "spreads": spreads,
            "models": list(self.models),
            "running": sorted(self.running),
            "last_arrived": self.last_arrived,
        }
        return orjson.dumps(state).decode()

    def learn(self, model: str) -> None:
        """Give a model series of its own while there is room."""
        if model not in self.models and len(self.models) < MOST_MODELS:
            self.models[model] = None

    def begin(self, job_id: str, facts: Facts) -> None:
        """The job waits no longer."""
        if job_id in self.running:
            return  # it comes from loading
        self.running.add(job_id)
        self.series.add(measures.RUNNING)
        self.wait(facts, by=-1)

    def end(self, job_id: str, facts: Facts) -> None:
        """The job neither waits nor runs any longer."""
        if job_id in self.running:
            self.running.discard(job_id)
            self.series.add(measures.RUNNING, by=-1)
        else:
            self.wait(facts, by=-1)

    def wait(self, facts: Facts, by: int) -> None:
        """One more job waits, or one less."""
        self.series.add(measures.QUEUED, self.label(facts.model), facts.job_class, by=by)


class _Stored(msgspec.Struct):
    """What `dump` writes: lists for the mappings, since JSON has no keys of several parts."""

    position: Position
    values: list[tuple[str, tuple[str, ...], Whole | float]]
    spreads: list[tuple[str, tuple[str, ...], list[Whole], Whole | float]]
    models: list[str]
    running: list[str]
    last_arrived: str | None


_read: Final = msgspec.json.Decoder(_Stored).decode


def load(text: str) -> Tally:
    """The state that `dump` wrote. Raises ValueError for anything else."""
    state = _read(text)
    series = Series()
    for name, labels, value in state.values:
        series.values.setdefault(name, {})[labels] = value
    for name, labels, counts, total in state.spreads:
        series.spreads.setdefault(name, {})[labels] = Spread(counts, total)
    return Tally(
        position=state.position,
        series=series,
        models=dict.fromkeys(state.models),
        running=set(state.running),
        last_arrived=state.last_arrived,
    )


def _queued(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    event = recorded.event
    assert isinstance(event, JobQueued)
    tally.learn(facts.model)
    tally.series.add(measures.SUBMITTED, tally.label(facts.model), facts.job_class)
    tally.wait(facts, by=1)
    if event.load_key != tally.last_arrived:
        tally.last_arrived = event.load_key
        tally.series.add(measures.SWAPS_IN_ORDER)
        tally.series.add(measures.SWAPS_AVOIDED)


def _loading(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    tally.begin(recorded.stream, facts)


def _working(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    event = recorded.event
    assert isinstance(event, JobWorking)
    tally.begin(recorded.stream, facts)
    tally.series.observe(measures.WAIT, event.waited_s, facts.job_class)


def _requeued(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    event = recorded.event
    assert isinstance(event, JobRequeued)
    tally.end(recorded.stream, facts)
    tally.wait(facts, by=1)
    tally.series.add(measures.REQUEUES, event.reason.value)


def _done(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    event, series, model = recorded.event, tally.series, tally.label(facts.model)
    assert isinstance(event, JobDone)
    tally.end(recorded.stream, facts)
    series.add(measures.FINISHED, model, "done")
    # What a target says of itself must not make a counter go down.
    series.add(measures.PROMPT_TOKENS, model, by=float(max(0, event.prompt_tokens or 0)))
    series.add(measures.GENERATED_TOKENS, model, by=float(max(0, event.generated_tokens or 0)))
    series.add(measures.GENERATION, model, by=max(0, event.eval_duration or 0) / NANOSECONDS)
    if event.run_s is not None:
        series.observe(measures.RUN, event.run_s)
    if event.first_token_s is not None:
        series.observe(measures.FIRST_TOKEN, event.first_token_s)


def _failed(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    tally.end(recorded.stream, facts)
    tally.series.add(measures.FINISHED, tally.label(facts.model), "failed")


def _cancelled(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    tally.end(recorded.stream, facts)
    tally.series.add(measures.FINISHED, tally.label(facts.model), "cancelled")


def _swapped(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    event = recorded.event
    assert isinstance(event, ModelSwapped)
    tally.series.add(measures.SWAPS)
    tally.series.add(measures.SWAPS_AVOIDED, by=-1)
    tally.series.observe(measures.LOAD, event.load_s)


def _degraded(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    tally.series.add(measures.OUTAGES)


def _stalled(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    event = recorded.event
    assert isinstance(event, TargetStalled)
    tally.series.add(measures.STALLS, event.stage.value)


def _started(tally: Tally, recorded: Recorded, facts: Facts) -> None:
    tally.series.add(measures.STARTS)


_RULES: Final[Mapping[type[Any], Callable[[Tally, Recorded, Facts], None]]] = {
    JobQueued: _queued,
    JobLoading: _loading,
    JobWorking: _working,
    JobRequeued: _requeued,
    JobDone: _done,
    JobFailed: _failed,
    JobCancelled: _cancelled,
    ModelSwapped: _swapped,
    TargetDegraded: _degraded,
    TargetStalled: _stalled,
    DaemonStarted: _started,
}
