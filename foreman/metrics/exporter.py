"""Writes all metrics out as Prometheus reads them. Counts nothing itself: it reads what others have counted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from foreman.clock import Micros
from foreman.commands.ledger import Ledger
from foreman.events import log
from foreman.events.types import JobClass
from foreman.metrics import table
from foreman.metrics.meters import Meters
from foreman.projections import webhook_totals
from foreman.projections.measures import FROM_EVENTS, MODEL, OTHER, Kind, Measure, Series, Spread
from foreman.scheduling.promises import Promises
from foreman.storage.database import Database
from foreman.target.inventory import Inventory
from foreman.target.names import identity_of
from foreman.target.residency import Residency


class Exporter(Collector):
    """The metrics of one foreman, in a registry of their own."""

    def __init__(
        self,
        ledger: Ledger,
        database: Database,
        inventory: Inventory,
        residency: Residency,
        meters: Meters,
        promises: Promises,
    ) -> None:
        self._ledger = ledger
        self._database = database
        self._inventory = inventory
        self._residency = residency
        self._meters = meters
        self._promises = promises
        self._at_scrape = Series()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as of now, in the format that the Accept header prefers, and their content type."""
        read = self._database.read
        (head, _), totals = await log.head(read), await webhook_totals.totals(read)
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # of a version that is no number
            encode, content_type = choose_encoder("")
        # From here on nothing else runs, so the numbers fit each other, and another scrape cannot change them.
        self._at_scrape = self._stand(head, totals)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Each metric with all its series."""
        models = (*self._ledger.tally.models, OTHER)
        for measures, series in (
            (FROM_EVENTS, self._ledger.tally.series),
            ((table.ATTEMPTS, *table.AT_SCRAPE, table.BUILD), self._at_scrape),
            (table.OF_PROCESS, self._meters.series),
        ):
            for measure in measures:
                yield _metric(measure, series, models)

    def _stand(self, head: int, totals: Mapping[str, int]) -> Series:
        """How things stand."""
        series, path = Series(), self._database.path.resolve()
        ledger, health = self._ledger, self._inventory.health
        series.add(table.OLDEST, by=_timestamp(_oldest(ledger)))
        series.add(table.TARGET_UP, by=health.up is True)
        series.add(table.DEGRADED, by=_timestamp(health.away_since))
        series.add(table.STALLED, by=_timestamp(health.stalled_since))
        for names in self._resident():
            # Of several names of one model it is known by those that jobs have used.
            for label in {ledger.tally.label(name) for name in names} - {OTHER} or {OTHER}:
                series.add(table.RESIDENT, label)
        series.add(table.POSITION, by=head)
        for projection in (ledger.statistics, ledger.tally, ledger.timeline):
            series.add(table.LAG, projection.NAME, by=max(0, head - projection.position))
        series.add(table.DATABASE_BYTES, "database", by=_size(path))
        series.add(table.DATABASE_BYTES, "wal", by=_size(path.with_name(path.name + "-wal")))
        disk = shutil.disk_usage(path.parent)
        series.add(table.DISK_BYTES, by=disk.total)
        series.add(table.DISK_FREE_BYTES, by=disk.free)
        for result in webhook_totals.RESULTS:
            series.add(table.ATTEMPTS, result, by=totals[result])
        series.add(table.PENDING, by=ledger.outbox.pending)
        series.add(table.DEAD, by=totals["dead"])
        errors = Spread(list(self._promises.counts), self._promises.total)
        series.spreads[table.ETA_ERROR.name] = {(): errors}
        series.add(table.BUILD, *(value for label in table.BUILD.labels for value in label.values or ()))
        return series

    def _resident(self) -> list[set[str]]:
        """The canonical names of each model that the target holds in memory, as far as foreman knows."""
        inventory, key = self._inventory, self._residency.key
        if not inventory.up:
            return []
        digests = {*inventory.listing.loaded, *([] if key is None else [identity_of(key)])}
        models = inventory.listing.models
        return [{name for name, model in models.items() if model.digest == digest} or {digest} for digest in digests]


def _metric(measure: Measure, series: Series, models: Iterable[str]) -> Metric:
    """One metric: every series that its labels allow, at 0 if nothing has happened to it yet."""
    # The library adds `_total` to a counter's name itself.
    metric = Metric(measure.name.removesuffix("_total"), measure.help, measure.kind.value)
    names = [label.name for label in measure.labels]
    values, spreads = series.values.get(measure.name, {}), series.spreads.get(measure.name, {})
    for key in _keys(measure, values, models):
        labels = dict(zip(names, key, strict=True))
        if measure.kind is Kind.HISTOGRAM:
            _add_spread(metric, measure, labels, spreads.get(key))
        else:
            metric.add_sample(measure.name, labels, values.get(key, 0))
    return metric


def _keys(
    measure: Measure, values: Mapping[tuple[str, ...], float], models: Iterable[str]
) -> Iterable[tuple[str, ...]]:
    allowed = [tuple(models) if label is MODEL else label.values for label in measure.labels]
    known = [values for values in allowed if values is not None]
    return product(*known) if len(known) == len(allowed) else values


def _add_spread(metric: Metric, measure: Measure, labels: dict[str, str], spread: Spread | None) -> None:
    bounds = [*map(floatToGoString, measure.buckets), "+Inf"]
    below = 0
    for bound, count in zip(bounds, spread.counts if spread else [0] * len(bounds), strict=True):
        below += count
        metric.add_sample(f"{measure.name}_bucket", {**labels, "le": bound}, below)
    metric.add_sample(f"{measure.name}_sum", labels, spread.total if spread else 0)
    metric.add_sample(f"{measure.name}_count", labels, below)


def _oldest(ledger: Ledger) -> Micros | None:
    """When the oldest job that waits was accepted."""
    queue = ledger.work.queue
    heads = [job for job_class in JobClass if (job := next(queue.heads(job_class), None)) is not None]
    # In the pause after a failed attempt there are few: only what ran can come there, and for half a minute.
    oldest = min([*heads, *queue.resting()], key=lambda job: job.order, default=None)
    return None if oldest is None else oldest.queued_at


def _timestamp(at: Micros | None) -> float:
    return 0 if at is None else at / 1_000_000


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
