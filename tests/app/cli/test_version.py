"""``osm version`` and ``osm env`` without a mesh."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from app.cli.main import app
from app.cli.mesh import supported

RELEASE = version("openservicemesh")


def test_the_command_knows_its_own_version() -> None:
    result = CliRunner().invoke(app, ["version", "--client-only"])
    assert result.stdout == f"CLI version {RELEASE}\n"
    result = CliRunner().invoke(app, ["version", "--client-only", "-o", "json"])
    assert json.loads(result.stdout) == {"client": RELEASE, "meshes": []}


def test_the_settings_of_the_command_are_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("install: {kind: managed, distribution: AKS, namespace: kube-system}")
    monkeypatch.setenv("OSM_CONFIG", str(config))
    result = CliRunner().invoke(app, ["env"])
    assert result.stdout.startswith("---\n")
    assert yaml.safe_load(result.stdout) == {
        "install": {"kind": "managed", "distribution": "AKS", "namespace": "kube-system"}
    }


def test_supported_kinds_are_sorted() -> None:
    answer = {"TrafficTarget": "access.smi-spec.io/v1alpha3", "HTTPRouteGroup": "x/v1"}
    assert supported(answer) == ["HTTPRouteGroup:x/v1", "TrafficTarget:access.smi-spec.io/v1alpha3"]
    assert supported(None) == ["Unknown"]
