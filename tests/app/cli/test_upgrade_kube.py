"""``osm mesh upgrade`` against a real API server: of ours, and of an original installation.

The original is ``original.yaml``, applied as Helm would have; its Pods and ours get ready as
``cluster_pods`` says.
"""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
from cluster_pods import start_pods
from kube_server import KubeServer
from osm_command import CONTROLLERS, SYSTEM, Osm, kubectl

from app.compute.kube_client import KubeClient
from app.controller.crds import load_crds
from app.controller.registration import Registration
from app.errors import NotFoundError, RefusedError, UnreachableError
from app.metrics import Metrics
from app.settings import Settings

pytestmark = pytest.mark.kube

MANIFESTS = Path(__file__).parents[3] / "manifests"
ORIGINAL = Path(__file__).with_name("original.yaml")
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments"
SERVICES = f"/api/v1/namespaces/{SYSTEM}/services"
SECRETS = f"/api/v1/namespaces/{SYSTEM}/secrets"
SCALERS = f"/apis/autoscaling/v1/namespaces/{SYSTEM}/horizontalpodautoscalers"
DEFINITION = (
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/meshconfigs.config.openservicemesh.io"
)
MESH_CONFIG = (
    f"/apis/config.openservicemesh.io/v1alpha2/namespaces/{SYSTEM}/meshconfigs/osm-mesh-config"
)
WEBHOOK = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/osm-webhook-osm"
ROOT = b"-----BEGIN CERTIFICATE-----\nroot\n-----END CERTIFICATE-----\n"


