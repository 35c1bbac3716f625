"""Manifests and values to the objects of an installation."""

from __future__ import annotations

import copy
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import golden
import pytest

from app.cli.yamltext import yaml_documents
from app.install.manifests import Manifests, load_manifests
from app.install.overrides import parse_values
from app.install.render import Dialect, Installation, render
from app.objects.meta import RawObject

MANIFESTS = Path(__file__).parents[3] / "manifests"
VERSION = version("openservicemesh")
FULL = (
    "osm.meshName=shop,osm.osmNamespace=mesh,osm.enforceSingleMesh=false",
    "osm.image.registry=mirror.example/osm,osm.image.tag=v9,osm.image.pullPolicy=Always",
    "osm.sidecarImage=mirror.example/envoy:v1,osm.imagePullSecrets[0].name=pull",
    "osm.osmController.autoScale.enable=true,osm.osmController.autoScale.maxReplicas=7",
    "osm.osmController.autoScale.cpu.targetAverageUtilization=50",
    "osm.osmController.enablePodDisruptionBudget=true",
    "osm.osmController.resource.limits.memory=2G,osm.osmController.nodeSelector.disk=ssd",
    "osm.osmController.podLabels.app=mine,osm.osmController.podLabels.team=a",
    "osm.controlPlaneTolerations[0].key=reserved",
    "osm.trustDomain=shop.example,osm.caBundleSecretName=root,osm.controllerLogLevel=debug",
    "osm.webhookConfigNamePrefix=inject,osm.injector.webhookTimeoutSeconds=5",
    "osm.enableReconciler=true,smi.validateTrafficTarget=false",
    "osm.certificateProvider.certKeyBitSize=4096,osm.tracing.enable=true",
    "osm.featureFlags.enableMeshRootCertificate=true,osm.featureFlags.enableSPIFFE=true",
    "osm.sidecar.mode=container,osm.prometheusAddress=http://p",
)


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return load_manifests(MANIFESTS)


def rendered(
    manifests: Manifests, *texts: str, dialect: Dialect | None = None, release: str = VERSION
) -> dict[tuple[str, str], RawObject]:
    values = parse_values(texts).values
    installation = Installation(
        values=values, namespace=values.osm.osm_namespace or "osm-system", version=release
    )
    found = render(manifests.objects, manifests.optional, installation, dialect or Dialect())
    return {(raw["kind"], raw["metadata"]["name"]): raw for raw in found}


def controller(manifests: Manifests, *texts: str) -> dict[str, Any]:
    raw = rendered(manifests, *texts)["Deployment", "osm-controller"]
    found: dict[str, Any] = raw["spec"]["template"]["spec"]["containers"][0]
    return found


def preset(manifests: Manifests, *texts: str) -> dict[str, Any]:
    raw = rendered(manifests, *texts)["ConfigMap", "preset-mesh-config"]
    found: dict[str, Any] = json.loads(raw["data"]["preset-mesh-config.json"])
    return found


def test_without_values_the_manifests_stay_as_they_are(manifests: Manifests) -> None:
    given = {(raw["kind"], raw["metadata"]["name"]): raw for raw in manifests.objects}
    assert rendered(manifests) == given


def test_the_manifests_themselves_are_not_changed(manifests: Manifests) -> None:
    before = copy.deepcopy(manifests)
    rendered(manifests, *FULL)
    assert manifests == before


def test_every_value_finds_its_place(manifests: Manifests) -> None:
    objects = rendered(manifests, *FULL, release="9.9.9")
    shown = [raw for raw in objects.values() if raw["kind"] != "CustomResourceDefinition"]
    golden.check(golden.GOLDEN / "install" / "full.yaml", yaml_documents(shown))


def test_nothing_of_the_default_names_stays(manifests: Manifests) -> None:
    texts = ("osm.meshName=shop,osm.osmNamespace=mesh",)
    for raw in rendered(manifests, *texts).values():
        if raw["kind"] != "CustomResourceDefinition":
            text = json.dumps(raw)
            for name in ("osm-system", "mesh-name=osm", "osm-webhook-osm", '"osm"]'):
                assert name not in text.replace('["osm", "controller"', "["), raw["kind"]


@pytest.mark.parametrize(
    ("text", "image"),
    [
        pytest.param("", f"openservicemesh/osm:{VERSION}", id="default"),
        pytest.param("osm.image.tag=a", "openservicemesh/osm:a", id="tag"),
        pytest.param("osm.image.registry=r:5000/x", f"r:5000/x/osm:{VERSION}", id="registry"),
        pytest.param("osm.image.registry=", f"osm:{VERSION}", id="no-registry"),
        pytest.param(
            "osm.image.name.osmController=own", f"openservicemesh/own:{VERSION}", id="name"
        ),
        pytest.param(
            "osm.image.tag=,osm.image.digest.osmController=sha256:1",
            "openservicemesh/osm@sha256:1",
            id="digest",
        ),
    ],
)
def test_one_image_serves_controller_and_init_container(
    manifests: Manifests, text: str, image: str
) -> None:
    container = controller(manifests, text)
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert container["image"] == image
    assert variables["OSM_DEFAULT_INIT_CONTAINER_IMAGE"] == image


def test_the_init_container_may_have_an_image_of_its_own(manifests: Manifests) -> None:
    container = controller(manifests, "osm.image.name.osmSidecarInit=init")
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert container["image"] == f"openservicemesh/osm:{VERSION}"
    assert variables["OSM_DEFAULT_INIT_CONTAINER_IMAGE"] == f"openservicemesh/init:{VERSION}"


def test_replicas_are_not_counted_twice(manifests: Manifests) -> None:
    def replicas(text: str) -> Any:
        return rendered(manifests, text)["Deployment", "osm-controller"]["spec"].get("replicas")

    assert replicas("") is None
    assert replicas("osm.osmController.replicaCount=3") == 3
    scaled = "osm.osmController.replicaCount=3,osm.osmController.autoScale.enable=true"
    assert replicas(scaled) is None


def test_optional_kinds_have_the_version_of_the_server(manifests: Manifests) -> None:
    wanted = (
        "osm.osmController.autoScale.enable=true,osm.osmController.enablePodDisruptionBudget=true"
    )
    old = Dialect(autoscaling="autoscaling/v2beta2", policy="policy/v1beta1")
    for dialect in (Dialect(), old):
        found = rendered(manifests, wanted, dialect=dialect)
        scaler = found["HorizontalPodAutoscaler", "osm-controller-hpa"]
        budget = found["PodDisruptionBudget", "osm-controller-pdb"]
        assert (scaler["apiVersion"], budget["apiVersion"]) == (dialect.autoscaling, dialect.policy)


def test_the_preset_keeps_what_nobody_set(manifests: Manifests) -> None:
    changed = preset(
        manifests, "osm.enableEgress=false,osm.tracing.port=1,osm.tracing.enable=false"
    )
    expected = preset(manifests)
    expected["traffic"]["enableEgress"] = False
    assert changed == expected
    assert "certKeyBitSize" not in changed["certificate"]


def test_tracing_has_its_address_only_where_it_is_on(manifests: Manifests) -> None:
    assert preset(manifests, "osm.tracing.enable=true")["observability"]["tracing"] == {
        "enable": True,
        "address": "jaeger.osm-system.svc.cluster.local",
        "port": 9411,
        "endpoint": "/api/v2/spans",
    }
