"""Every metric that the log does not give, declared once, and the table of all. No number is kept here."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Final

from foreman import __version__
from foreman.projections import webhook_totals
from foreman.projections.measures import FROM_EVENTS, MODEL, Kind, Label, Measure
from foreman.scheduling import promises
from foreman.storage.database import SQLITE_VERSION

#: HTTP statuses by their first digit: with each one for itself a target or a caller could make up series.
STATUSES: Final = ("2xx", "3xx", "4xx", "5xx")

OLDEST: Final = Measure(
    name="foreman_oldest_job_timestamp_seconds",
    kind=Kind.GAUGE,
    help="When the oldest job that waits was accepted; 0 while none waits.",
)
TARGET_UP: Final = Measure(
    name="foreman_target_up", kind=Kind.GAUGE, help="Whether the target answered when it was last asked."
)
DEGRADED: Final = Measure(
    name="foreman_target_degraded_timestamp_seconds",
    kind=Kind.GAUGE,
    help="When the target was first seen to be away; 0 while it answers.",
)
STALLED: Final = Measure(
    name="foreman_target_stalled_timestamp_seconds",
    kind=Kind.GAUGE,
    help="Since when the target takes calls and does not answer them; 0 while it does.",
)
RESIDENT: Final = Measure(
    name="foreman_model_resident",
    kind=Kind.GAUGE,
    help="Models that the target holds in memory: 1 or 0 for a model with a series of its own.",
    labels=(MODEL,),
)
POSITION: Final = Measure(
    name="foreman_log_position",
    kind=Kind.GAUGE,
    help="Position of the last event: as many have been written, those included that were archived since.",
)
LAG: Final = Measure(
    name="foreman_projection_lag_events",
    kind=Kind.GAUGE,
    help="Events in the log that a projection in memory has not taken into account yet.",
    labels=(Label("projection", ("statistics", "tally", "timeline")),),
)
DATABASE_BYTES: Final = Measure(
    name="foreman_database_bytes",
    kind=Kind.GAUGE,
    help="Size of the database's files: the database itself and its write-ahead log.",
    labels=(Label("file", ("database", "wal")),),
)
DISK_BYTES: Final = Measure(
    name="foreman_disk_bytes", kind=Kind.GAUGE, help="Size of the file system that the database is on."
)
DISK_FREE_BYTES: Final = Measure(
    name="foreman_disk_free_bytes", kind=Kind.GAUGE, help="What foreman may still use of that file system."
)
ATTEMPTS: Final = Measure(
    name="foreman_webhook_attempts_total",
    kind=Kind.COUNTER,
    help="Attempts to deliver a webhook: taken (delivered), answered otherwise or not at all (failed), answered with "
    "410 (gone), or not even dialled, as when the address is not allowed (not_sent).",
    labels=(Label("result", webhook_totals.RESULTS),),
)
PENDING: Final = Measure(
    name="foreman_webhooks_pending", kind=Kind.GAUGE, help="Webhooks that are still to be delivered."
)
DEAD: Final = Measure(
    name="foreman_webhooks_dead",
    kind=Kind.GAUGE,
    help="Webhooks that were given up after their last attempt, until their job expires or they are asked for again.",
)
ETA_ERROR: Final = Measure(
    name="foreman_eta_error_ratio",
    kind=Kind.HISTOGRAM,
    help="How far off the forecasts were that jobs were given when they came, as a part of the wait; since the start.",
    buckets=promises.BUCKETS,
)
AT_SCRAPE: Final = (
    OLDEST, TARGET_UP, DEGRADED, STALLED, RESIDENT, POSITION, LAG, DATABASE_BYTES, DISK_BYTES, DISK_FREE_BYTES,
    PENDING, DEAD, ETA_ERROR,
)  # fmt: skip

COMMIT: Final = Measure(
    name="foreman_commit_seconds",
    kind=Kind.HISTOGRAM,
    help="Time that a commit took, from its beginning until it was durable; several commands may share one.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
HTTP_REQUESTS: Final = Measure(
    name="foreman_http_requests_total",
    kind=Kind.COUNTER,
    help="HTTP requests that were answered; route and method are `other` where no route is.",
    labels=(Label("route", None), Label("method", None), Label("status", STATUSES)),
)
HTTP: Final = Measure(
    name="foreman_http_request_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from an HTTP request's head to the head of its answer, the wait for a model included. `ollama` is what "
    "Ollama's clients call, `foreman` the rest.",
    labels=(Label("api", ("ollama", "foreman")),),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)
LOOP_LAG: Final = Measure(
    name="foreman_event_loop_lag_seconds",
    kind=Kind.HISTOGRAM,
    help="How much later than asked for the event loop came back to a task, looked at twice a second.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
#: What begins at 0 with each process.
OF_PROCESS: Final = (COMMIT, HTTP_REQUESTS, HTTP, LOOP_LAG)

BUILD: Final = Measure(
    name="foreman_build_info",
    kind=Kind.GAUGE,
    help="Always 1; its labels say what runs.",
    labels=(
        Label("version", (__version__,)),
        Label("sqlite_version", (SQLITE_VERSION,)),
        Label("python_version", (platform.python_version(),)),
    ),
)

#: All of them, by where they come from.
SOURCES: Final[Mapping[str, tuple[Measure, ...]]] = {
    "From the log": FROM_EVENTS,
    "From the outbox": (ATTEMPTS,),
    "As things stand at the scrape": AT_SCRAPE,
    "Of this process": (*OF_PROCESS, BUILD),
}
