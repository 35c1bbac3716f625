"""A real Envoy takes every golden configuration over a real ADS stream, without a NACK."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import xds_cases
from envoy_harness.feeder import AdsFeeder
from envoy_harness.process import RealEnvoy

from xds.builders import names
from xds.builders.assemble import assemble
from xds.cache import BuildCache
from xds.resource import ResourceKind, ResourceSet

# Fixed ports of the sidecar must not meet those of another case: each Envoy has its own network.
ISOLATED = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "-rn"]
# Successors of these fields are missing from the Python messages (data-plane appendix D).
KEPT_DEPRECATED = {"envoy.extensions.access_loggers.stats.v3.Config.stat_prefix"}
EXPECTED_WARNING = "There is no configured limit to the number of allowed active downstream"


def built(name: str) -> ResourceSet:
    case = xds_cases.CASES[name]()
    found = assemble(case.policy, case.endpoints, case.secrets, BuildCache())
    assert found is not None
    return found


def asked_for(found: ResourceSet) -> set[ResourceKind]:
    """Kinds of which Envoy asks for something: of secrets only where a chain or cluster has TLS."""
    kinds = {kind for kind in ResourceKind if next(found.names(kind), None) is not None}
    serves = found.get(ResourceKind.LDS, names.INBOUND_LISTENER) is not None
    return kinds if serves or ResourceKind.EDS in kinds else kinds - {ResourceKind.SDS}


@pytest.mark.envoy
@pytest.mark.parametrize("name", sorted(xds_cases.CASES))
def test_case_is_accepted(name: str, tmp_path: Path) -> None:
    found = built(name)
    envoy = RealEnvoy(tmp_path, prefix=ISOLATED)
    with AdsFeeder(envoy.ads_socket) as feeder, envoy:
        feeder.feed(r for kind in ResourceKind for r in found.resources(kind))
        assert feeder.settled(asked_for(found)) == []
        active = len(list(found.names(ResourceKind.LDS)))
        envoy.await_stats(
            "listener_manager",
            {
                "listener_manager.total_listeners_active": active,
                "listener_manager.total_listeners_warming": 0,
            },
        )
        envoy.await_stats("cluster_manager", {"cluster_manager.warming_clusters": 0})
    assert complaints(envoy.log.read_text()) == []


def complaints(log: str) -> list[str]:
    """Warnings and errors, but for deprecated fields that are kept on purpose."""
    lines = [line for line in log.splitlines() if re.search(r"\[(warning|error|critical)\]", line)]
    return [
        line
        for line in lines
        if EXPECTED_WARNING not in line and not any(field in line for field in KEPT_DEPRECATED)
    ]