@pytest.fixture
def original(osm: Osm) -> Osm:
    """A cluster where the original OSM runs, with settings of its user."""
    kubectl(osm.server, "create", "--field-manager=helm", "-f", str(ORIGINAL))
    kubectl(osm.server, "wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
    settings = {
        "apiVersion": "config.openservicemesh.io/v1alpha2",
        "kind": "MeshConfig",
        "metadata": {"name": "osm-mesh-config"},
        "spec": {"traffic": {"enablePermissiveTrafficPolicyMode": False}},
    }
    osm.server.call("POST", MESH_CONFIG.rpartition("/")[0], settings)
    start_pods(osm.server, SYSTEM, CONTROLLERS)
    return osm


def names(server: KubeServer, path: str) -> list[str]:
    found = [item["metadata"]["name"] for item in server.call("GET", path)["items"]]
    return sorted(name for name in found if "-token-" not in name)


def controller(server: KubeServer) -> dict[str, Any]:
    found: dict[str, Any] = server.call("GET", f"{DEPLOYMENTS}/osm-controller")
    return found


def register_as_the_controller(osm: Osm) -> None:
    """What a controller does first, with nothing but its own rights."""
    admin = KubeClient.from_kubeconfig(osm.server.kubeconfig())
    token = admin.create_token(SYSTEM, "osm", 600)
    registration = Registration(
        KubeClient.from_kubeconfig(osm.server.kubeconfig(token)),
        Settings(osm_namespace=SYSTEM, osm_version="2.0.0"),
        crds=load_crds(),
        trust=lambda: ROOT,
        metrics=Metrics(),
    )
    registration.prepare()
    registration.register()


def versions(server: KubeServer) -> dict[str, str]:
    """The versions of what an upgrade must not write."""
    return {
        path: server.call("GET", path)["metadata"]["resourceVersion"]
        for path in (
            MESH_CONFIG,
            f"{SECRETS}/osm-ca-bundle",
            "/api/v1/namespaces/bookstore",
            "/api/v1/namespaces/bookstore/secrets/envoy-bootstrap-config-5f2c1b3a",
        )
    }


def test_an_original_is_taken_over(original: Osm) -> None:
    server = original.server
    kept = versions(server)
    result = original.ready("mesh", "upgrade")
    assert "Taking over mesh [osm] of the original OSM v1.2.4" in result.stdout
    assert "OSM successfully upgraded mesh [osm] in namespace [osm-system]" in result.stdout
    register_as_the_controller(original)
    assert versions(server) == kept
    assert names(server, DEPLOYMENTS) == ["osm-controller"]
    assert names(server, SCALERS) == []
    assert names(server, SECRETS) == ["osm-ca-bundle", "osm-release-osm"]
    assert server.call("GET", DEFINITION)["spec"]["conversion"] == {"strategy": "None"}
    assert server.call("GET", WEBHOOK)["webhooks"][0]["timeoutSeconds"] == 10


def test_nothing_of_an_original_stays_in_what_is_taken_over(original: Osm) -> None:
    original.ready("mesh", "upgrade")
    found = controller(original.server)
    pod = found["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "initContainers" not in pod
    assert container["command"] == ["osm", "controller", "run"]
    assert "--trust-domain=shop.example" in container["args"]
    assert {port["name"] for port in container["ports"]} == {
        "sidecar-inject", "metrics", "debug-port", "validator", "ads-port",
    }  # fmt: skip
    assert found["spec"]["replicas"] == 2
    assert "app.kubernetes.io/managed-by" not in found["metadata"]["labels"]
    assert "meta.helm.sh/release-name" not in found["metadata"]["annotations"]
    for name in ("osm-injector", "osm-bootstrap"):
        service = original.server.call("GET", f"{SERVICES}/{name}")
        assert service["spec"]["selector"] == {"app": "osm-controller"}
    (port,) = original.server.call("GET", f"{SERVICES}/osm-bootstrap")["spec"]["ports"]
    assert port["port"] == 9091


def test_an_original_serves_until_the_successor_is_ready(original: Osm) -> None:
    result = original("mesh", "upgrade", "--timeout", "1s")
    assert isinstance(result.exception, UnreachableError)
    assert names(original.server, DEPLOYMENTS) == [
        "osm-bootstrap",
        "osm-controller",
        "osm-injector",
    ]
    injector = original.server.call("GET", f"{SERVICES}/osm-injector")
    assert injector["spec"]["selector"] == {"app": "osm-injector"}
    pods = original.server.call(
        "GET", f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector={CONTROLLERS}"
    )["items"]
    images = sorted(pod["spec"]["containers"][0]["image"].split(":")[0] for pod in pods)
    assert images.count("openservicemesh/osm-controller") == 2
    original.ready("mesh", "upgrade")
    assert names(original.server, DEPLOYMENTS) == ["osm-controller"]


def test_installing_over_an_original_says_how_to_take_it_over(original: Osm) -> None:
    result = original("install")
    assert isinstance(result.exception, RefusedError)
    assert "it is an original OSM: `osm mesh upgrade --mesh-name osm` takes it over" in str(
        result.exception
    )


def test_an_original_can_be_uninstalled(original: Osm) -> None:
    server = original.server
    original.done("uninstall", "mesh", "--force")
    assert names(server, DEPLOYMENTS) == []
    assert names(server, SERVICES) == []
    assert names(server, SECRETS) == []
    assert names(server, "/api/v1/namespaces/bookstore/secrets") == []
    assert server.call("GET", "/api/v1/namespaces/bookstore")["metadata"].get("labels") is None
    with pytest.raises(urllib.error.HTTPError):
        server.call("GET", WEBHOOK)


def test_an_upgrade_keeps_the_mesh_and_starts_other_values_anew(osm: Osm) -> None:
    server = osm.server
    osm.install(
        "--set",
        "osm.trustDomain=shop.example,osm.osmController.replicaCount=3,osm.image.tag=old,"
        "osm.osmController.autoScale.enable=true",
    )
    again = osm.ready("mesh", "upgrade", "--set", "osm.image.registry=mirror.example")
    assert "back at their defaults: osm.image.tag" in " ".join(again.stderr.split())
    found = controller(server)
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert "--trust-domain=shop.example" in container["args"]
    assert container["image"].startswith("mirror.example/osm:2")
    assert names(server, SCALERS) == []
    osm.ready("mesh", "upgrade", "--reuse-values", "--set", "osm.image.tag=new")
    container = controller(server)["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "mirror.example/osm:new"


def test_the_namespace_keeps_the_labels_of_its_owner_and_no_other(osm: Osm) -> None:
    osm.server.new_namespace(SYSTEM, labels={"team": "a"})
    namespace = f"/api/v1/namespaces/{SYSTEM}"
    osm.install()
    labels = osm.server.call("GET", namespace)["metadata"]["labels"]
    assert {"team", "control-plane", "openservicemesh.io/ignore"} <= set(labels)
    osm.done("uninstall", "mesh", "--force")
    metadata = osm.server.call("GET", namespace)["metadata"]
    assert metadata["labels"] == {"team": "a"}
    assert "annotations" not in metadata


def test_a_mesh_of_kubectl_can_be_upgraded(osm: Osm) -> None:
    kubectl(osm.server, "apply", "-k", str(MANIFESTS))
    osm.ready("mesh", "upgrade", "--set", "osm.image.tag=new")
    container = controller(osm.server)["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "openservicemesh/osm:new"


def test_an_upgrade_names_the_meshes_there_are(osm: Osm) -> None:
    missing = osm("mesh", "upgrade")
    assert isinstance(missing.exception, NotFoundError)
    assert "install it: osm install" in str(missing.exception)
    kubectl(osm.server, "apply", "-k", str(MANIFESTS))
    missing = osm("mesh", "upgrade", "--mesh-name", "other")
    assert "there is [osm] in namespace [osm-system]" in str(missing.exception)
    for value in ("osm.meshName=new", "osm.osmNamespace=elsewhere"):
        refused = osm("mesh", "upgrade", "--set", value)
        assert isinstance(refused.exception, RefusedError)
