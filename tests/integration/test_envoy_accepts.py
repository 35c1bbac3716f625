"""A real Envoy takes every golden configuration over a real ADS stream, without a NACK."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import xds_cases
from envoy_harness.feeder import AdsFeeder
from envoy_harness.process import RealEnvoy

from xds.builders import names
from xds.builders.assemble import assemble
from xds.builders.tls import CIPHER_SUITES, CURVES
from xds.cache import BuildCache
from xds.policy.http import HeaderMatch, HttpMatch
from xds.policy.proxy import TlsParameters
from xds.policy.service import Workload
from xds.policy.traffic import Inbound, InboundRule
from xds.resource import ResourceKind, ResourceSet

# Fixed ports of the sidecar must not meet those of another case: each Envoy has its own network.
ISOLATED = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "-rn"]
# Successors of these fields are missing from the Python messages (data-plane appendix D).
KEPT_DEPRECATED = {"envoy.extensions.access_loggers.stats.v3.Config.stat_prefix"}
EXPECTED_WARNING = "There is no configured limit to the number of allowed active downstream"


def asked_for(found: ResourceSet) -> set[ResourceKind]:
    """Kinds of which Envoy asks for something: of secrets only where a chain or cluster has TLS."""
    kinds = {kind for kind in ResourceKind if next(found.names(kind), None) is not None}
    serves = found.get(ResourceKind.LDS, names.INBOUND_LISTENER) is not None
    return kinds if serves or ResourceKind.EDS in kinds else kinds - {ResourceKind.SDS}


@pytest.mark.envoy
@pytest.mark.parametrize("name", sorted(xds_cases.CASES))
def test_case_is_accepted(name: str, tmp_path: Path) -> None:
    assert_accepted(xds_cases.CASES[name](), tmp_path)


def assert_accepted(case: xds_cases.Case, directory: Path) -> None:
    found = assemble(case.policy, case.endpoints, case.secrets, BuildCache())
    assert found is not None
    envoy = RealEnvoy(directory, prefix=ISOLATED)
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


@pytest.mark.envoy
def test_every_known_tls_name_is_accepted(tmp_path: Path) -> None:
    case = xds_cases.permissive_http()
    every = TlsParameters(
        cipher_suites=tuple(sorted(CIPHER_SUITES)), ecdh_curves=tuple(sorted(CURVES))
    )
    assert_accepted(replace(case, policy=replace(case.policy, tls=every)), tmp_path)


@pytest.mark.envoy
def test_what_envoy_would_refuse_does_not_reach_it(tmp_path: Path) -> None:
    case = xds_cases.smi_http_two_callers()
    (first, *rest), policy = case.policy.inbound.http, case.policy
    (host,) = first.hosts
    poison = [
        HttpMatch(path=""),
        HttpMatch(headers=(HeaderMatch(name="", pattern="x"),)),
        HttpMatch(headers=(HeaderMatch(name="x\n", pattern=""),)),
    ]
    rules = tuple(InboundRule(match=m, principals=xds_cases.peers(xds_cases.BUYER)) for m in poison)
    port = replace(first, hosts=(replace(host, rules=(*rules, *host.rules)), host))
    inbound = Inbound(http=(port, port, replace(port, target=0), *rest), tcp=())
    tls = TlsParameters(cipher_suites=("NOPE",), ecdh_curves=("NOPE",))
    nameless = Workload(namespace="", kind="", name="%")
    poisoned = replace(policy, inbound=inbound, tls=tls, workload=nameless)
    assert_accepted(replace(case, policy=poisoned), tmp_path)


def complaints(log: str) -> list[str]:
    """Warnings and errors, but for deprecated fields that are kept on purpose."""
    lines = [line for line in log.splitlines() if re.search(r"\[(warning|error|critical)\]", line)]
    return [
        line
        for line in lines
        if EXPECTED_WARNING not in line and not any(field in line for field in KEPT_DEPRECATED)
    ]
