"""``osm inject``: what is annotated, what is explained, and what users read when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import factory
import pytest
import yaml
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.cli.templates import TEMPLATES
from app.errors import InjectionError, ObjectError, SettingError
from app.objects.meta import RawObject

RUNNER = CliRunner()
ENABLED = {"openservicemesh.io/sidecar-injection": "enabled"}
MONITORED = {"openservicemesh.io/monitored-by": "osm"}


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "OSM_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def inject(*words: str, objects: list[RawObject]) -> Result:
    return RUNNER.invoke(app, ["inject", "-f", "-", *words], input=yaml.safe_dump_all(objects))


def workload(kind: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> RawObject:
    inner: RawObject = {"spec": {"containers": [{"name": "app", "image": "app:1"}], **spec}}
    if annotations is not None:
        inner["metadata"] = {"annotations": annotations}
    for step in reversed(TEMPLATES[kind]):
        inner = {step: inner}
    inner.setdefault("metadata", {}).update({"name": "web", "namespace": "shop"})
    return {"apiVersion": "any/v1", "kind": kind, **inner}


def namespace(
    labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
) -> RawObject:
    metadata = {"name": "shop", "labels": labels or {}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


# Annotate


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_the_pods_of_each_kind_ask_for_a_sidecar(kind: str) -> None:
    result = inject(objects=[workload(kind, annotations={"mine": "1"})])
    assert result.exit_code == 0, result.output
    expected = workload(kind, annotations={"mine": "1", **ENABLED})
    assert yaml.safe_load(result.stdout) == expected
    assert f"{kind} shop/web: annotated" in result.stderr
    assert "osm namespace add shop" in result.stderr


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(
            workload("Deployment", hostNetwork=True),
            "the Pod is on the network of its host",
            id="host",
        ),
        pytest.param(
            workload("Job", annotations={"openservicemesh.io/sidecar-injection": "disabled"}),
            "the Pod's annotation openservicemesh.io/sidecar-injection is disabled",
            id="own-wish",
        ),
        pytest.param(
            {**workload("Pod"), "metadata": {"name": "web", "namespace": "kube-system"}},
            "namespace kube-system never gets sidecars",
            id="system",
        ),
    ],
)
def test_pods_that_get_no_sidecar_are_left_alone(raw: RawObject, reason: str) -> None:
    result = inject(objects=[raw])
    assert yaml.safe_load(result.stdout) == raw
    assert f"left alone: {reason}" in " ".join(result.stderr.split())


def test_other_objects_pass_in_their_order() -> None:
    objects = [factory.service("shop/web"), workload("Deployment"), namespace(MONITORED)]
    result = inject("-o", "json", objects=objects)
    items = json.loads(result.stdout)["items"]
    assert [item["kind"] for item in items] == ["Service", "Deployment", "Namespace"]
    assert [items[0], items[2]] == [objects[0], objects[2]]


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "1_000", "yes", "12:30", "null", "0x1f", "+1", "~"]
)
def test_texts_stay_texts_for_kubectl(text: str) -> None:
    result = inject(objects=[workload("Deployment", annotations={"value": text})])
    (line,) = [line for line in result.stdout.splitlines() if " value:" in line]
    assert line.split(": ", 1)[1] in (f"'{text}'", f'"{text}"')


def test_a_pod_that_would_be_refused_stops_all_with_its_place() -> None:
    result = inject(
        objects=[
            workload("Deployment"),
            workload("Job", nodeSelector={"kubernetes.io/os": "windows"}),
        ]
    )
    assert isinstance(result.exception, InjectionError)
    assert "standard input:" in str(result.exception)
    assert "Job shop/web: spec.nodeSelector asks for a Windows node" in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("a: [", "standard input:1", id="no-yaml"),
        pytest.param("", "there is no object in -", id="empty"),
        pytest.param("- 1", "is not a Kubernetes object", id="a-list"),
        pytest.param(
            "kind: CronJob\nspec: {jobTemplate: {}}",
            "standard input:1: CronJob has no spec.jobTemplate.spec",
            id="no-template",
        ),
        pytest.param("kind: Pod\nmetadata: []\n", "metadata must be an object", id="metadata"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(text: str, words: str) -> None:
    result = RUNNER.invoke(app, ["inject", "-f", "-"], input=text)
    assert isinstance(result.exception, ObjectError)
    assert words in str(result.exception)


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["inject", "-f", str(tmp_path / "gone.yaml")])
    assert isinstance(result.exception, ObjectError)
    assert "gone.yaml cannot be read" in str(result.exception)


# Explain


def explained(*words: str, objects: list[RawObject]) -> list[dict[str, Any]]:
    result = inject("--explain", "-o", "json", *words, objects=objects)
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def test_an_injected_pod_is_shown_with_all_that_is_added() -> None:
    deployment = workload(
        "Deployment",
        annotations={"openservicemesh.io/outbound-port-exclusion-list": "3306"},
        serviceAccountName="seller",
    )
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["livenessProbe"] = {"httpGet": {"path": "/alive", "port": 8080}}
    container["readinessProbe"] = {"exec": {"command": ["true"]}}
    (found,) = explained(objects=[deployment, namespace(MONITORED, ENABLED)])
    assert (found["outcome"], found["where"]) == ("inject", "standard input:1")
    assert "runs as seller.shop" in found["reasons"][-1]
    assert [(c["name"], c["init"]) for c in found["containers"]] == [
        ("osm-init", True),
        ("envoy", True),
    ]
    assert 15901 in found["containers"][1]["ports"]
    assert found["probes"] == [
        {
            "container": "app",
            "probe": "livenessProbe",
            "before": "http port 8080 /alive",
            "after": "http port 15901 /osm-liveness-probe/app",
        }
    ]
    assert "-A OSM_PROXY_OUTBOUND -p tcp -m multiport --dports 3306 -j RETURN" in found["rules"]


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        pytest.param(namespace(), "namespace shop is not monitored by this mesh", id="no-label"),
        pytest.param(namespace(MONITORED), "is not set, and the Pod has none", id="no-annotation"),
        pytest.param(
            namespace(MONITORED | {"openservicemesh.io/ignore": "true"}, ENABLED),
            "has the label openservicemesh.io/ignore",
            id="ignored",
        ),
    ],
)
def test_the_reason_of_a_skip_is_told(shown: RawObject, reason: str) -> None:
    (found,) = explained(objects=[workload("Deployment"), shown])
    assert found["outcome"] == "skip"
    assert reason in found["reasons"][-1]
    assert found["containers"] == found["rules"] == []


def test_a_refused_pod_is_told_and_makes_the_command_fail() -> None:
    raw = workload("Pod", annotations={"openservicemesh.io/inbound-port-exclusion-list": "x"})
    raw["metadata"]["annotations"] = {"openservicemesh.io/inbound-port-exclusion-list": "x"}
    result = inject("--explain", objects=[raw, namespace(MONITORED, ENABLED)])
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "Pod shop/web (standard input:1): refuse" in text
    assert "inbound-port-exclusion-list: 'x' is not a port" in text


def test_options_describe_namespaces() -> None:
    words = ["--namespace-labels", "openservicemesh.io/monitored-by=other", "--mesh-name", "other"]
    annotation = "openservicemesh.io/sidecar-injection=enabled,openservicemesh.io/metrics=enabled"
    (found,) = explained(
        *words, "--namespace-annotations", annotation, objects=[workload("StatefulSet")]
    )
    assert found["outcome"] == "inject"
    assert "metrics are announced" in found["reasons"][-1]


def test_a_mesh_config_of_the_file_is_in_force() -> None:
    config = factory.mesh_config(sidecar={"mode": "container", "envoyImage": "mine/envoy:1"})
    objects = [config, workload("Deployment"), namespace(MONITORED, ENABLED)]
    (found,) = explained(objects=objects)
    added = {c["name"]: (c["init"], c["image"]) for c in found["containers"]}
    assert added["envoy"] == (False, "mine/envoy:1")


def test_a_namespace_that_nothing_shows_names_the_ways() -> None:
    result = inject("--explain", objects=[workload("Deployment")])
    assert isinstance(result.exception, SettingError)
    assert "nothing shows namespace shop" in str(result.exception)
    assert "--namespace-labels" in str(result.exception)


@pytest.mark.parametrize("text", ["key", "=value"])
def test_an_option_of_another_form_is_refused(text: str) -> None:
    result = inject("--explain", "--namespace-labels", text, objects=[workload("Pod")])
    assert isinstance(result.exception, SettingError)
    assert "write KEY=VALUE" in str(result.exception)
