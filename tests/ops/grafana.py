"""The dashboard as Grafana would read it: its panels, and each query with its variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ops.prometheus import OPS, SCRAPE_S

PATH: Path = OPS / "grafana" / "foreman.json"
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True)
class Query:
    """One expression of the dashboard. `instant` ones are asked for the end of the chosen time only."""

    where: str
    expression: str
    instant: bool = False

    def filled(self, variables: Mapping[str, str], range_s: float) -> str:
        """The expression that Grafana sends."""
        # Grafana's rule, for a graph that is as fine as the scrapes are.
        rate_s = max(2 * SCRAPE_S, 4 * SCRAPE_S)
        values = {"__rate_interval": f"{rate_s}s", "__range": f"{round(range_s)}s", **variables}
        return re.sub(r"\$(\w+)", lambda found: values[found[1]], self.expression)


def dashboard() -> dict[str, Any]:
    """The file."""
    return json.loads(PATH.read_text("utf-8"))


def panels() -> list[dict[str, Any]]:
    """All panels that show something, those of folded rows too."""
    every = [inner for panel in dashboard()["panels"] for inner in (panel, *panel.get("panels", ()))]
    return [panel for panel in every if panel["type"] != "row"]


def variables() -> dict[str, dict[str, Any]]:
    """The variables that are asked of Prometheus, by name and in their order."""
    return {found["name"]: found for found in dashboard()["templating"]["list"] if found["type"] == "query"}


def queries() -> list[Query]:
    """Every expression: of panels, of annotations, and the series that variables take their values from."""
    return [*_of_panels(), *_of_annotations(), *_of_variables()]


def _of_panels() -> Iterator[Query]:
    for panel in panels():
        for target in panel["targets"]:
            yield Query(f"{panel['id']} {panel['title']} {target['refId']}", target["expr"], target["instant"])


def _of_annotations() -> Iterator[Query]:
    for annotation in dashboard()["annotations"]["list"]:
        yield Query(f"annotation {annotation['name']}", annotation["expr"])


def _of_variables() -> Iterator[Query]:
    for name, variable in variables().items():
        found = LABEL_VALUES.fullmatch(variable["query"]["query"])
        assert found is not None
        yield Query(f"variable {name}", f"group by ({found[2]}) ({found[1]})", instant=True)
