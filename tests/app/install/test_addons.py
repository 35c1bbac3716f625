"""Prometheus, Grafana and Jaeger: rendered where somebody wants them, with the values for them."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import factory
import pytest
import yaml
from fakes.cluster import FakeCluster

from app.errors import SettingError
from app.install.addons import addon_of
from app.install.manifests import Manifests, load_manifests
from app.install.meshes import Mesh
from app.install.overrides import parse_values
from app.install.remove import remove_mesh
from app.install.render import Dialect, Installation, render
from app.install.takeover import upgraded_values

MANIFESTS = Path(__file__).parents[3] / "manifests"
VERSION = version("openservicemesh")
ALL = "osm.deployPrometheus=true,osm.deployGrafana=true,osm.deployJaeger=true"
WORKLOADS = ("osm-prometheus", "osm-grafana", "jaeger")


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return load_manifests(MANIFESTS)


def rendered(manifests: Manifests, *texts: str, release: str = VERSION) -> Any:
    values = parse_values(texts).values
    installation = Installation(
        values=values, namespace=values.osm.osm_namespace or "osm-system", version=release
    )
    found = render(manifests.objects, manifests.optional, installation, Dialect())
    return {(raw["kind"], raw["metadata"]["name"]): raw for raw in found}


def addons(manifests: Manifests, *texts: str, release: str = VERSION) -> Any:
    found = rendered(manifests, *texts, release=release)
    return {key: raw for key, raw in found.items() if addon_of(raw)}


def container(manifests: Manifests, name: str, *texts: str) -> dict[str, Any]:
    pod = addons(manifests, ALL, *texts)["Deployment", name]["spec"]["template"]["spec"]
    found: dict[str, Any] = pod["containers"][0]
    return found


def address(manifests: Manifests, *texts: str) -> Any:
    preset = rendered(manifests, *texts)["ConfigMap", "preset-mesh-config"]
    spec = json.loads(preset["data"]["preset-mesh-config.json"])
    return spec["observability"].get("prometheusAddress")


# Which


@pytest.mark.parametrize(
    ("text", "deployments"),
    [
        pytest.param("osm.deployGrafana=false", [], id="none-unless-asked-for"),
        pytest.param("osm.deployPrometheus=true", ["osm-prometheus"], id="prometheus"),
        pytest.param("osm.deployGrafana=true", ["osm-grafana"], id="grafana"),
        pytest.param("osm.deployJaeger=true", ["jaeger"], id="jaeger"),
        pytest.param(ALL, list(WORKLOADS), id="all"),
    ],
)
def test_an_addon_comes_where_it_is_wanted(
    manifests: Manifests, text: str, deployments: list[str]
) -> None:
    found = addons(manifests, text)
    assert [name for kind, name in found if kind == "Deployment"] == deployments
    assert {addon_of(raw) for raw in found.values()} == set(deployments)


def test_without_values_addons_stay_as_the_manifests_have_them(manifests: Manifests) -> None:
    given = [raw for raw in manifests.optional if addon_of(raw)]
    assert list(addons(manifests, ALL).values()) == given


def test_values_of_addons_have_effect() -> None:
    texts = (
        f"{ALL},osm.prometheus.port=1,osm.prometheus.retention.time=2d,osm.prometheus.image=a",
        "osm.grafana.port=1,osm.grafana.enableRemoteRendering=true,osm.grafana.image=a",
        "osm.grafana.rendererImage=a,osm.tracing.image=a,osm.tracing.nodeSelector.disk=ssd",
        "osm.prometheus.resources.limits.cpu=2,osm.grafana.tolerations[0].key=a",
    )
    assert parse_values(texts).warnings == ()


# Names, namespaces, labels


def test_addons_belong_to_their_mesh(manifests: Manifests) -> None:
    found = addons(manifests, ALL, "osm.meshName=shop,osm.osmNamespace=mesh", release="9.9.9")
    for (kind, name), raw in found.items():
        metadata = raw["metadata"]
        is_cluster_wide = kind in ("ClusterRole", "ClusterRoleBinding")
        assert metadata.get("namespace") == (None if is_cluster_wide else "mesh")
        assert metadata["labels"]["app.kubernetes.io/instance"] == "shop"
        assert metadata["labels"].get("app.kubernetes.io/version", "9.9.9") == "9.9.9"
        assert "osm-system" not in json.dumps(raw), name
    for name in WORKLOADS:
        labels = found["Deployment", name]["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/version"] == "9.9.9"
        assert labels["app.kubernetes.io/instance"] == "shop"


def test_what_is_cluster_wide_has_the_name_of_the_mesh(manifests: Manifests) -> None:
    found = addons(manifests, ALL, "osm.meshName=shop,osm.osmNamespace=mesh")
    binding = found["ClusterRoleBinding", "shop-prometheus"]
    assert binding["roleRef"]["name"] == found["ClusterRole", "shop-prometheus"]["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "osm-prometheus", "namespace": "mesh"}
    ]
    assert ("ServiceAccount", "osm-prometheus") in found


# Values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("osm-prometheus", "osm.prometheus.image"),
        ("osm-grafana", "osm.grafana.image"),
        ("jaeger", "osm.tracing.image"),
    ],
)
def test_images_can_be_others(manifests: Manifests, name: str, value: str) -> None:
    assert (
        container(manifests, name, f"{value}=mirror.example/x:1")["image"] == "mirror.example/x:1"
    )


@pytest.mark.parametrize(
    ("name", "value", "port"),
    [
        ("osm-prometheus", "osm.prometheus.port", 7070),
        ("osm-grafana", "osm.grafana.port", 3000),
        ("jaeger", "osm.tracing.port", 9411),
    ],
)
def test_services_have_the_ports_of_the_values(
    manifests: Manifests, name: str, value: str, port: int
) -> None:
    def first(*texts: str) -> Any:
        return addons(manifests, ALL, *texts)["Service", name]["spec"]["ports"][0]

    assert first()["port"] == port
    assert first(f"{value}=8181") == {**first(), "port": 8181}


def test_grafana_finds_prometheus_at_another_port(manifests: Manifests) -> None:
    def urls(*texts: str) -> list[str]:
        found = addons(manifests, ALL, *texts)["ConfigMap", "osm-grafana-datasources"]
        sources = yaml.safe_load(found["data"]["prometheus.yaml"])["datasources"]
        return [source["url"] for source in sources]

    assert urls() == ["http://osm-prometheus:7070"]
    assert urls("osm.prometheus.port=9090") == ["http://osm-prometheus:9090"]


def test_prometheus_keeps_what_it_reads_as_long_as_asked(manifests: Manifests) -> None:
    def retention(*texts: str) -> list[str]:
        args = container(manifests, "osm-prometheus", *texts)["args"]
        return [arg for arg in args if "retention" in arg]

    assert retention() == ["--storage.tsdb.retention.time=15d"]
    assert retention("osm.prometheus.retention.time=1w2d") == ["--storage.tsdb.retention.time=1w2d"]


def test_prometheus_gets_the_resources_asked_for(manifests: Manifests) -> None:
    found = container(manifests, "osm-prometheus", "osm.prometheus.resources.limits.memory=8G")
    assert found["resources"] == {
        "requests": {"cpu": "500m", "memory": "512M"},
        "limits": {"cpu": "1", "memory": "8G"},
    }


@pytest.mark.parametrize(
    ("name", "below"),
    [("osm-prometheus", "prometheus"), ("osm-grafana", "grafana"), ("jaeger", "tracing")],
)
def test_addons_run_where_they_may(manifests: Manifests, name: str, below: str) -> None:
    texts = (
        f"osm.{below}.nodeSelector.disk=ssd,osm.{below}.tolerations[0].key=reserved",
        f"osm.{below}.affinity.nodeAffinity.a=b,osm.imagePullSecrets[0].name=pull",
    )
    pod = addons(manifests, ALL, *texts)["Deployment", name]["spec"]["template"]["spec"]
    found = {key: pod[key] for key in ("affinity", "nodeSelector", "tolerations")}
    assert found == {
        "affinity": {"nodeAffinity": {"a": "b"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "reserved"}],
    }
    assert pod["imagePullSecrets"] == [{"name": "pull"}]


def test_pictures_of_panels_are_made_by_a_second_container(manifests: Manifests) -> None:
    wanted = "osm.grafana.enableRemoteRendering=true,osm.grafana.rendererImage=r:1"
    found = addons(manifests, ALL, wanted)
    grafana, renderer = found["Deployment", "osm-grafana"]["spec"]["template"]["spec"]["containers"]
    assert (renderer["name"], renderer["image"]) == ("renderer", "r:1")
    assert {one["name"]: one["value"] for one in grafana["env"]} == {
        "GF_RENDERING_SERVER_URL": "http://127.0.0.1:8081/render",
        "GF_RENDERING_CALLBACK_URL": "http://127.0.0.1:3000/",
    }
    assert [port["port"] for port in found["Service", "osm-grafana"]["spec"]["ports"]] == [
        3000,
        8081,
    ]
    assert_restricted(found["Deployment", "osm-grafana"]["spec"]["template"]["spec"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "osm.prometheus.retention.time=forever",
            "osm.prometheus.retention.time: must be a time such as 15d or 12h, not 'forever'",
            id="retention",
        ),
        pytest.param(
            "osm.grafana.prot=1",
            "osm.grafana.prot: there is no such value; did you mean osm.grafana.port?",
            id="nearly-a-name",
        ),
    ],
)
def test_a_value_that_will_not_do_is_named(text: str, message: str) -> None:
    with pytest.raises(SettingError) as raised:
        parse_values([text])
    assert str(raised.value) == f"--set {message}"


# The mesh beside them


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", None, id="no-prometheus"),
        pytest.param(
            "osm.deployPrometheus=true,osm.osmNamespace=mesh,osm.prometheus.port=9090",
            "http://osm-prometheus.mesh.svc.cluster.local:9090",
            id="ours",
        ),
        pytest.param(
            "osm.deployPrometheus=true,osm.prometheusAddress=http://p:1", "http://p:1", id="another"
        ),
    ],
)
def test_the_mesh_knows_its_prometheus(manifests: Manifests, text: str, found: str | None) -> None:
    assert address(manifests, text) == found


def test_an_upgrade_keeps_addons_where_values_say_so() -> None:
    previous = {"osm": {"deployGrafana": True}}
    for given, reuse, expected in (({}, False, False), (previous, False, True), ({}, True, True)):
        tree, dropped = upgraded_values({"osm": {}}, previous, given, reuse=reuse)
        assert parse_values([], **tree["osm"]).values.osm.deploy_grafana is expected
        assert dropped == (() if expected else ("osm.deployGrafana",))


def test_addons_go_with_their_mesh(manifests: Manifests) -> None:
    found = addons(manifests, ALL, "osm.meshName=shop")
    theirs = factory.raw("ConfigMap", "osm-system/of-others")
    # As after kubectl apply: no release says what there is.
    cluster = FakeCluster(*found.values(), theirs)
    mesh = Mesh(name="shop", namespace="osm-system")
    removal = remove_mesh(
        cluster, mesh, ca_secret="none", told=lambda _: None, wait=lambda _: False
    )
    assert {(ref.kind, ref.name) for ref in cluster.objects} == {("ConfigMap", "of-others")}
    assert {(ref.kind, ref.name) for ref in removal.removed} == set(found)


# Security


def assert_restricted(pod: dict[str, Any]) -> None:
    """The Pod Security Standard “restricted”, which the namespace enforces."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert (
        pod["securityContext"]["runAsUser"] > 0
    )  # Images name their user, which cannot be judged.
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    kinds = {kind for volume in pod.get("volumes", ()) for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "projected"}
    for one in pod["containers"]:
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", WORKLOADS)
def test_addons_are_restricted(manifests: Manifests, name: str) -> None:
    pod = addons(manifests, ALL)["Deployment", name]["spec"]["template"]["spec"]
    assert_restricted(pod)
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["enableServiceLinks"] is False
    assert pod["serviceAccountName"] == name
    assert pod.get("automountServiceAccountToken", True) is (name == "osm-prometheus")


def test_services_find_their_containers(manifests: Manifests) -> None:
    found = addons(manifests, ALL, "osm.grafana.enableRemoteRendering=true")
    for name in WORKLOADS:
        template = found["Deployment", name]["spec"]["template"]
        ports = {
            port["name"] for one in template["spec"]["containers"] for port in one.get("ports", ())
        }
        service = found["Service", name]["spec"]
        assert service["selector"].items() <= template["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["ports"]} <= ports


def test_every_mounted_config_map_is_there(manifests: Manifests) -> None:
    found = addons(manifests, ALL)
    mounted = set()
    for name in WORKLOADS:
        for volume in found["Deployment", name]["spec"]["template"]["spec"].get("volumes", ()):
            sources = [volume, *volume.get("projected", {}).get("sources", ())]
            mounted |= {one["configMap"]["name"] for one in sources if "configMap" in one}
    assert mounted == {name for kind, name in found if kind == "ConfigMap"}
