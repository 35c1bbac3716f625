"""What an upgrade keeps of a running mesh, of whoever installed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import factory
import pytest
import yaml
from fakes.cluster import FakeCluster

from app.install.meshes import Mesh
from app.install.takeover import (
    Running,
    in_removal_order,
    in_two_steps,
    kept_values,
    leaves,
    obsolete_refs,
    original_refs,
    parse_options,
    read_running,
    running,
    upgraded_values,
)
from app.objects.meta import ObjectRef, RawObject

MESH = Mesh(name="osm", namespace="osm-system")
ORIGINAL = Mesh(name="osm", namespace="osm-system", version="v1.2.4", is_original=True)
INSTALLED = yaml.safe_load((Path(__file__).parents[1] / "cli" / "original.yaml").read_text())[
    "items"
]
DEPLOYMENTS = [raw for raw in INSTALLED if raw["kind"] == "Deployment"]


@pytest.mark.parametrize(
    ("args", "options"),
    [
        pytest.param([], {}, id="none"),
        pytest.param(["--a=1", "--b=x=y"], {"a": "1", "b": "x=y"}, id="in-one-word"),
        pytest.param(["--a", "1", "--b", "2"], {"a": "1", "b": "2"}, id="in-two-words"),
        pytest.param(["--a", "--b", "2", "3"], {"a": "", "b": "2"}, id="switch"),
        pytest.param(["--a=1", "2"], {"a": "1"}, id="stray-word"),
    ],
)
def test_options_are_read_in_both_forms(args: list[str], options: dict[str, str]) -> None:
    assert parse_options(args) == options


def test_an_original_is_known_by_all_its_deployments() -> None:
    found = running(ORIGINAL, DEPLOYMENTS)
    assert (found.replicas, found.is_alone, found.release) == (2, True, "osm")
    assert kept_values(found) == {
        "osm": {
            "meshName": "osm",
            "osmNamespace": "osm-system",
            "enforceSingleMesh": True,
            "trustDomain": "shop.example",
            "caBundleSecretName": "osm-ca-bundle",
            "certificateProvider": {"kind": "tresor"},
            "validatorWebhook": {"webhookConfigurationName": "osm-validator-mesh-osm"},
            "webhookConfigNamePrefix": "osm-webhook",
            "osmController": {"replicaCount": 2},
        }
    }


def test_running_deployments_are_read_from_the_cluster() -> None:
    cluster = FakeCluster(*DEPLOYMENTS, factory.raw("Deployment", "osm-system/x", api="apps/v1"))
    assert read_running(cluster, ORIGINAL) == running(ORIGINAL, DEPLOYMENTS)


@pytest.mark.parametrize(
    ("replicas", "kept"),
    [
        pytest.param(1, {}, id="one-is-the-default"),
        pytest.param(0, {}, id="none"),
        pytest.param(3, {"osmController": {"replicaCount": 3}}, id="some"),
        pytest.param(11, {}, id="more-than-a-value-may-say"),
    ],
)
def test_replicas_are_kept_where_somebody_scaled(replicas: int, kept: dict[str, Any]) -> None:
    assert kept_values(Running(mesh=MESH, replicas=replicas)) == {
        "osm": {"meshName": "osm", "osmNamespace": "osm-system", "enforceSingleMesh": True, **kept}
    }


KEPT = {"osm": {"meshName": "osm", "trustDomain": "a"}}
PREVIOUS = {"osm": {"meshName": "osm", "image": {"tag": "1", "registry": "r"}}}
GIVEN = {"osm": {"image": {"tag": "2"}}}


@pytest.mark.parametrize(
    ("reuse", "values", "dropped"),
    [
        pytest.param(
            False,
            {"osm": {"meshName": "osm", "trustDomain": "a", "image": {"tag": "2"}}},
            ("osm.image.registry",),
            id="anew",
        ),
        pytest.param(
            True,
            {
                "osm": {
                    "meshName": "osm",
                    "trustDomain": "a",
                    "image": {"tag": "2", "registry": "r"},
                }
            },
            (),
            id="reused",
        ),
    ],
)
def test_values_of_the_next_release(
    reuse: bool, values: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    assert upgraded_values(KEPT, PREVIOUS, GIVEN, reuse=reuse) == (values, dropped)


def test_leaves_are_named_by_their_path() -> None:
    assert list(leaves({"a": {"b": 1, "c": [1, 2]}, "d": {}})) == ["a.b", "a.c"]


def service(name: str) -> RawObject:
    return factory.raw("Service", f"osm-system/{name}")


def test_services_of_the_originals_webhooks_are_turned_over_last() -> None:
    objects = [service(name) for name in ("osm-controller", "osm-injector", "osm-validator")]
    assert in_two_steps(MESH, objects) == (objects, [])
    assert in_two_steps(ORIGINAL, objects) == (objects[:1], objects[1:])


def test_what_only_an_original_has_is_obsolete() -> None:
    cluster = FakeCluster(*INSTALLED)
    account = ObjectRef(api_version="v1", kind="ServiceAccount", namespace="osm-system", name="osm")
    found = obsolete_refs(cluster, running(ORIGINAL, DEPLOYMENTS), [account])
    assert {ref for ref in found if cluster.get(ref.kind, ref.name, ref.namespace)} == {
        ObjectRef(api_version="apps/v1", kind="Deployment", namespace="osm-system", name=name)
        for name in ("osm-injector", "osm-bootstrap")
    } | {
        ObjectRef(
            api_version="autoscaling/v1",
            kind="HorizontalPodAutoscaler",
            namespace="osm-system",
            name="osm-injector-hpa",
        ),
        ObjectRef(
            api_version="v1",
            kind="Secret",
            namespace="osm-system",
            name="sh.helm.release.v1.osm.v1",
        ),
        *(
            ObjectRef(api_version="rbac.authorization.k8s.io/v1", kind=kind, name="osm")
            for kind in ("ClusterRole", "ClusterRoleBinding")
        ),
    }
    assert account not in found


def test_what_an_original_is_known_by_is_removed_last() -> None:
    refs = list(original_refs(running(ORIGINAL, DEPLOYMENTS)))
    order = in_removal_order(refs)
    assert sorted(order) == sorted(refs)
    assert [ref.name for ref in order if ref.kind == "Deployment"] == [
        "osm-injector", "osm-bootstrap"
    ]  # fmt: skip
    assert {ref.kind for ref in order[-2:]} == {"Deployment"}


def test_nothing_of_ours_is_obsolete() -> None:
    assert obsolete_refs(FakeCluster(*INSTALLED), Running(mesh=MESH), []) == ()


def test_a_release_of_helm_has_a_name_of_its_own() -> None:
    found = Running(mesh=ORIGINAL, options={"osm-service-account": "my-osm"})
    names = {ref.name for ref in original_refs(found) if ref.kind == "ClusterRole"}
    assert names == {"my-osm", "my-osm-preinstall", "my-osm-cleanup"}
