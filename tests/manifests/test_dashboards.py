"""Dashboards ask for metrics that exist and are kept, and hold together."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dashboards import choices, expressions, load_dashboards, metric_names
from prometheus_server import OBSERVABILITY, shipped_config

from app.metrics import Metrics

DASHBOARDS = load_dashboards()
OF_SIDECARS = {
    "osm_request_total",
    *(f"osm_request_duration_ms_{part}" for part in ("bucket", "count", "sum")),
}
CASES = [pytest.param(found, id=name) for name, found in DASHBOARDS.items()]


def of_the_controller() -> set[str]:
    """Every name on the metrics page of a control plane that has counted everything once."""
    metrics = Metrics()
    found = {counter.name for counter in metrics._counters}
    for family in metrics.registry.collect():
        parts = ("_bucket", "_count", "_sum") if family.type == "histogram" else ("",)
        found |= {f"{family.name}{part}" for part in parts if family.type != "counter"}
    return found


def kept(job: str) -> re.Pattern[str]:
    (found,) = [one for one in shipped_config()["scrape_configs"] if one["job_name"] == job]
    (rule,) = [one for one in found["metric_relabel_configs"] if one.get("action") == "keep"]
    return re.compile(rule["regex"])


def test_there_are_seven() -> None:
    assert sorted(DASHBOARDS) == [
        "osm-control-plane",
        "osm-data-plane-performance",
        "osm-mesh-envoy-details",
        "osm-pod-to-service",
        "osm-service-to-service",
        "osm-workload-to-service",
        "osm-workload-to-workload",
    ]


@pytest.mark.parametrize("dashboard", CASES)
def test_metrics_exist_and_are_kept(dashboard: dict[str, Any]) -> None:
    ours = of_the_controller() | OF_SIDECARS
    pods, containers = kept("kubernetes-pods"), kept("kubernetes-cadvisor")
    asked = [expression for panel in dashboard["panels"] for expression in expressions(panel)]
    for expression in [*asked, *(choice.selector for choice in choices(dashboard))]:
        names = metric_names(expression)
        assert names
        for name in names:
            is_ours = name in ours and bool(pods.fullmatch(name))
            is_of_envoy = name.startswith("envoy_") and bool(pods.fullmatch(name))
            assert is_ours or is_of_envoy or containers.fullmatch(name), name


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        pytest.param('sum(rate(a_b{c="d{e"}[1m]))', {"a_b"}, id="selector"),
        pytest.param("sum by (le, x) (rate(a[1m])) / b", {"a", "b"}, id="grouped"),
        pytest.param("histogram_quantile(0.5, a)", {"a"}, id="function"),
    ],
)
def test_names_of_metrics_are_found(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


@pytest.mark.parametrize("dashboard", CASES)
def test_every_variable_is_one_of_the_dashboard(dashboard: dict[str, Any]) -> None:
    known: set[str] = set()
    for choice in choices(dashboard):
        assert set(re.findall(r"\$(\w+)", choice.selector)) <= known
        known.add(choice.name)
    used = {
        name
        for panel in dashboard["panels"]
        for expression in expressions(panel)
        for name in re.findall(r"\$(\w+)", expression)
    }
    assert used == known


@pytest.mark.parametrize("dashboard", CASES)
def test_panels_stand_side_by_side(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    places = [
        (panel["gridPos"]["x"] + right, panel["gridPos"]["y"] + down)
        for panel in panels
        for right in range(panel["gridPos"]["w"])
        for down in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def test_names_are_unique_and_lead_to_our_prometheus() -> None:
    assert [found["uid"] for found in DASHBOARDS.values()] == list(DASHBOARDS)
    assert len({found["title"] for found in DASHBOARDS.values()}) == len(DASHBOARDS)
    assert "uid: osm-prometheus" in (OBSERVABILITY / "grafana-config.yaml").read_text()
    for dashboard in DASHBOARDS.values():
        for part in (*dashboard["panels"], *dashboard["templating"]["list"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "osm-prometheus"}
