"""A gateway's certificate and statuses of policies, written into a cluster by the controller."""

import base64
import json
from typing import Any

import pytest
from cryptography import x509
from e2e.node.cluster_node import ClusterNode

pytestmark = [pytest.mark.root, pytest.mark.envoy, pytest.mark.node]

SECONDS = 30
SETTING = {
    "apiVersion": "policy.openservicemesh.io/v1alpha1",
    "kind": "UpstreamTrafficSetting",
    "metadata": {"name": "limits", "namespace": "bookstore"},
    "spec": {"host": "bookstore.bookstore.svc.cluster.local"},
}


def ask_for(node: ClusterNode, gateway: dict[str, Any] | None) -> None:
    """The MeshConfig asks for a gateway's certificate like this; None: for none."""
    patch = json.dumps({"spec": {"certificate": {"ingressGateway": gateway}}})
    where = ["meshconfig", "osm-mesh-config", "-n", "osm-system"]
    node.kubectl("patch", *where, "--type=merge", "-p", patch)


def secrets(node: ClusterNode) -> dict[str, Any]:
    """Secrets with a gateway's certificate, by place."""
    found = node.get("secrets", labels="openservicemesh.io/ingress-gateway")
    return {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in found}


def names(secret: dict[str, Any]) -> list[str]:
    """Whom the certificate is for."""
    assert secret["type"] == "kubernetes.io/tls"
    pem = {name: base64.b64decode(text) for name, text in secret["data"].items()}
    assert sorted(pem) == ["ca.crt", "tls.crt", "tls.key"]
    leaf = x509.load_pem_x509_certificate(pem["tls.crt"])
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(pem["ca.crt"]))
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_gateway_has_a_certificate_while_the_mesh_config_asks_for_it(
    bookstore: ClusterNode,
) -> None:
    gateway = {
        "subjectAltNames": ["gateway.edge.cluster.local", "spiffe://cluster.local/gateway/edge"],
        "validityDuration": "1h",
        "secret": {"name": "gateway", "namespace": "bookbuyer"},
    }
    place = "bookbuyer/gateway"
    ask_for(bookstore, gateway)
    bookstore.wait_until(lambda: set(secrets(bookstore)) == {place}, SECONDS)
    assert names(secrets(bookstore)[place]) == gateway["subjectAltNames"]
    ask_for(bookstore, gateway | {"subjectAltNames": ["other.edge"]})
    bookstore.wait_until(lambda: names(secrets(bookstore)[place]) == ["other.edge"], SECONDS)
    ask_for(bookstore, None)
    bookstore.wait_until(lambda: secrets(bookstore) == {}, SECONDS)


def test_kubectl_shows_which_policies_are_in_force(bookstore: ClusterNode) -> None:
    second = SETTING | {"metadata": SETTING["metadata"] | {"name": "second"}}

    def statuses() -> dict[str, str]:
        found = bookstore.get("upstreamtrafficsettings", namespace="bookstore")
        return {
            one["metadata"]["name"]: one.get("status", {}).get("currentStatus", "") for one in found
        }

    bookstore.create(SETTING, second)
    try:
        both = {"limits": "committed", "second": "error"}
        bookstore.wait_until(lambda: statuses() == both, SECONDS)
        bookstore.kubectl("delete", "upstreamtrafficsetting", "limits", "-n", "bookstore")
        bookstore.wait_until(lambda: statuses() == {"second": "committed"}, SECONDS)
    finally:
        bookstore.kubectl("delete", "upstreamtrafficsettings", "--all", "-n", "bookstore")
