"""Each alert fires when it should and does not when it should not, and says what to do.

That the cases in ops/alerts_test.yml show this is itself tested: with an alert that is broken, promtool must fail.
"""

from __future__ import annotations

import re
import shutil

import pytest

from tests.docs.test_code_blocks import anchors
from tests.ops.prometheus import OPS, promtool

ALERTS = (OPS / "alerts.yml").read_text("utf-8")
#: Each alert's own lines.
RULES = {rule.split("\n", 1)[0]: rule for rule in ALERTS.split("      - alert: ")[1:]}
WAITING = [name for name, rule in RULES.items() if "\n        for: " in rule]


def outcome(tmp_path, name: str, pattern: str, replacement: str) -> tuple[int, str]:
    """What `promtool test rules` says when one thing of one alert is other than it is shipped."""
    changed, times = re.subn(pattern, replacement, RULES[name], flags=re.MULTILINE)
    assert times == 1
    shutil.copy(OPS / "alerts_test.yml", tmp_path)
    (tmp_path / "alerts.yml").write_text(ALERTS.replace(RULES[name], changed), "utf-8")
    return promtool("test", "rules", tmp_path / "alerts_test.yml")


def failed(printed: str, name: str, expected: str) -> bool:
    """Whether promtool complains of the alert where so many were expected: `none` or `one`."""
    after = r"\]" if expected == "none" else r"\s*0:"
    return re.search(rf"alertname: {name}, time: \w+,\s+exp:\[{after}", printed) is not None


def test_the_alerts_do_what_their_cases_say():
    status, printed = promtool("test", "rules", OPS / "alerts_test.yml")
    assert status == 0, printed


@pytest.mark.parametrize("name", RULES)
def test_alert_that_never_fires_is_noticed(tmp_path, name):
    status, printed = outcome(tmp_path, name, r"^        expr: .*$", "        expr: vector(1) < 0")
    assert status != 0
    assert failed(printed, name, "one"), printed


@pytest.mark.parametrize("name", RULES)
def test_alert_that_always_fires_is_noticed(tmp_path, name):
    status, printed = outcome(tmp_path, name, r"^        expr: .*$", "        expr: vector(1)")
    assert status != 0
    assert failed(printed, name, "none"), printed


@pytest.mark.parametrize("name", WAITING)
def test_alert_that_does_not_wait_is_noticed(tmp_path, name):
    status, printed = outcome(tmp_path, name, r"^        for: .*\n", "")
    assert status != 0
    assert failed(printed, name, "none"), printed


@pytest.mark.parametrize("name", RULES)
def test_alert_says_how_bad_it_is_where_and_what_to_do(name):
    rule = RULES[name]
    assert re.search(r"^        labels: \{severity: (critical|warning)\}$", rule, re.MULTILINE)
    assert re.search(r"^          summary: .*\{\{ \$labels\.instance \}\}", rule, re.MULTILINE)
    assert re.search(r"^          description: \w.*\.$", rule, re.MULTILINE)


@pytest.mark.parametrize("name", RULES)
def test_alert_leads_to_a_heading_of_its_own(name):
    (page, anchor) = re.findall(r"^          runbook: (\S+)#(\S+)$", RULES[name], re.MULTILINE)[0]
    assert anchor == name.lower()
    assert anchor in anchors(OPS.parent / page)
