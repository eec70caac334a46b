"""What `deploy/monitoring` asks Prometheus for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.support.server import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "kernelscope.json"


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that show something."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    """Each query of the dashboard, with its panel's title."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def rules() -> Iterator[dict[str, Any]]:
    """Each rule, as it stands in rules.yml."""
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]:
        yield from group["rules"]


def series(expression: str) -> set[str]:
    """The names of the series in a query."""
    return set(re.findall(r"\b(?:kernelscope[_:]|process_)[\w:]+|\bup\b", re.sub(r'"[^"]*"', "", expression)))
