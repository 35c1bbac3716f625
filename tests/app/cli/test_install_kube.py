"""``osm install``, ``namespace``, ``uninstall`` and ``kubectl apply -k`` against a real API server.

Pods get ready as ``cluster_pods`` says.
"""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from kube_server import KubeServer
from osm_command import SYSTEM, Osm, kubectl
from until import until

from app.errors import NotFoundError, RefusedError, UnreachableError

pytestmark = pytest.mark.kube

ROOT = Path(__file__).parents[3]
KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v1/namespaces/{}/horizontalpodautoscalers",
    "PodDisruptionBudget": "/apis/policy/v1beta1/namespaces/{}/poddisruptionbudgets",
}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEFINITIONS_COUNT = len(list((Path(__file__).parents[3] / "manifests" / "crds").glob("*.yaml")))
OWN_OF_KUBERNETES = {"default", "kube-root-ca.crt"}


def objects_of(server: KubeServer) -> dict[str, list[str]]:
    """Names of what is in the control plane's namespace, without Kubernetes' own."""
    found = {}
    for kind, path in KINDS.items():
        items = server.call("GET", path.format(SYSTEM))["items"]
        names = [
            item["metadata"]["name"]
            for item in items
            if item["metadata"]["name"] not in OWN_OF_KUBERNETES
            and item.get("type") != "kubernetes.io/service-account-token"
        ]
        if names:
            found[kind] = sorted(names)
    return found


INSTALLED = {
    "Deployment": ["osm-controller"],
    "Service": ["osm-bootstrap", "osm-controller", "osm-injector", "osm-validator"],
    "ConfigMap": ["preset-mesh-config"],
    "ServiceAccount": ["osm", "osm-cli"],
    "Role": ["osm", "osm-cli"],
    "RoleBinding": ["osm", "osm-cli"],
}


def new_namespace(server: KubeServer, name: str, **metadata: Any) -> str:
    try:
        return server.new_namespace(name, **metadata)
    except urllib.error.HTTPError:
        return name


def test_kubectl_takes_the_manifests_as_they_are(osm: Osm) -> None:
    kubectl(osm.server, "apply", "-k", str(ROOT / "manifests"))
    assert objects_of(osm.server) == INSTALLED
    assert len(osm.server.call("GET", DEFINITIONS)["items"]) == DEFINITIONS_COUNT


def test_kubectl_takes_what_a_dry_run_prints(osm: Osm) -> None:
    options = "osm.osmController.autoScale.enable=true"
    text = osm.done("install", "--dry-run", "-o", "yaml", "--set", options)
    assert objects_of(osm.server) == {}
    kubectl(osm.server, "apply", "-f", "-", stdin=text)
    scaled = {"HorizontalPodAutoscaler": ["osm-controller-hpa"]}
    assert objects_of(osm.server) == INSTALLED | scaled
    as_json = json.loads(osm.done("install", "--dry-run", "-o", "json", "--set", options))
    assert as_json["kind"] == "List"


def test_a_mesh_is_installed_uninstalled_and_installed_again(osm: Osm) -> None:
    options = (
        "osm.osmController.autoScale.enable=true,osm.osmController.enablePodDisruptionBudget=true"
    )
    told = osm.install("--set", options)
    line = "OSM installed successfully in namespace [osm-system] with mesh name [osm]"
    assert told.splitlines()[-1] == line
    optional = {
        "HorizontalPodAutoscaler": ["osm-controller-hpa"],
        "PodDisruptionBudget": ["osm-controller-pdb"],
        "Secret": ["osm-release-osm"],
    }
    assert objects_of(osm.server) == INSTALLED | optional
    told = osm.done("uninstall", "mesh", "--force")
    assert "OSM [mesh name: osm] in namespace [osm-system] uninstalled" in told
    assert objects_of(osm.server) == {}
    assert cluster_roles(osm.server) == []
    osm.install()
    assert objects_of(osm.server) == INSTALLED | {"Secret": ["osm-release-osm"]}


def cluster_roles(server: KubeServer) -> list[str]:
    api = "/apis/rbac.authorization.k8s.io/v1"
    query = "?labelSelector=app.kubernetes.io/name=openservicemesh.io"
    return [
        item["metadata"]["name"]
        for kind in ("clusterroles", "clusterrolebindings")
        for item in server.call("GET", f"{api}/{kind}{query}")["items"]
    ]


def test_a_mesh_that_does_not_get_ready_is_told_with_its_pods(osm: Osm) -> None:
    result = osm("install", "--timeout", "2s")
    assert isinstance(result.exception, UnreachableError)
    assert "was not ready within 2s" in str(result.exception)
    assert "Pod osm-controller-" in result.stderr
    assert "Pending" in result.stderr
    assert objects_of(osm.server)["Deployment"] == ["osm-controller"]


def test_an_atomic_installation_is_taken_back(osm: Osm) -> None:
    result = osm("install", "--timeout", "1s", "--atomic")
    assert isinstance(result.exception, UnreachableError)
    assert objects_of(osm.server) == {}
    assert cluster_roles(osm.server) == []


def test_a_second_mesh_is_refused(osm: Osm) -> None:
    osm.install()
    again = osm("install")
    assert isinstance(again.exception, RefusedError)
    assert "osm mesh upgrade --mesh-name osm" in str(again.exception)
    other = osm("--osm-namespace", "other", "install", "--mesh-name", "second")
    assert "only one of the cluster" in str(other.exception)


