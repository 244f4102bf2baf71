"""What a metric is, which of them the log gives, and the numbers of any. Declares and adds up; writes nothing out.

Each metric is declared once; its storage, its output and its line in the documents are made from that.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from foreman.events.daemon import Stage
from foreman.events.types import JobClass, RequeueReason


class Kind(StrEnum):
    """How Prometheus is to read a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """What tells the series of a metric apart: one of fixed values, or what only running tells (None)."""

    name: str
    values: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One metric. A histogram has `buckets`: their upper bounds, without the infinite one."""

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(slots=True)
class Spread:
    """A histogram's numbers: observations for each bucket, the infinite one last, and their sum."""

    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Series:
    """Numbers by a metric's name and its labels' values, in the order of the declaration."""

    values: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)
    spreads: dict[str, dict[tuple[str, ...], Spread]] = field(default_factory=dict)

    def add(self, measure: Measure, *labels: str, by: float = 1) -> None:
        """Add to a counter or a gauge."""
        try:
            self.values[measure.name][labels] += by
        except KeyError:
            self.values.setdefault(measure.name, {})[labels] = by

    def observe(self, measure: Measure, value: float, *labels: str) -> None:
        """Take one more observation into a histogram."""
        try:
            spread = self.spreads[measure.name][labels]
        except KeyError:
            spread = Spread([0] * (len(measure.buckets) + 1))
            self.spreads.setdefault(measure.name, {})[labels] = spread
        spread.counts[bisect_left(measure.buckets, value)] += 1
        spread.total += value


#: A model's canonical name, or OTHER.
MODEL: Final = Label("model", None)
OTHER: Final = "other"
CLASS: Final = Label("class", tuple(JobClass))

#: Seconds. An hour is no rare wait behind a night's batch, nor a rare answer of a large model on a small machine.
LONG: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)

SUBMITTED: Final = Measure(
    name="foreman_jobs_submitted_total",
    kind=Kind.COUNTER,
    help="Jobs that were accepted.",
    labels=(MODEL, CLASS),
)
FINISHED: Final = Measure(
    name="foreman_jobs_finished_total",
    kind=Kind.COUNTER,
    help="Jobs that have ended, by how.",
    labels=(MODEL, Label("outcome", ("done", "failed", "cancelled"))),
)
QUEUED: Final = Measure(
    name="foreman_jobs_queued",
    kind=Kind.GAUGE,
    help="Jobs that wait, those in the pause after a failed attempt included.",
    labels=(MODEL, CLASS),
)
RUNNING: Final = Measure(name="foreman_jobs_running", kind=Kind.GAUGE, help="Jobs that load their model or work.")
REQUEUES: Final = Measure(
    name="foreman_job_requeues_total",
    kind=Kind.COUNTER,
    help="Runs that ended without an answer, so that the job waited again: the call broke (connection), the target was "
    "away (unreachable), or foreman stopped (interrupted).",
    labels=(Label("reason", tuple(RequeueReason)),),
)
WAIT: Final = Measure(
    name="foreman_job_wait_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from a job's acceptance to the start of a run, loading not counted; one observation for each run.",
    labels=(CLASS,),
    buckets=LONG,
)
RUN: Final = Measure(
    name="foreman_job_run_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from a job's request to the end of its answer; jobs that were answered.",
    buckets=LONG,
)
FIRST_TOKEN: Final = Measure(
    name="foreman_first_token_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from a job's request to the first byte of its answer; jobs that were answered.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
LOAD: Final = Measure(
    name="foreman_load_seconds",
    kind=Kind.HISTOGRAM,
    help="Time that a model took to load.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
)
PROMPT_TOKENS: Final = Measure(
    name="foreman_prompt_tokens_total",
    kind=Kind.COUNTER,
    help="Prompt tokens that the target read, as it counts them.",
    labels=(MODEL,),
)
GENERATED_TOKENS: Final = Measure(
    name="foreman_generated_tokens_total",
    kind=Kind.COUNTER,
    help="Tokens that the target generated, as it counts them.",
    labels=(MODEL,),
)
GENERATION: Final = Measure(
    name="foreman_generation_seconds_total",
    kind=Kind.COUNTER,
    help="Time that the target says it spent on generating tokens.",
    labels=(MODEL,),
)
SWAPS: Final = Measure(
    name="foreman_model_swaps_total",
    kind=Kind.COUNTER,
    help="Models that were loaded for a job.",
)
SWAPS_IN_ORDER: Final = Measure(
    name="foreman_model_swaps_in_order_total",
    kind=Kind.COUNTER,
    help="Loads that serving the same jobs strictly in order of arrival would have taken.",
)
SWAPS_AVOIDED: Final = Measure(
    name="foreman_model_swaps_avoided",
    kind=Kind.GAUGE,
    help="Loads that serving in order of arrival would have taken, less those that were made. "
    "Jobs that still wait count as arrived.",
)
OUTAGES: Final = Measure(
    name="foreman_target_outages_total",
    kind=Kind.COUNTER,
    help="Times that the target stopped answering.",
)
STALLS: Final = Measure(
    name="foreman_target_stalls_total",
    kind=Kind.COUNTER,
    help="Calls that showed no sign of life for too long and were closed, by how far they had come.",
    labels=(Label("stage", tuple(Stage)),),
)
STARTS: Final = Measure(name="foreman_starts_total", kind=Kind.COUNTER, help="Starts of foreman on this database.")

#: What the log gives: a start or a rebuild changes none of it.
FROM_EVENTS: Final = (
    SUBMITTED, FINISHED, QUEUED, RUNNING, REQUEUES, WAIT, RUN, FIRST_TOKEN, LOAD, PROMPT_TOKENS, GENERATED_TOKENS,
    GENERATION, SWAPS, SWAPS_IN_ORDER, SWAPS_AVOIDED, OUTAGES, STALLS, STARTS,
)  # fmt: skip
