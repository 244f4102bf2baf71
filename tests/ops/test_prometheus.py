"""A real Prometheus understands foreman, its configuration and its rules, and has data for all the dashboard asks."""

from __future__ import annotations

import json
import math
import re

import pytest

from tests.ops import grafana
from tests.ops.prometheus import INTERVAL, OPS, promtool, put_configuration

#: What stays at 0 on a day like this, and should.
ALWAYS_0 = {
    "Projection lag": "a projection is brought up to date in the commit's own turn of the loop",
    "Starts": "foreman is not started twice while Prometheus looks",
}


def numbers(series: list[dict]) -> list[float]:
    """All values that a graph can show."""
    return [number for one in series for _, value in one["values"] if math.isfinite(number := float(value))]


@pytest.mark.parametrize("check", [("config", "prometheus.yml"), ("rules", "alerts.yml")], ids=lambda check: check[0])
def test_promtool_accepts_what_is_shipped(check):
    status, printed = promtool("check", check[0], OPS / check[1])
    assert status == 0, printed
    assert "SUCCESS" in printed


def test_promtool_accepts_what_the_tests_make_of_it(tmp_path):
    status, printed = promtool("check", "config", put_configuration(tmp_path, "127.0.0.1:1"))
    assert status == 0, printed
    assert INTERVAL not in (tmp_path / "prometheus.yml").read_text("utf-8")


def test_promtool_finds_no_fault_with_the_metrics_of_a_busy_foreman(seen):
    status, printed = promtool("check", "metrics", stdin=seen.exposition)
    assert (status, printed) == (0, "")


def test_promtool_would_find_a_fault_with_the_metrics(seen):
    status, printed = promtool("check", "metrics", stdin=seen.exposition.replace("foreman_starts_total", "x_starts"))
    assert status != 0
    assert "x_starts" in printed


def test_foreman_is_scraped_without_an_error(seen):
    assert [(target["health"], target["lastError"]) for target in seen.targets] == [("up", "")]


def test_every_rule_is_evaluated_without_an_error(seen):
    shipped = re.findall(r"alert: (\w+)", (OPS / "alerts.yml").read_text("utf-8"))
    assert [rule["name"] for rule in seen.rules] == shipped
    assert [rule for rule in seen.rules if rule["health"] != "ok" or rule.get("lastError")] == []


def test_alerts_notice_what_happened_and_nothing_else(seen):
    assert seen.alerts == {"ForemanDown", "ForemanTargetDown", "ForemanTargetStalled", "ForemanWebhooksDead"}


def test_the_variables_of_the_dashboard_offer_what_there_is(seen):
    assert seen.choices["job"] == ["foreman"]
    assert len(seen.choices["instance"]) == 1
    assert seen.choices["model"] == ["a:latest", "b:latest", "other"]


@pytest.mark.parametrize("query", grafana.queries(), ids=lambda query: query.where)
def test_every_query_of_the_dashboard_has_data(seen, query):
    assert numbers(seen.answers[query]), json.dumps(seen.answers[query])


@pytest.mark.parametrize("query", grafana.queries(), ids=lambda query: query.where)
def test_every_graph_shows_what_happened(seen, query):
    quiet = any(title in query.where for title in ALWAYS_0)
    # What is asked for the end of the day only, may be over by then.
    assert any(numbers(seen.answers[query])) or quiet or query.instant
