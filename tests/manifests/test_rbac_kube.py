"""What the accounts of the manifests may do, asked of a real API server with their own tokens.

RBAC cannot split a Secret's keys from its metadata, nor narrow create, list and watch by name: the
controller's rights there are wider than its use of them, which `app/compute` and its tests hold.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kube_server import KubeServer
from osm_command import SYSTEM, kubectl

from app.compute.kube_client import KubeClient

pytestmark = pytest.mark.kube

MANIFESTS = Path(__file__).parents[2] / "manifests"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.fixture(scope="module")
def server(whole_kube: KubeServer) -> KubeServer:
    kubectl(whole_kube, "apply", "-k", str(MANIFESTS))
    kubectl(whole_kube, "apply", "-k", str(MANIFESTS / "observability"))
    return whole_kube


@pytest.fixture(scope="module")
def controller(server: KubeServer) -> str:
    return token_of(server, "osm")


@pytest.fixture(scope="module")
def cli(server: KubeServer) -> str:
    return token_of(server, "osm-cli")


@pytest.fixture(scope="module")
def prometheus(server: KubeServer) -> str:
    return token_of(server, "osm-prometheus")


def token_of(server: KubeServer, account: str) -> str:
    return KubeClient.from_kubeconfig(server.kubeconfig()).create_token(SYSTEM, account, 3600)


def may(server: KubeServer, token: str, right: str) -> bool:
    """``<verb> <resource>[.<group>][/<subresource>] [@<namespace>] [=<name>]``"""
    verb, resource, *more = right.split()
    resource, _, subresource = resource.partition("/")
    resource, _, group = resource.partition(".")
    attributes = {"verb": verb, "resource": resource, "subresource": subresource, "group": group}
    for word in more:
        attributes["namespace" if word[0] == "@" else "name"] = word[1:]
    review = server.call("POST", REVIEWS, {"spec": {"resourceAttributes": attributes}}, token=token)
    return bool(review["status"]["allowed"])


CONFIG = "config.openservicemesh.io"
POLICY = "policy.openservicemesh.io"
ADMISSION = "admissionregistration.k8s.io"
OWN_CRD = "=egresses.policy.openservicemesh.io"


@pytest.mark.parametrize(
    "right",
    [
        *(
            f"{verb} {resource}"
            for verb in ("list", "watch")
            for resource in (
                "endpoints", "namespaces", "pods", "secrets", "serviceaccounts", "services",
                "endpointslices.discovery.k8s.io",
                f"meshconfigs.{CONFIG}", f"meshrootcertificates.{CONFIG}",
                f"extensionservices.{CONFIG}", f"egresses.{POLICY}", f"ingressbackends.{POLICY}",
                f"retries.{POLICY}", f"telemetries.{POLICY}", f"trafficdenies.{POLICY}",
                f"upstreamtrafficsettings.{POLICY}",
                "traffictargets.access.smi-spec.io", "trafficsplits.split.smi-spec.io",
                "httproutegroups.specs.smi-spec.io", "tcproutes.specs.smi-spec.io",
                f"mutatingwebhookconfigurations.{ADMISSION}",
                f"validatingwebhookconfigurations.{ADMISSION}",
                "customresourcedefinitions.apiextensions.k8s.io",
            )
        ),
        *(f"{verb} secrets @shop" for verb in ("get", "create", "patch", "delete")),
        f"update secrets @{SYSTEM} =osm-ca-bundle",
        "get namespaces =shop",
        f"get configmaps @{SYSTEM} =preset-mesh-config",
        f"create meshconfigs.{CONFIG} @{SYSTEM}",
        f"patch ingressbackends.{POLICY}/status @shop",
        f"patch telemetries.{POLICY}/status @shop",
        f"patch upstreamtrafficsettings.{POLICY}/status @shop",
        f"create mutatingwebhookconfigurations.{ADMISSION}",
        f"update mutatingwebhookconfigurations.{ADMISSION} =osm-webhook-osm",
        f"update validatingwebhookconfigurations.{ADMISSION} =osm-validator-mesh-osm",
        "create customresourcedefinitions.apiextensions.k8s.io",
        f"update customresourcedefinitions.apiextensions.k8s.io {OWN_CRD}",
        "create tokenreviews.authentication.k8s.io",
        "create subjectaccessreviews.authorization.k8s.io",
        f"create leases.coordination.k8s.io @{SYSTEM}",
        f"get leases.coordination.k8s.io @{SYSTEM}",
        f"update leases.coordination.k8s.io @{SYSTEM}",
        f"create events @{SYSTEM}",
    ],
)  # fmt: skip
def test_the_controller_may(server: KubeServer, controller: str, right: str) -> None:
    assert may(server, controller, right)


@pytest.mark.parametrize(
    "right",
    [
        "create pods @shop",
        "delete pods @shop",
        "patch pods @shop",
        "create pods/exec @shop",
        "create pods/portforward @shop",
        "get pods/log @shop",
        "patch namespaces =shop",
        "update secrets @shop",
        "list configmaps @shop",
        f"get configmaps @{SYSTEM} =kube-root-ca.crt",
        "get deployments.apps @shop",
        "create serviceaccounts/token @shop",
        f"create serviceaccounts/token @{SYSTEM} =osm-cli",
        f"update meshconfigs.{CONFIG} @{SYSTEM}",
        f"delete meshconfigs.{CONFIG} @{SYSTEM}",
        f"create meshconfigs.{CONFIG} @shop",
        "update traffictargets.access.smi-spec.io @shop",
        f"update ingressbackends.{POLICY} @shop",
        f"update mutatingwebhookconfigurations.{ADMISSION} =of-others",
        f"update validatingwebhookconfigurations.{ADMISSION} =of-others",
        f"delete mutatingwebhookconfigurations.{ADMISSION} =osm-webhook-osm",
        "update customresourcedefinitions.apiextensions.k8s.io =widgets.example.com",
        f"delete customresourcedefinitions.apiextensions.k8s.io {OWN_CRD}",
        "create leases.coordination.k8s.io @kube-system",
        "create events @shop",
        "create clusterrolebindings.rbac.authorization.k8s.io",
        "escalate clusterroles.rbac.authorization.k8s.io",
        "impersonate users",
    ],
)
def test_the_controller_may_not(server: KubeServer, controller: str, right: str) -> None:
    assert not may(server, controller, right)


@pytest.mark.parametrize(
    ("right", "allowed"),
    [
        pytest.param(f"get meshconfigs.{CONFIG} @{SYSTEM}", True, id="reads-settings"),
        pytest.param(f"update meshconfigs.{CONFIG} @{SYSTEM}", True, id="writes-settings"),
        pytest.param(f"get meshconfigs.{CONFIG} @shop", False, id="not-elsewhere"),
        pytest.param(f"get secrets @{SYSTEM}", False, id="no-secrets"),
        pytest.param("list pods", False, id="no-pods"),
        pytest.param(f"list meshconfigs.{CONFIG} @{SYSTEM}", False, id="no-list"),
    ],
)
def test_the_account_of_the_command_may_only_use_the_admin_api(
    server: KubeServer, cli: str, right: str, allowed: bool
) -> None:
    assert may(server, cli, right) is allowed


@pytest.mark.parametrize(
    ("right", "allowed"),
    [
        *(pytest.param(f"watch {one}", True, id=one) for one in ("endpoints", "nodes", "pods")),
        pytest.param("get nodes/metrics =node-1", True, id="metrics-of-kubelets"),
        # Whoever may get it runs commands in every Pod, over a WebSocket.
        pytest.param("get nodes/proxy =node-1", False, id="kubelets-as-a-whole"),
        pytest.param("get secrets @shop", False, id="no-secrets"),
        pytest.param(f"list configmaps @{SYSTEM}", False, id="no-settings"),
        pytest.param("patch pods @shop", False, id="no-writes"),
    ],
)
def test_prometheus_may_only_look(
    server: KubeServer, prometheus: str, right: str, allowed: bool
) -> None:
    assert may(server, prometheus, right) is allowed
