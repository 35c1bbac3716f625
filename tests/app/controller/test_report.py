from __future__ import annotations

import io
import json

import factory

from app import logs
from app.controller.report import SnapshotReport
from app.metrics import Metrics


def test_snapshot_is_told_once_per_change() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    metrics = Metrics()
    report = SnapshotReport(metrics)
    broken = factory.traffic_target("shop/broken", to="store", sources=["buyer.shop"], groups=["x"])
    accounts = [factory.account(f"shop/{name}") for name in ("store", "buyer")]
    snapshot = factory.snapshot(factory.namespace("shop"), *accounts, broken)
    report.tell(snapshot)
    report.tell(snapshot)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["message"], line["component"], line["where"]) for line in lines] == [
        ("not in force", "mesh", "TrafficTarget shop/broken")
    ]
    page = metrics.render().decode()
    assert "osm_rejected_objects 1.0" in page
    assert "osm_resource_namespace_count 1.0" in page
    assert 'osm_feature_flag_enabled{feature_flag="enableWASMStats"} 0.0' in page


def test_log_level_follows_mesh_config() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    report = SnapshotReport(Metrics())
    for level in ("error", "debug"):
        report.tell(factory.snapshot(factory.mesh_config(observability={"osmLogLevel": level})))
        logs.logger("test").info(level)
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["debug"]
