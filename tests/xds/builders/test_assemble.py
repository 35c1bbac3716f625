"""A change rebuilds what depends on it and nothing else; what proxies share is one object."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import replace

import pytest
import xds_cases
import xds_certificates

from xds.builders import assemble as assembly
from xds.builders.assemble import (
    assemble,
    assemble_endpoints,
    assemble_policy,
    assemble_trust,
    faults,
)
from xds.cache import BuildCache
from xds.policy.identity import ServiceIdentity
from xds.policy.proxy import SecretTable, TrustBundle
from xds.policy.traffic import DeniedPort, Inbound
from xds.resource import Layer, ResourceError, ResourceKind, ResourceSet

STORE = xds_cases.STORE
KINDS = tuple(ResourceKind)


def build(case: xds_cases.Case, cache: BuildCache) -> ResourceSet:
    found = assemble(case.policy, case.endpoints, case.secrets, cache)
    assert found is not None
    return found


def changed(before: ResourceSet, after: ResourceSet) -> set[ResourceKind]:
    return {kind for kind in KINDS if before.versions[kind] != after.versions[kind]}


def built_by(cache: BuildCache, case: xds_cases.Case) -> tuple[ResourceSet, Counter[str]]:
    before = cache.built.copy()
    found = build(case, cache)
    return found, cache.built - before


@pytest.fixture
def case() -> xds_cases.Case:
    return xds_cases.permissive_http()


@pytest.fixture
def cache() -> BuildCache:
    return BuildCache()


def test_same_inputs_give_the_same_set(case: xds_cases.Case, cache: BuildCache) -> None:
    first = build(case, cache)
    again, built = built_by(cache, case)
    assert again is first
    assert built == {}


def test_equal_policy_gives_the_same_set(case: xds_cases.Case, cache: BuildCache) -> None:
    first = build(case, cache)
    again, built = built_by(cache, replace(case, policy=xds_cases.permissive_http().policy))
    assert again is first
    assert built == {}


def test_no_certificate_no_set(case: xds_cases.Case, cache: BuildCache) -> None:
    nobody = replace(case.secrets, workloads={})
    assert assemble(case.policy, case.endpoints, nobody, cache) is None
    assert cache.built == {}


def test_endpoint_rebuilds_one_assignment(case: xds_cases.Case, cache: BuildCache) -> None:
    first = build(case, cache)
    moved = {"bookstore/bookstore": (xds_cases.endpoint(STORE, 7, 8080),)}
    endpoints = xds_cases.FixedEndpoints(by_name={**case.endpoints.by_name, **moved})
    second, built = built_by(cache, replace(case, endpoints=endpoints))
    assert changed(first, second) == {ResourceKind.EDS}
    assert built == {"build_load_assignment": 1, "Layer": 1, "ResourceSet": 1}


def test_endpoint_of_a_stranger_rebuilds_nothing(case: xds_cases.Case, cache: BuildCache) -> None:
    first = build(case, cache)
    moved = {"elsewhere/service": (xds_cases.endpoint(STORE, 7, 8080),)}
    endpoints = xds_cases.FixedEndpoints(by_name={**case.endpoints.by_name, **moved})
    second, built = built_by(cache, replace(case, endpoints=endpoints))
    assert second is first
    assert built == {}


def test_certificate_rebuilds_one_secret(case: xds_cases.Case, cache: BuildCache) -> None:
    first = build(case, cache)
    renewed = replace(case.secrets, workloads={STORE: xds_certificates.issue(STORE)})
    second, built = built_by(cache, replace(case, secrets=renewed))
    assert changed(first, second) == {ResourceKind.SDS}
    assert built == {"build_service_certificate": 1, "Layer": 1, "ResourceSet": 1}


def test_roots_rebuild_validation_secrets(case: xds_cases.Case, cache: BuildCache) -> None:
    first = build(case, cache)
    two = TrustBundle(roots=xds_certificates.ROOT * 2)
    second, built = built_by(cache, replace(case, secrets=replace(case.secrets, trust=two)))
    assert changed(first, second) == {ResourceKind.SDS}
    assert built == {
        "build_outbound_trust": 3,
        "build_inbound_trust": 1,
        "Layer": 1,
        "ResourceSet": 1,
    }


def test_split_weight_rebuilds_one_route_configuration(cache: BuildCache) -> None:
    case = xds_cases.split_http()
    first = build(case, cache)
    (port,) = case.policy.outbound.http
    host, *others = port.hosts
    light, *rest = host.rule.upstreams
    heavier = replace(host.rule, upstreams=(replace(light, weight=99), *rest))
    hosts = (replace(host, rule=heavier), *others)
    outbound = replace(case.policy.outbound, http=(replace(port, hosts=hosts),))
    second, built = built_by(cache, replace(case, policy=replace(case.policy, outbound=outbound)))
    assert changed(first, second) == {ResourceKind.RDS}
    assert built == {"build_outbound_routes": 1, "Layer": 1, "ResourceSet": 1}


def test_rules_of_http_rebuild_routes_only(cache: BuildCache) -> None:
    case = xds_cases.smi_http_two_callers()
    first = build(case, cache)
    port, *others = case.policy.inbound.http
    (host,) = port.hosts
    fewer = replace(port, hosts=(replace(host, rules=host.rules[1:]),))
    inbound = Inbound(http=(fewer, *others), tcp=())
    second, built = built_by(cache, replace(case, policy=replace(case.policy, inbound=inbound)))
    assert changed(first, second) == {ResourceKind.RDS}
    assert built == {"build_inbound_routes": 1, "Layer": 1, "ResourceSet": 1}


def test_identities_share_what_is_not_their_own(case: xds_cases.Case, cache: BuildCache) -> None:
    other = ServiceIdentity(namespace="bookstore", service_account="other")
    pairs = {STORE: xds_certificates.PAIR, other: xds_certificates.issue(other)}
    secrets = SecretTable(trust=xds_certificates.TRUST, workloads=pairs)
    first = build(replace(case, secrets=secrets), cache)
    twin = replace(case.policy, identity=other)
    second = build(replace(case, policy=twin, secrets=secrets), cache)
    same = [a is b for a, b in zip(first.layers, second.layers, strict=True)]
    assert same == [True, True, True, True, True, False]


def test_unsound_part_is_left_out_and_named(case: xds_cases.Case, cache: BuildCache) -> None:
    outbound = replace(case.policy.outbound, denied=(DeniedPort(port=0, addresses=("10.0.0.1",)),))
    inbound = replace(case.policy.inbound, http=(*case.policy.inbound.http[:1] * 2,))
    unsound = replace(case.policy, outbound=outbound, inbound=inbound)
    found = build(replace(case, policy=unsound), cache)
    assert list(found.names(ResourceKind.RDS)) == [
        "rds-outbound.14001",
        "rds-outbound.80",
        "rds-outbound.9000",
        "rds-inbound.8080",
    ]
    assert [fault.unit for fault in faults(unsound, cache)] == [
        "inbound_bookstore/bookstore_8080_http",
        "rds-inbound.8080",
        "outbound-mesh-denied.0",
    ]
    assert faults(case.policy, cache) == ()


def test_public_parts_are_those_of_the_set(case: xds_cases.Case, cache: BuildCache) -> None:
    outbound = case.policy.outbound
    assert build(case, cache).layers[:5] == (
        *assemble_policy(case.policy, cache),
        assemble_endpoints(outbound, case.endpoints, cache),
        assemble_trust(outbound, case.secrets.trust, cache),
    )


def test_two_ports_with_one_target_share_a_cluster(cache: BuildCache) -> None:
    first, second = (xds_cases.service("shop/web", port, target=8080) for port in (80, 81))
    outbound = replace(
        xds_cases.NOTHING_OUT,
        upstreams=(xds_cases.upstream(first, STORE), xds_cases.upstream(second, STORE)),
    )
    found = build(xds_cases.case(xds_cases.policy(STORE, outbound=outbound)), cache)
    assert list(found.names(ResourceKind.CDS)) == ["shop/web|8080"]
    assert list(found.names(ResourceKind.EDS)) == ["shop/web|8080"]


def test_members_of_a_service_with_other_names_are_all_believed(cache: BuildCache) -> None:
    base, member = xds_cases.service("shop/q", 80), xds_cases.service("shop/q-0.q", 80)
    outbound = replace(
        xds_cases.NOTHING_OUT,
        upstreams=(
            xds_cases.upstream(base, STORE),
            xds_cases.upstream(member, STORE, xds_cases.BUYER),
        ),
    )
    found = build(xds_cases.case(xds_cases.policy(STORE, outbound=outbound)), cache)
    secret = found.get(ResourceKind.SDS, "root-cert-for-mtls-outbound:shop/q")
    assert secret is not None
    assert secret.body.count(b"bookstore.bookstore.cluster.local") == 1
    assert secret.body.count(b"bookbuyer.bookbuyer.cluster.local") == 1


@pytest.mark.parametrize(
    "counts", [pytest.param(True, id="counted"), pytest.param(False, id="not")]
)
def test_workload_is_in_the_listener_only_where_requests_are_counted(
    case: xds_cases.Case, cache: BuildCache, counts: bool
) -> None:
    who = replace(case.policy, request_metrics=counts)
    other = replace(who, workload=xds_cases.workload(xds_cases.BUYER))
    first, second = (build(replace(case, policy=p), cache) for p in (who, other))
    assert changed(first, second) == ({ResourceKind.LDS} if counts else set())


@pytest.mark.parametrize("name", sorted(xds_cases.CASES))
def test_nothing_outlives_its_policy_and_set(name: str) -> None:
    cache = BuildCache()
    case = xds_cases.CASES[name]()
    # Copies: the empty policies of the cases are constants and never die.
    outbound, inbound = replace(case.policy.outbound), replace(case.policy.inbound)
    case = replace(case, policy=replace(case.policy, outbound=outbound, inbound=inbound))
    build(case, cache)
    faults(case.policy, cache)
    del case, outbound, inbound
    gc.collect()
    cache.sweep()
    gc.collect()
    assert len(cache) == 0


def test_dangling_reference_is_an_error() -> None:
    with pytest.raises(ResourceError, match=r"CDS resources \['shop/web\|80'\] .* not built"):
        assembly._check(ResourceKind.CDS, ["shop/web|80"], Layer(()))
