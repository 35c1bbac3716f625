"""A real Envoy lives through every golden configuration, by the real server over mutual TLS."""

from __future__ import annotations

import itertools
from pathlib import Path
from uuid import UUID

import pytest
import xds_cases
import xds_certificates
from envoy_harness.netns import namespace
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


def server_identity() -> ServerIdentity:
    pair = xds_certificates.issue_name("ads.cluster.local")
    return ServerIdentity(
        certificate_chain=pair.certificate_chain,
        private_key=pair.private_key,
        roots=xds_certificates.ROOT,
    )


def configurations() -> list[ResourceSet]:
    """Each case once, then the first again: every listener comes, changes and goes."""
    cache = BuildCache()
    found = []
    for name in [*xds_cases.CASES, next(iter(xds_cases.CASES))]:
        case = xds_cases.CASES[name]()
        built = assemble(case.policy, case.endpoints, case.secrets, cache)
        assert built is not None
        found.append(built)
    return found


@pytest.mark.envoy
@pytest.mark.root
def test_no_change_of_configuration_is_refused(tmp_path: Path) -> None:
    reader, notes = FakeReader(), Notebook()
    hub = Hub(reader, notes)
    with namespace() as inner:
        server = AdsServer(hub, FakeIdentity(server_identity()), host="127.0.0.1", port=0)
        port = inner.call(server.start)
        client = xds_certificates.issue_name(Issuer().proxy_dns_name(PROXY))
        ads = ads_over_tls(port, client, xds_certificates.ROOT)
        try:
            with RealEnvoy(tmp_path, prefix=inner.prefix, ads=ads, node_id=PROXY.uuid) as envoy:
                for number, found in zip(itertools.count(), configurations()):
                    reader.sets[PROXY.uuid] = found
                    hub.wake()
                    notes.wait_for("connected", PROXY.uuid)
                    assert hub.wait_until_settled(10), (number, notes.notes[-10:])
                    listeners = sum(1 for _ in found.names(ResourceKind.LDS))
                    envoy.await_stats(
                        "listener_manager",
                        {
                            "listener_manager.total_listeners_active": listeners,
                            "listener_manager.total_listeners_warming": 0,
                        },
                    )
        finally:
            server.stop(0)
    assert [note for note in notes.notes if note[0] in ("nacked", "refused")] == []
