"""A real Envoy and a control plane that restarts: nothing is sent again, nothing is taken away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import pytest
import xds_cases
import xds_certificates
from envoy_harness.netns import Namespace, namespace
from envoy_harness.process import RealEnvoy, ads_over_tls
from fakes.mesh_view import FakeIdentity, FakeReader, Notebook

from xds.builders.assemble import assemble
from xds.cache import BuildCache
from xds.policy.identity import Issuer, ProxyId
from xds.resource import ResourceKind, ResourceSet
from xds.server.hub import Hub
from xds.server.ports import ServerIdentity
from xds.server.serve import AdsServer

PROXY = ProxyId(uuid=str(UUID(int=7)), identity=xds_cases.STORE)
WARMING = {
    "cluster_manager.warming_clusters": 0,
    "listener_manager.total_listeners_warming": 0,
}


class SotwEnvoy(RealEnvoy):
    """As sidecars of earlier releases: state of the world."""

    def _bootstrap(self) -> dict[str, object]:
        found = super()._bootstrap()
        found["dynamic_resources"]["ads_config"]["api_type"] = "GRPC"  # type: ignore[index]
        return found


class ControlPlane:
    """A server that a test restarts on the same port."""

    def __init__(self, inner: Namespace) -> None:
        self.inner = inner
        self._port = 0
        self._sets: dict[str, ResourceSet] = {}
        pair = xds_certificates.issue_name("ads.cluster.local")
        self._identity = ServerIdentity(
            certificate_chain=pair.certificate_chain,
            private_key=pair.private_key,
            roots=xds_certificates.ROOT,
        )

    @contextmanager
    def running(self) -> Iterator[int]:
        """It runs within the block; the port."""
        reader, self.notes = FakeReader(), Notebook()
        reader.sets = self._sets
        self.hub = Hub(reader, self.notes)
        server = AdsServer(
            self.hub, FakeIdentity(self._identity), host="127.0.0.1", port=self._port
        )
        self._port = self.inner.call(server.start)
        try:
            yield self._port
        finally:
            server.stop(0)

    def publish(self, case: xds_cases.Case) -> ResourceSet:
        """The sidecar is to have this, and takes it."""
        found = assemble(case.policy, case.endpoints, case.secrets, BuildCache())
        assert found is not None
        self._sets[PROXY.uuid] = found
        self.hub.wake()
        return found

    def await_all(self, target: ResourceSet) -> None:
        """The sidecar has asked for every kind of the set and taken it."""
        for kind in kinds(target):
            self.notes.wait_for("acked", PROXY.uuid, kind, target.versions[kind])
        assert self.hub.wait_until_settled(10)

    def noted(self, what: str) -> list[tuple[object, ...]]:
        return [note for note in self.notes.notes if note[0] == what]


@pytest.fixture
def control_plane() -> Iterator[ControlPlane]:
    with namespace() as inner:
        yield ControlPlane(inner)


def sidecar(
    control_plane: ControlPlane, port: int, directory: Path, kind: type[RealEnvoy] = RealEnvoy
) -> RealEnvoy:
    client = xds_certificates.issue_name(Issuer().proxy_dns_name(PROXY))
    ads = ads_over_tls(port, client, xds_certificates.ROOT)
    return kind(directory, prefix=control_plane.inner.prefix, ads=ads, node_id=PROXY.uuid)


def kinds(target: ResourceSet) -> list[ResourceKind]:
    """Kinds of which the set has something: the others are not asked for by name."""
    return [kind for kind in ResourceKind if next(target.names(kind), None) is not None]


@pytest.mark.envoy
@pytest.mark.root
def test_a_restarted_control_plane_sends_nothing_to_who_has_it(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with control_plane.running() as port:
            envoy = stack.enter_context(sidecar(control_plane, port, tmp_path))
            target = control_plane.publish(xds_cases.permissive_http())
            control_plane.await_all(target)
        with control_plane.running():
            for kind in kinds(target):
                control_plane.notes.wait_for("requested", PROXY.uuid, kind)
            assert control_plane.hub.wait_until_settled(10)
            assert control_plane.noted("sent") == []
            (status,) = control_plane.hub.ledger.statuses()
            taken = {kind: one.acked_version for kind, one in status.kinds.items()}
            assert taken == {kind: target.versions[kind] for kind in kinds(target)}
            envoy.await_stats("warming", WARMING)


@pytest.mark.envoy
@pytest.mark.root
def test_sidecars_of_earlier_releases_take_every_configuration(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    with (
        control_plane.running() as port,
        sidecar(control_plane, port, tmp_path, SotwEnvoy) as envoy,
    ):
        for name in [*xds_cases.CASES, next(iter(xds_cases.CASES))]:
            control_plane.publish(xds_cases.CASES[name]())
            control_plane.notes.wait_for("connected", PROXY.uuid)
            assert control_plane.hub.wait_until_settled(10), name
            envoy.await_stats("warming", WARMING)
        assert control_plane.noted("nacked") == []
