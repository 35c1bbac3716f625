"""The gateway's Secret on a real API server: written, renewed by patch, moved; keys never read."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factory
import pytest
from kube_server import KubeServer
from until import until

from app.certs.builtin import ca_secret_key, open_builtin_ca
from app.certs.manager import Certificates
from app.certs.x509 import describe
from app.compute.kube_client import KubeClient
from app.compute.kube_objects import KubeWriter
from app.compute.kube_watch import KubeSource
from app.controller.gateway import GatewayScope, GatewaySecret
from app.controller.runtime import SystemClock
from app.controller.secrets import BootstrapSecrets
from app.events import Event
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.objects.meta import ObjectKind, RawObject

pytestmark = pytest.mark.kube

NAMES = ["gateway.edge.cluster.local", "spiffe://cluster.local/gateway/edge"]


class Desk:
    """A mesh in a namespace of its own, its job, and all that its source told."""

    def __init__(self, kube: KubeServer) -> None:
        self.kube = kube
        self.edge = kube.new_namespace("gateway-edge")
        self.told: list[Event] = []
        self.snapshot: MeshSnapshot | None = None
        self.secrets = BootstrapSecrets(Metrics())
        client = KubeClient.from_kubeconfig(kube.kubeconfig())
        writer = KubeWriter(client)
        root = ca_secret_key(kube.new_namespace("gateway-mesh"), "osm-ca-bundle")
        clock = SystemClock()
        ca = open_builtin_ca(writer, clock, secret=root)
        self.job = GatewaySecret(
            self.secrets,
            Certificates(ca, clock, post=lambda _: None, metrics=Metrics()),
            clock,
            writer=writer,
            snapshot=lambda: self.snapshot,
            scope=GatewayScope(mesh_name="gateway-mesh", root=root),
        )
        self.source = KubeSource(
            client, Metrics(), osm_namespace="osm-system", config_name="osm-mesh-config"
        )

    def take(self, event: Event) -> None:
        self.told.append(event)
        self.secrets.take(event)

    def ask_for(self, *names: str, secret: str = "tls") -> None:
        gateway = {
            "subjectAltNames": list(names),
            "validityDuration": "1h",
            "secret": {"name": secret, "namespace": self.edge},
        }
        certificate: dict[str, Any] = {"ingressGateway": gateway} if names else {}
        self.snapshot = factory.snapshot(factory.mesh_config(certificate=certificate))

    def stored(self) -> dict[str, RawObject]:
        """Secrets at the edge, by name."""
        items = self.kube.call("GET", f"/api/v1/namespaces/{self.edge}/secrets")["items"]
        return {one["metadata"]["name"]: one for one in items if one["type"] == "kubernetes.io/tls"}

    def becomes(self, *names: str) -> None:
        """After some steps these are the Secrets, and the source has told of them."""

        def holds() -> bool:
            self.job.step(lambda: True)
            told = {key.name for key in self.secrets.gateways() if key.namespace == self.edge}
            return set(self.stored()) == set(names) == told

        until(holds, f"{names} at the edge")


@pytest.fixture
def desk(kube: KubeServer) -> Iterator[Desk]:
    made = Desk(kube)
    made.source.start(made.take, {ObjectKind.SECRET, ObjectKind.POD})
    try:
        until(lambda: made.secrets.synced, "the end of the first list")
        yield made
    finally:
        made.source.stop()


def test_secret_is_written_renewed_moved_and_deleted(desk: Desk, tmp_path: Path) -> None:
    desk.ask_for(*NAMES)
    desk.becomes("tls")
    first = desk.stored()["tls"]
    pem = {name: base64.b64decode(text) for name, text in first["data"].items()}
    leaf = describe(pem["tls.crt"])
    assert [*leaf.dns_names, *leaf.uris] == NAMES
    load_as_a_gateway_does(pem, tmp_path)
    desk.becomes("tls")
    assert (
        desk.stored()["tls"]["metadata"]["resourceVersion"]
        == (first["metadata"]["resourceVersion"])
    )
    desk.ask_for("other.edge")
    desk.becomes("tls")
    renewed = desk.stored()["tls"]
    assert describe(base64.b64decode(renewed["data"]["tls.crt"])).dns_names == ("other.edge",)
    assert renewed["metadata"]["uid"] == first["metadata"]["uid"]
    desk.ask_for("other.edge", secret="moved")
    desk.becomes("moved")
    desk.ask_for()
    desk.becomes()
    assert not any(first["data"]["tls.key"] in repr(event) for event in desk.told)


def load_as_a_gateway_does(pem: dict[str, bytes], folder: Path) -> None:
    """The files are a client's certificate with its key, and roots to check servers with."""
    for name, content in pem.items():
        (folder / name).write_bytes(content)
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
