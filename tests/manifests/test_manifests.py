"""The manifests agree with themselves, with the release and with the settings they name."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.install.manifests import find_manifests, load_manifests
from app.objects.config import MeshConfigSpec
from app.objects.meta import RawObject
from app.settings import Settings

MANIFESTS = Path(__file__).parents[2] / "manifests"
LOADED = load_manifests(MANIFESTS)
OBJECTS = {(raw["kind"], raw["metadata"]["name"]): raw for raw in LOADED.objects}
VERSION = version("openservicemesh")
OPTIONAL = ("autoscaling", "observability")


def pod() -> dict[str, Any]:
    found: dict[str, Any] = OBJECTS["Deployment", "osm-controller"]["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return dict(found)


def test_a_checkout_brings_its_manifests() -> None:
    assert find_manifests() == MANIFESTS


@pytest.mark.parametrize("folder", [".", *OPTIONAL])
def test_every_file_is_in_its_kustomization(folder: str) -> None:
    home = MANIFESTS / folder
    listed = yaml.safe_load((home / "kustomization.yaml").read_text())["resources"]
    files = [path.relative_to(home) for path in home.glob("**/*.yaml")]
    own = [str(path) for path in files if path.parts[0] not in OPTIONAL]
    assert sorted(listed) == sorted(name for name in own if name != "kustomization.yaml")


@pytest.mark.parametrize("raw", [*LOADED.objects, *LOADED.optional], ids=lambda raw: raw["kind"])
def test_versions_are_those_of_the_release(raw: RawObject) -> None:
    labels = raw["metadata"].get("labels", {})
    assert labels.get("app.kubernetes.io/version", VERSION) == VERSION
    assert labels["app.kubernetes.io/name"] == "openservicemesh.io"


def test_images_are_those_of_the_release() -> None:
    variables = {one["name"]: one.get("value") for one in container()["env"]}
    ours = f"openservicemesh/osm:{VERSION}"
    assert container()["image"] == ours
    assert Settings.model_fields["init_container_image"].default == ours
    assert variables["OSM_DEFAULT_INIT_CONTAINER_IMAGE"] == ours
    envoy = Settings.model_fields["envoy_image"].default
    assert variables["OSM_DEFAULT_ENVOY_IMAGE"] == envoy


def test_options_are_settings() -> None:
    names = [arg.partition("=")[0].removeprefix("--") for arg in container()["args"]]
    assert {name.replace("-", "_") for name in names} <= set(Settings.model_fields)


def test_services_lead_to_ports_that_the_process_opens() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    options = Settings.model_fields
    assert ports == {
        "sidecar-inject": options["injector_port"].default,
        "metrics": options["api_port"].default,
        "debug-port": options["debug_port"].default,
        "validator": options["validator_port"].default,
        "ads-port": options["ads_port"].default,
    }
    for (kind, name), raw in OBJECTS.items():
        if kind == "Service":
            assert raw["spec"]["selector"] == {"app": "osm-controller"}, name
            for port in raw["spec"]["ports"]:
                assert ports[port["targetPort"]] == port["port"], name


def test_variables_of_services_do_not_get_into_the_settings() -> None:
    assert pod()["enableServiceLinks"] is False


def test_the_pod_is_restricted() -> None:
    security = container()["securityContext"]
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    labels = OBJECTS["Namespace", "osm-system"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_preset_is_a_mesh_config() -> None:
    text = OBJECTS["ConfigMap", "preset-mesh-config"]["data"]["preset-mesh-config.json"]
    spec = MeshConfigSpec.model_validate(yaml.safe_load(text))
    assert spec.traffic.enable_permissive_traffic_policy_mode
    assert spec.traffic.enable_egress
    assert spec.certificate.cert_key_bit_size is None


def test_the_controller_may_write_its_own_definitions_and_no_other() -> None:
    rules = OBJECTS["ClusterRole", "osm"]["rules"]
    (own,) = [
        rule["resourceNames"]
        for rule in rules
        if rule["resources"] == ["customresourcedefinitions"] and "resourceNames" in rule
    ]
    assert own == sorted(raw["metadata"]["name"] for raw in LOADED.crds)