def test_namespaces_join_and_leave(osm: Osm) -> None:
    for name in ("shop", "quiet"):
        new_namespace(osm.server, name)
    missing = osm("namespace", "add", "shop")
    assert isinstance(missing.exception, NotFoundError)
    osm.install()
    assert osm.done("namespace", "add", "shop", "quiet", "osm-system").splitlines() == [
        "Namespace [shop] successfully added to mesh [osm]",
        "Namespace [quiet] successfully added to mesh [osm]",
    ]
    osm.done("namespace", "ignore", "quiet")
    assert json.loads(osm.done("namespace", "list", "-o", "json")) == [
        {"namespace": "quiet", "mesh": "osm", "sidecar_injection": "disabled (ignored)"},
        {"namespace": "shop", "mesh": "osm", "sidecar_injection": "enabled"},
    ]
    other = osm("namespace", "remove", "shop", "--mesh-name", "other")
    assert isinstance(other.exception, RefusedError)
    osm.done("ns", "remove", "shop")
    assert namespace_marks(osm.server, "shop") == {}
    table = osm.done("namespace", "list", "osm").splitlines()
    assert [line.split() for line in table] == [
        ["NAMESPACE", "MESH", "SIDECAR-INJECTION"],
        ["quiet", "osm", "disabled", "(ignored)"],
    ]
    meshes = json.loads(osm.done("mesh", "list", "-o", "json"))
    assert [mesh["members"] for mesh in meshes] == [["quiet"]]
    osm.done("uninstall", "mesh", "--force")
    assert namespace_marks(osm.server, "quiet") == {}
    assert osm.done("namespace", "list") == "No namespaces in any mesh\n"


def namespace_marks(server: KubeServer, name: str) -> dict[str, str]:
    metadata = server.call("GET", f"/api/v1/namespaces/{name}")["metadata"]
    return {**metadata.get("labels", {}), **metadata.get("annotations", {})}


def test_uninstalling_asks_first(osm: Osm) -> None:
    osm.install()
    told = osm.done("uninstall", "mesh", stdin="maybe\n\nn\n")
    assert "invalid input 'maybe': write y or n" in told
    assert told.count("Uninstall OSM [mesh name: osm] in namespace [osm-system]? [y/n]: ") == 3
    assert objects_of(osm.server)["Deployment"] == ["osm-controller"]
    told = osm.done("uninstall", "mesh", "--mesh-name", "other", "--force")
    assert "Did not find mesh [other]" in told
    assert "[mesh name: osm] in namespace [osm-system]" in told
    osm.done("uninstall", "del", stdin="y\n")
    assert objects_of(osm.server) == {}
    assert osm.done("uninstall", "mesh") == "No OSM control planes found\n"


def test_uninstalling_leaves_no_webhook_and_no_key(osm: Osm) -> None:
    osm.install()
    new_namespace(osm.server, "keys")
    labels = {
        "app.kubernetes.io/name": "openservicemesh.io",
        "app.kubernetes.io/instance": "osm",
    }
    secrets = "/api/v1/namespaces/{}/secrets"
    for namespace, name, theirs in (
        ("keys", "envoy-bootstrap-config-1", labels),
        ("keys", "of-the-user", {}),
        (SYSTEM, "osm-ca-bundle", {}),
    ):
        body = {"metadata": {"name": name, "labels": theirs}}
        osm.server.call("POST", secrets.format(namespace), body)
    webhooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    osm.server.call("POST", webhooks, {"metadata": {"name": "osm-webhook-osm", "labels": labels}})
    osm.server.call("POST", webhooks, {"metadata": {"name": "of-others"}})
    osm.done("uninstall", "mesh", "--force")
    left = osm.server.call("GET", webhooks)["items"]
    assert [one["metadata"]["name"] for one in left] == ["of-others"]
    assert "Secret" not in objects_of(osm.server)
    kept = osm.server.call("GET", secrets.format("keys"))["items"]
    assert [one["metadata"]["name"] for one in kept if one["type"] == "Opaque"] == ["of-the-user"]
    osm.server.call("DELETE", f"{webhooks}/of-others")


def test_definitions_go_where_that_is_asked_for(osm: Osm) -> None:
    kubectl(osm.server, "apply", "-k", str(ROOT / "manifests"))
    osm.done("uninstall", "mesh", "--force")
    assert len(osm.server.call("GET", DEFINITIONS)["items"]) == DEFINITIONS_COUNT
    told = osm.done("uninstall", "mesh", "--force", "--delete-cluster-wide-resources")
    assert told.count("Deleted definition") == DEFINITIONS_COUNT
    until(lambda: osm.server.call("GET", DEFINITIONS)["items"] == [], "the end of all definitions")


def test_versions_name_the_mesh(osm: Osm) -> None:
    osm.install()
    client = osm.done("version", "--client-only").split()[-1]
    assert json.loads(osm.done("version", "-o", "json")) == {
        "client": client,
        "meshes": [
            {
                "mesh_name": "osm",
                "namespace": "osm-system",
                "version": client,
                "git_commit": "",
                "build_date": "",
            }
        ],
    }
    assert "SMI SUPPORTED" in osm.done("mesh", "list")
