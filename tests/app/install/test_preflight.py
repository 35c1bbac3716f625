"""What stands against an installation, by facts of the cluster."""

from __future__ import annotations

from typing import Any

import factory
import pytest
from fakes.cluster import FakeCluster

from app.install.meshes import Mesh
from app.install.overrides import parse_values
from app.install.preflight import Facts, converted_crds, obstacles, read_facts
from app.install.render import Installation
from app.objects.meta import RawObject
from app.ports import ServerVersion

OLD = ServerVersion(major=1, minor=20, text="v1.20.2")
NOW = ServerVersion(major=1, minor=31, text="v1.31.0")
OURS = Mesh(name="osm", namespace="osm-system", is_alone=True)
OTHER = Mesh(name="other", namespace="elsewhere")


def installation(*texts: str) -> Installation:
    values = parse_values(texts).values
    return Installation(values=values, namespace="osm-system", version="2.0.0")


@pytest.mark.parametrize(
    ("facts", "texts", "found"),
    [
        pytest.param({}, (), "", id="empty-cluster"),
        pytest.param(
            {"server": ServerVersion(major=1, minor=20, text="v1.20.2")}, (), "", id="old"
        ),
        pytest.param(
            {"server": ServerVersion(major=1, minor=19, text="v1.19.9")},
            (),
            "the cluster runs Kubernetes v1.19.9; upgrade it to 1.20 or later",
            id="too-old",
        ),
        pytest.param(
            {"meshes": (OURS,)},
            (),
            (
                "namespace osm-system already holds mesh [osm] in namespace [osm-system]; change "
                "it with `osm mesh upgrade --mesh-name osm`, or remove it with `osm uninstall mesh`"
            ),
            id="installed-already",
        ),
        pytest.param(
            {"meshes": (Mesh(name="osm", namespace="osm-system", is_original=True),)},
            (),
            (
                "namespace osm-system already holds mesh [osm] in namespace [osm-system]; it is an "
                "original OSM: `osm mesh upgrade --mesh-name osm` takes it over and keeps its "
                "settings"
            ),
            id="original",
        ),
        pytest.param(
            {"meshes": (Mesh(name="alone", namespace="elsewhere", is_alone=True),)},
            ("osm.enforceSingleMesh=false",),
            (
                "mesh [alone] in namespace [elsewhere] was installed to be the only one of the "
                "cluster; uninstall it, or install it anew with --no-enforce-single-mesh"
            ),
            id="another-insists-on-being-alone",
        ),
        pytest.param(
            {"meshes": (OTHER,)},
            (),
            (
                "the cluster already has mesh [other] in namespace [elsewhere]; add "
                "--no-enforce-single-mesh to let them share it"
            ),
            id="we-insist-on-being-alone",
        ),
        pytest.param(
            {"meshes": (OTHER,)}, ("osm.enforceSingleMesh=false",), "", id="two-that-share"
        ),
        pytest.param(
            {"meshes": (OTHER,)},
            ("osm.enforceSingleMesh=false,osm.meshName=other",),
            "there is a mesh named other in another namespace; choose another --mesh-name",
            id="same-name",
        ),
        pytest.param(
            {"namespace_labels": {"openservicemesh.io/monitored-by": "old"}},
            (),
            (
                "namespace osm-system is a member of mesh old, so the control plane's own Pods "
                "would get sidecars; osm namespace remove osm-system --mesh-name old"
            ),
            id="namespace-is-a-member",
        ),
        pytest.param({"namespace_labels": {"a": "b"}}, (), "", id="namespace-exists"),
        pytest.param(
            {"converted_crds": ("traffictargets.access.smi-spec.io",)},
            (),
            (
                "another product's webhook converts traffictargets.access.smi-spec.io; remove that "
                "product, or its webhook from spec.conversion of these definitions"
            ),
            id="foreign-conversion",
        ),
    ],
)
def test_obstacles(facts: dict[str, Any], texts: tuple[str, ...], found: str) -> None:
    given = Facts(**{"server": NOW, **facts})
    assert "\n".join(map(str, obstacles(given, installation(*texts)))) == found


def definition(name: str, group: str, conversion: RawObject | None) -> RawObject:
    spec = {"group": group, **({} if conversion is None else {"conversion": conversion})}
    return factory.raw("CustomResourceDefinition", name, api="apiextensions.k8s.io/v1", spec=spec)


def webhook(**client: Any) -> RawObject:
    return {"strategy": "Webhook", "webhook": {"clientConfig": client}}


def test_only_foreign_webhooks_of_smi_kinds_count() -> None:
    smi = "split.smi-spec.io"
    crds = [
        definition("plain", smi, None),
        definition("none", smi, {"strategy": "None"}),
        definition("original", smi, webhook(service={"name": "osm-bootstrap"})),
        definition("service", smi, webhook(service={"name": "flagger"})),
        definition("by-url", smi, webhook(url="https://x")),
        definition("not-smi", "example.com", webhook(url="https://x")),
    ]
    assert converted_crds(crds) == ("by-url", "service")


def test_facts_are_read_from_the_cluster() -> None:
    labels = {"app": "osm-controller", "meshName": "osm", "enforceSingleMesh": "true"}
    cluster = FakeCluster(
        factory.raw("Namespace", "osm-system", meta={"labels": {"a": "b"}}),
        factory.raw(
            "Deployment", "osm-system/osm-controller", api="apps/v1", meta={"labels": labels}
        ),
        version=(1, 20),
    )
    assert read_facts(cluster, "osm-system") == Facts(
        server=ServerVersion(major=1, minor=20, text="v1.20.0"),
        meshes=(OURS,),
        namespace_labels={"a": "b"},
    )
    assert read_facts(cluster, "other").namespace_labels is None
