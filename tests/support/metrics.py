"""The names of the series that the service exposes."""

from __future__ import annotations

import os

from prometheus_client.parser import text_string_to_metric_families

from service.observability.metrics import Metrics, ModelInfo

SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}


def exposed() -> set[str]:
    """Every series at /metrics, those that nothing has been counted for included."""
    metrics = Metrics()
    page, _ = metrics.page("", [metrics.figures()], [ModelInfo("m", 1, "r", 0.1)], [os.getpid()])
    own = {f"{family.name}{end}" for family in metrics.figures() for end in SUFFIXES.get(family.type, [""])}
    named = {sample.name for family in text_string_to_metric_families(page.decode()) for sample in family.samples}
    return own | named
