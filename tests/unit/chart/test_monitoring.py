"""Alerts and dashboards ask for nothing that no process tells, and Prometheus finds those that do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from freehold.gateway.app import Gateway
from freehold.gateway.metrics import Metrics
from freehold.operations import metrics as control
from freehold.operations.choices import QueueState
from freehold.operations.figures import ClusterFigures, DatabaseFigures, RedisFigures
from freehold.operations.selectors import QueueStatus
from tests.factories import charts
from tests.factories.charts import CHART, pick

DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
RULES = sorted((CHART / "files").glob("alerts-*.yaml"))
NAME = re.compile(r"\bfreehold_[a-z0-9_]+")


def told_by_the_gateway() -> dict[str, set[str]]:
    """Metric → its labels, from a real exposition."""
    numbers = Metrics()
    numbers.answered("/v1/chat/completions", 503, "busy")
    numbers.settled("ok", None)
    gateway = SimpleNamespace(
        metrics=numbers, connections=set(), draining=False, in_flight=0, unready=lambda: "",
        _snapshot=SimpleNamespace(loaded=True, taken_at=0.0, keys={}, routes={}),
        _journal=SimpleNamespace(healthy=True, segment_count=1, sequence=1, synced=1, watermark=1),
        _waiting=(),
        _router=SimpleNamespace(ejected=0, choices={}),
        _admission=SimpleNamespace(online=True),
        _shipper=SimpleNamespace(sent=1), _settings=SimpleNamespace(max_requests=1), _slots=SimpleNamespace(free=1),
    )  # fmt: skip
    found: dict[str, set[str]] = {}
    for line in Gateway.exposition(cast("Gateway", gateway)).decode().splitlines():
        match = re.fullmatch(r"(freehold_\w+)(?:\{(.*)\})? \S+", line)
        if match:
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


def told_by_the_watcher(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Metric → its labels, from what the collector makes of one of everything."""
    queue = SimpleNamespace(queue="default", state=QueueState.HEALTHY, age_seconds=1.0)
    cluster = ClusterFigures(
        name="fra", region="eu", reachable=1, observed_age_seconds=1.0, endpoints={"Ready": 1}, replicas_desired=1,
        replicas_ready=1,
    )  # fmt: skip
    database = DatabaseFigures(
        queues=(cast("QueueStatus", queue),), clusters=(cluster,), reconcile_overdue_seconds=0.0,
        usage_committed_age_seconds=1.0, usage_rejects=0, unposted_hours=0,
    )  # fmt: skip
    monkeypatch.setattr(control, "database_figures", lambda **_: database)
    monkeypatch.setattr(control, "redis_figures", lambda _: RedisFigures({"default": 0}, 0))
    monkeypatch.setattr("freehold.db.connections.release", lambda: None)
    told: dict[str, set[str]] = {}
    for metric in control.ControlPlane().collect():
        told[metric.name] = {label for sample in metric.samples for label in sample.labels}
    return told


def expressions() -> Iterator[tuple[str, str]]:
    """Where and what Prometheus is asked."""
    for file in RULES:
        for rule in yaml.safe_load(file.read_text()):
            yield rule["alert"], rule["expr"]
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{file.stem}: {panel['title']}", target["expr"]


def test_every_metric_that_is_asked_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = told_by_the_gateway() | told_by_the_watcher(monkeypatch)
    for where, expression in expressions():
        names = NAME.findall(expression)
        assert names, where
        for name in names:
            assert name in told, f"{where}: nobody tells {name}"


def test_every_label_that_is_asked_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = told_by_the_gateway() | told_by_the_watcher(monkeypatch)
    added = {"pod", "le", "namespace", "instance", "job"}  # by Prometheus and by histograms
    for where, expression in expressions():
        labels = {label for names in re.findall(r"by \(([^)]*)\)", expression) for label in names.split(", ")}
        labels |= set(re.findall(r"(\w+)[=!]~?\"", expression))
        known = {label for name in NAME.findall(expression) for label in told[name]}
        assert labels <= known | added, where


def test_parentheses_of_expressions_match() -> None:
    for where, expression in expressions():
        for opened, closed in ("()", "{}", "[]"):
            assert expression.count(opened) == expression.count(closed), where


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for file in RULES:
        for rule in yaml.safe_load(file.read_text()):
            assert rule["alert"].startswith("Freehold")
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert {"summary", "description"} == set(rule["annotations"])
            assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


def test_no_two_alerts_or_panels_share_a_name() -> None:
    names = [where for where, _ in expressions() if where.startswith("Freehold")]
    assert len(names) == len(set(names))
    for file in DASHBOARDS:
        identities = [panel["id"] for panel in json.loads(file.read_text())["panels"]]
        assert len(identities) == len(set(identities))


def test_the_rules_are_rendered_as_they_are_written() -> None:
    spec = pick(charts.rendered("monitoring"), "PrometheusRule", "freehold")["spec"]
    written = [yaml.safe_load(file.read_text()) for file in reversed(RULES)]
    assert [group["rules"] for group in spec["groups"]] == written
    assert "{{ $labels.queue }}" in str(spec)


def test_the_dashboards_are_rendered_as_they_are_written() -> None:
    for file in DASHBOARDS:
        name = f"freehold-dashboard-{file.stem.removeprefix('freehold-')}"
        configmap = pick(charts.rendered("monitoring"), "ConfigMap", name)
        assert json.loads(configmap["data"][file.name]) == json.loads(file.read_text())
        assert configmap["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("component", ["gateway", "watcher"])
def test_a_monitor_selects_one_service_with_its_port(component: str) -> None:
    found = charts.rendered("monitoring")
    monitor = pick(found, "ServiceMonitor", f"freehold-{component}")["spec"]
    selector = monitor["selector"]["matchLabels"]
    services = [
        item for item in found if item["kind"] == "Service" and selector.items() <= item["metadata"]["labels"].items()
    ]
    (service,) = services
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["namespaceSelector"] == {"matchNames": [charts.NAMESPACE]}


def test_a_gateway_without_a_control_plane_brings_no_alerts_of_the_control_plane() -> None:
    given: dict[str, Any] = {"monitoring": {"rules": {"enabled": True}, "dashboards": {"enabled": True}}}
    found = charts.objects(charts.values("data-plane-only", **given))
    groups = pick(found, "PrometheusRule", "freehold")["spec"]["groups"]
    assert [group["name"] for group in groups] == ["freehold-gateway"]
    assert not [item for item in found if item["metadata"]["name"].endswith("dashboard-control-plane")]
