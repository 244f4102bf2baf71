"""What a scraper gets: each metric once with all its series, in the format it asks for, and never many of them."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from foreman.api.server import ENDPOINTS
from foreman.metrics.exporter import Exporter
from foreman.metrics.meters import Meters
from foreman.metrics.table import SOURCES, STATUSES
from foreman.projections.measures import Kind
from foreman.scheduling.promises import Promises
from foreman.target.client import Target, TargetAddress
from foreman.target.inventory import Inventory
from foreman.target.residency import Residency
from tests import reckoning
from tests.core import opened, submit

MEASURES = [measure for measures in SOURCES.values() for measure in measures]
PARSERS = {
    "text/plain": text_string_to_metric_families,
    "application/openmetrics-text": openmetrics.text_string_to_metric_families,
}
UNITS = ("_seconds", "_bytes", "_total", "_info", "_events", "_position", "_ratio")
#: What counts things has no unit.
COUNTS = {"_queued", "_running", "_up", "_resident", "_avoided", "_pending", "_dead"}


@asynccontextmanager
async def exporting(folder):
    """A core and its exporter; nobody asks the target for anything."""
    async with opened(folder) as core:
        target = Target(TargetAddress(url="http://127.0.0.1:1"))
        meters = Meters(core.clock, ENDPOINTS)
        core.ledger.on_commit.append(meters.committed)
        inventory, residency = Inventory(target, core.clock, 1.0), Residency(core.clock)
        yield core, Exporter(core.ledger, core.database, inventory, residency, meters, Promises())
        await target.close()


async def text_of(exporter: Exporter) -> str:
    """A scrape in the format that every Prometheus reads."""
    body, content_type = await exporter.render("")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    return body.decode()


def samples(text: str) -> list:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


async def test_every_metric_is_written_with_its_type_and_meaning(tmp_path):
    async with exporting(tmp_path) as (_, exporter):
        families = {family.name: family for family in text_string_to_metric_families(await text_of(exporter))}
    for measure in MEASURES:
        family = families[measure.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (measure.kind, measure.help)
        assert family.samples


async def test_known_series_are_there_at_zero_before_anything_happens(tmp_path):
    async with exporting(tmp_path) as (_, exporter):
        text = await text_of(exporter)
    assert reckoning.of_text(text) == {name: {} for name in reckoning.QUERIES}
    requeues = [sample for sample in samples(text) if sample.name == "foreman_job_requeues_total"]
    assert {sample.labels["reason"]: sample.value for sample in requeues} == {
        "connection": 0, "unreachable": 0, "interrupted": 0}  # fmt: skip


async def test_two_hundred_models_stay_under_a_thousand_series(tmp_path):
    async with exporting(tmp_path) as (core, exporter):
        await core.do(*(submit(model=f"m{number}", load_key=f"m{number}") for number in range(200)))
        found = samples(await text_of(exporter))
    keys = [(sample.name, *sorted(sample.labels.items())) for sample in found]
    assert len(keys) == len(set(keys))
    assert len(keys) < 1_000
    submitted = {s.labels["model"]: s.value for s in found if s.name == "foreman_jobs_submitted_total" and s.value}
    assert (len(submitted), submitted["m39:latest"], submitted["other"]) == (41, 1, 160)


async def test_odd_names_of_models_are_escaped(tmp_path):
    odd = 'a"b\\c\nd{e="f"} 1'
    async with exporting(tmp_path) as (core, exporter):
        await core.submitted(model=odd)
        assert {sample.labels.get("model") for sample in samples(await text_of(exporter))} >= {f"{odd}:latest", "other"}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain;version=0.0.4;q=0.5", "text/plain"),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
        ("application/openmetrics-text; version=abc", "text/plain"),
        ("text/plain; version=one", "text/plain"),
        ("nonsense;;==,", "text/plain"),
    ],
)
async def test_the_format_is_the_one_that_the_scraper_prefers(tmp_path, accept, kind):
    async with exporting(tmp_path) as (core, exporter):
        await core.submitted()
        body, content_type = await exporter.render(accept)
    assert content_type.partition(";")[0] == kind
    parse = PARSERS[kind]
    assert "foreman_jobs_submitted" in {family.name for family in parse(body.decode())}


async def test_nothing_says_when_a_counter_was_made(tmp_path):
    async with exporting(tmp_path) as (core, exporter):
        await core.submitted()
        body, _ = await exporter.render("application/openmetrics-text;version=1.0.0")
        assert "_created" not in body.decode() + await text_of(exporter)


async def test_what_the_process_measures_is_written_as_it_was_told(tmp_path):
    async with exporting(tmp_path) as (core, exporter):
        await core.submitted()
        exporter._meters.answered("/jobs", "POST", 202, 0.004)
        found = {(s.name, *sorted(s.labels.values())): s.value for s in samples(await text_of(exporter))}
    assert found["foreman_commit_seconds_count",] == 1
    assert found["foreman_http_requests_total", "/jobs", "2xx", "POST"] == 1
    assert found["foreman_http_request_seconds_bucket", "0.0025", "foreman"] == 0
    assert found["foreman_http_request_seconds_bucket", "0.005", "foreman"] == 1


async def test_a_status_that_http_does_not_know_makes_no_series(tmp_path):
    async with exporting(tmp_path) as (_, exporter):
        exporter._meters.answered("/api/chat", "POST", 999, 0.004)
        found = [sample for sample in samples(await text_of(exporter)) if sample.name == "foreman_http_requests_total"]
    assert {sample.labels["status"] for sample in found} == set(STATUSES)
    (counted,) = [sample.labels for sample in found if sample.value]
    assert counted == {"route": "/api/chat", "method": "POST", "status": "5xx"}


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_names_follow_the_rules_of_prometheus(measure):
    assert re.fullmatch(r"foreman(_[a-z]+)+", measure.name)
    assert (measure.kind is Kind.COUNTER) == measure.name.endswith("_total")
    assert measure.name.endswith(UNITS) or f"_{measure.name.rpartition('_')[2]}" in COUNTS
    assert measure.help.endswith(".")
    assert all(re.fullmatch(r"[a-z_]+", label.name) and label.name != "le" for label in measure.labels)


def test_no_two_metrics_share_a_name():
    names = [measure.name for measure in MEASURES]
    assert len(names) == len(set(names))
