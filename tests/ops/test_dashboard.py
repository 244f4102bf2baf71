"""The dashboard is one that Grafana takes and people can read, and it names what foreman exports."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from foreman.metrics.table import SOURCES
from foreman.projections.measures import Kind
from tests.ops import grafana
from tests.ops.prometheus import OPS

DASHBOARD = grafana.dashboard()
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
FILES = (grafana.PATH, OPS / "alerts.yml", OPS.parent / "docs" / "how-to" / "scrape-with-prometheus.md")
MEASURES = [measure for measures in SOURCES.values() for measure in measures]
HISTOGRAMS = {measure.name for measure in MEASURES if measure.kind is Kind.HISTOGRAM}
OF_HISTOGRAMS = {name + part for name in HISTOGRAMS for part in ("_bucket", "_sum", "_count")}
UNUSED = {
    "process_virtual_memory_bytes": "says nothing of what the process uses",
    "python_info": "foreman_build_info names the version too",
}


def panel_name(panel: dict) -> str:
    return f"{panel['id']} {panel['title']}"


def named(text: str) -> set[str]:
    """The metrics that a text names."""
    return set(re.findall(r"\b(?:foreman|process|python)_[a-z_]+\b", text))


def test_the_file_has_what_an_import_needs():
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", DASHBOARD["uid"])
    assert "id" not in DASHBOARD
    assert DASHBOARD["schemaVersion"] >= 38
    assert DASHBOARD["refresh"] == "30s"
    required = {need["id"] for need in DASHBOARD["__requires"] if need["type"] == "panel"}
    assert required == {panel["type"] for panel in grafana.panels()}


def test_panels_have_ids_of_their_own():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_lie_beside_each_other_and_within_the_page():
    places = [(panel["title"], panel["gridPos"]) for panel in DASHBOARD["panels"]]
    assert [title for title, at in places if at["x"] < 0 or at["x"] + at["w"] > 24] == []
    assert [(one, other) for (one, a), (other, b) in combinations(places, 2) if overlap(a, b)] == []


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not beside and not above


@pytest.mark.parametrize("panel", grafana.panels(), ids=panel_name)
def test_panel_says_what_it_shows_and_in_which_unit(panel):
    assert len(panel["description"]) > 30
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]


@pytest.mark.parametrize("panel", grafana.panels(), ids=panel_name)
def test_panel_asks_the_chosen_data_source_for_the_chosen_foreman(panel):
    assert panel["datasource"] == DATA_SOURCE
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(set(references)) == len(references)
    for target in panel["targets"]:
        assert target["datasource"] == DATA_SOURCE
        found = re.findall(r"\b((?:foreman|process)_\w+)(\{[^}]*\})?", target["expr"])
        assert found
        assert [metric for metric, selector in found if 'job="$job",instance="$instance"' not in selector] == []


@pytest.mark.parametrize("panel", grafana.panels(), ids=panel_name)
def test_lines_of_a_graph_have_names(panel):
    if panel["type"] != "stat":
        assert all(target["legendFormat"] for target in panel["targets"])


def test_variables_and_annotations_ask_the_chosen_data_source():
    (chosen,) = [found for found in DASHBOARD["templating"]["list"] if found["type"] == "datasource"]
    assert (chosen["name"], chosen["query"]) == ("datasource", "prometheus")
    asking = [*grafana.variables().values(), *DASHBOARD["annotations"]["list"]]
    assert [found["name"] for found in asking if found["datasource"] != DATA_SOURCE] == []


def test_every_metric_is_used_or_left_out_for_a_reason(seen):
    exported = set(re.findall(r"^# TYPE (\S+) ", seen.exposition, re.MULTILINE))
    used = {re.sub(r"_(bucket|sum|count)$", "", name) if name in OF_HISTOGRAMS else name for name in in_use()}
    assert exported - used == set(UNUSED)


def in_use() -> set[str]:
    """What the queries of the dashboard and of the alerts name."""
    queries = " ".join(query.expression for query in grafana.queries())
    expressions = re.findall(r"^ +expr: (.*)$", (OPS / "alerts.yml").read_text("utf-8"), re.MULTILINE)
    return named(" ".join([queries, *expressions]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(seen, path):
    samples = {line.split("{")[0].split(" ")[0] for line in seen.exposition.splitlines() if not line.startswith("#")}
    assert named(path.read_text("utf-8")) - samples == set()
