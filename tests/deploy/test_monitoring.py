"""What deploy/monitoring asks for must be what the service has; test_prometheus.py asks a real Prometheus."""

from __future__ import annotations

import yaml

from service.observability.metrics import Metrics
from tests.support.metrics import exposed
from tests.support.monitoring import DASHBOARD, FOLDER, panels, queries, rules, series
from tests.support.server import ROOT


def test_every_series_that_is_asked_for_is_exposed() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [("dashboard", expression) for _, expression in queries()]
    asked += [(rule.get("alert", rule.get("record", "")), rule["expr"]) for rule in rules()]
    there = exposed() | recorded | {"up"}
    assert {(who, name) for who, expression in asked for name in series(expression) if name not in there} == set()
    assert all(series(expression) for _, expression in asked)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(expression for _, expression in queries())
    assert [family.name for family in Metrics().figures() if family.name not in shown] == []


def test_every_alert_is_tested_and_explained() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    tested = yaml.safe_load((FOLDER / "rules.test.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tested for one in test["alert_rule_test"] if one.get("exp_alerts")}
    silent = {one["alertname"] for test in tested for one in test["alert_rule_test"] if not one.get("exp_alerts")}
    assert fired == silent == alerts
    page = (ROOT / "docs" / "operating.md").read_text()
    assert [alert for alert in alerts if f"`{alert}`" not in page] == []


def test_compose_mounts_what_is_there() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    monitoring = {name: service for name, service in compose.items() if service.get("profiles") == ["monitoring"]}
    assert set(monitoring) == {"prometheus", "grafana"}
    for service in monitoring.values():
        mounts = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith(".")]
        assert mounts
        assert all((ROOT / folder).is_dir() for folder in mounts)
    scrape = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (target,) = scrape["scrape_configs"][0]["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert compose[name]["ports"][0].endswith(f":{port}")
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/kernelscope.yml").read_text())["providers"][0]
    folder = provider["options"]["path"]
    assert f"./{DASHBOARD.parent.relative_to(ROOT)}:{folder}:ro" in compose["grafana"]["volumes"]
