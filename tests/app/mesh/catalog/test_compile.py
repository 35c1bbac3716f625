"""Policies of profiles: what they are made of, what they share, what they cost."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import factory
import pytest
import snapshots

from app.mesh.catalog.access import ANYBODY
from app.mesh.catalog.compile import Catalog, compile_policy
from app.mesh.catalog.inbound import compile_inbound
from app.mesh.catalog.outbound import OutboundCompiler
from app.mesh.profiles import profile_of
from app.mesh.snapshot import MeshSnapshot
from app.objects.config import MeshConfigSpec
from xds.policy.identity import Issuers
from xds.policy.proxy import ProxyPolicy, ProxyProfile, TlsParameters

CART, MAIL = snapshots.view("shop/cart", "10.0.0.1"), snapshots.view("post/mail", "10.0.0.2")
GRANTED = snapshots.access("post/mail", "shop/cart")
PROFILE = snapshots.profile("shop/cart", CART.service, scrape=True)


def test_policy_is_the_sum_of_its_parts() -> None:
    config = {
        "sidecar": {
            "tlsMinProtocolVersion": "TLSv1_3",
            "cipherSuites": ["A"],
            "ecdhCurves": ["P-256"],
        },
        "featureFlags": {"enableWASMStats": True},
    }
    mesh = snapshots.mesh(CART, MAIL, granted=[GRANTED], config=config, dns_suffix="lan.test")
    assert compile_policy(mesh, PROFILE) == ProxyPolicy(
        identity=PROFILE.identity,
        workload=PROFILE.workload,
        inbound=compile_inbound(mesh, PROFILE.identity, PROFILE.services),
        outbound=OutboundCompiler(mesh).compile(
            frozenset({snapshots.identity("post/mail")}), "shop"
        ),
        tls=TlsParameters(
            min_version="TLSv1_3",
            max_version="TLSv1_3",
            cipher_suites=("A",),
            ecdh_curves=("P-256",),
        ),
        scrape=True,
        request_metrics=True,
        dns_suffix="lan.test",
    )


def test_permissive_mode_ignores_rules() -> None:
    mesh = snapshots.mesh(CART, MAIL, granted=[GRANTED], permissive=True)
    policy = compile_policy(mesh, PROFILE)
    assert [up.service for up in policy.outbound.upstreams] == [MAIL.service, CART.service]
    assert policy.inbound.http[0].hosts[0].rules == ANYBODY


def test_backend_of_weight_zero_knows_its_root_and_gets_nothing() -> None:
    names = ("root", "v1", "v2")
    mesh = factory.snapshot(
        factory.namespace("shop"),
        factory.permissive(),
        *(factory.service(f"shop/{name}") for name in names),
        *(factory.pod(f"shop/{name}") for name in names),
        factory.traffic_split("shop/s", {"v1": 1, "v2": 0}, root="root"),
    )
    pods = {pod.name: pod for pod in mesh.workloads.pods.values()}
    policies = {name: compile_policy(mesh, profile_of(pods[name])) for name in names}
    hosts = {name: policies[name].inbound.http[0].hosts for name in names}
    assert {name: [host.service.name for host in hosts[name]] for name in names} == {
        "root": ["root"],
        "v1": ["root", "v1"],
        "v2": ["root", "v2"],
    }
    assert "root.shop" in hosts["v2"][0].domains
    (port,) = policies["v1"].outbound.http
    weights = {
        host.rule.service.name: {one.service.name: one.weight for one in host.rule.upstreams}
        for host in port.hosts
    }
    assert weights == {"root": {"v1": 1}, "v1": {"v1": 100}, "v2": {"v2": 100}}


def test_permissive_profiles_of_a_namespace_share_their_outbound() -> None:
    catalog = Catalog(snapshots.mesh(CART, MAIL, permissive=True))
    outbound = [
        catalog.compile(snapshots.profile(who)).outbound
        for who in ("shop/cart", "shop/other", "post/mail")
    ]
    assert outbound[0] is outbound[1]
    assert outbound[0] is not outbound[2]
    assert outbound[0].upstreams is outbound[2].upstreams


def test_identities_share_upstreams() -> None:
    granted = [
        snapshots.access("post/mail", "shop/cart", "shop/other", "post/spam"),
        snapshots.access("shop/cart", "shop/other"),
    ]
    catalog = Catalog(snapshots.mesh(CART, MAIL, granted=granted))
    one, two, three = (
        catalog.compile(snapshots.profile(who)).outbound.upstreams[0]
        for who in ("shop/cart", "shop/other", "post/spam")
    )
    assert one is two
    assert one is three


@pytest.mark.parametrize(
    ("changed", "served"),
    [
        pytest.param({"revision": 2}, True, id="revision"),
        pytest.param({"endpoints": snapshots.mesh().endpoints}, True, id="endpoints"),
        pytest.param({"workloads": snapshots.mesh().workloads}, True, id="workloads"),
        pytest.param({"config": MeshConfigSpec()}, False, id="config"),
        pytest.param({"issuers": Issuers()}, False, id="issuers"),
        pytest.param({"services": snapshots.mesh().services}, False, id="services"),
        pytest.param({"rules": snapshots.mesh().rules}, False, id="rules"),
        pytest.param({"dns_suffix": "other"}, False, id="dns-suffix"),
    ],
)
def test_catalog_serves_snapshots_with_its_parts(changed: dict[str, object], served: bool) -> None:
    mesh = snapshots.mesh(CART)
    assert Catalog(mesh).serves(replace(mesh, **changed)) is served  # type: ignore[arg-type]


def large_mesh(*, permissive: bool) -> tuple[MeshSnapshot, list[ProxyProfile]]:
    """200 services in 20 namespaces; every identity calls ten of them."""
    names = [f"ns{n % 20}/svc{n}" for n in range(200)]
    views = [snapshots.view(name, f"10.0.{n // 250}.{n + 1}") for n, name in enumerate(names)]
    granted = [
        snapshots.access(name, *(names[(n + k) % 200] for k in range(10)))
        for n, name in enumerate(names)
    ]
    profiles = [snapshots.profile(n, v.service) for n, v in zip(names, views, strict=True)]
    return snapshots.mesh(*views, granted=granted, permissive=permissive, egress=True), profiles


@pytest.mark.serial
@pytest.mark.parametrize(("permissive", "limit_seconds"), [(False, 0.2), (True, 0.3)])
def test_large_mesh_compiles_in_time(permissive: bool, limit_seconds: float) -> None:
    mesh, profiles = large_mesh(permissive=permissive)
    taken = []
    for _ in range(3):
        started = time.process_time()
        catalog = Catalog(mesh)
        policies = [catalog.compile(profile) for profile in profiles]
        taken.append(time.process_time() - started)
    slowed_down = 4 if sys.gettrace() else 1  # a test run that measures coverage
    assert min(taken) < limit_seconds * slowed_down
    assert {len(policy.outbound.upstreams) for policy in policies} == {200 if permissive else 10}
