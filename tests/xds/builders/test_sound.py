"""What Envoy would refuse is dropped in the smallest unit, and named; the rest stays as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import xds_cases

from xds.builders.sound import Fault, repair_inbound, repair_outbound, repair_tls
from xds.policy.egress import (
    Egress,
    EgressCluster,
    EgressHost,
    EgressHttp,
    EgressProtocol,
    EgressRoute,
    EgressStream,
)
from xds.policy.http import HeaderMatch, HttpMatch
from xds.policy.proxy import TlsParameters
from xds.policy.service import MeshService, Protocol
from xds.policy.settings import Mirror, RoutePolicy
from xds.policy.traffic import (
    DeniedPort,
    Inbound,
    InboundHttp,
    InboundHttpPort,
    InboundRule,
    InboundTcp,
    Outbound,
    OutboundHost,
    OutboundHttpPort,
    OutboundTcp,
    TcpPermission,
    WeightedUpstream,
)

BUYER = xds_cases.BUYER
WEB, OTHER = xds_cases.service("shop/web", 80), xds_cases.service("shop/other", 80)
DB = xds_cases.service("shop/db", 6379, Protocol.TCP)
WEB_HOST, OTHER_HOST = (xds_cases.outbound_host(xds_cases.rule(s)) for s in (WEB, OTHER))
UPSTREAMS = tuple(xds_cases.upstream(s, BUYER) for s in (DB, OTHER, WEB))
BASE = replace(xds_cases.NOTHING_OUT, upstreams=UPSTREAMS)
PORT = OutboundHttpPort(port=80, addresses=("10.0.0.1",), hosts=(WEB_HOST,))
TCP = OutboundTcp(rule=xds_cases.rule(DB), addresses=("10.0.0.2",))
SERVED = xds_cases.inbound_host(WEB, xds_cases.anyone())
SERVED_PORT = xds_cases.inbound_port(SERVED)


@pytest.mark.parametrize("name", sorted(xds_cases.CASES))
def test_sound_policy_is_left_alone(name: str) -> None:
    policy = xds_cases.CASES[name]().policy
    assert repair_outbound(policy.outbound) is None
    assert repair_inbound(policy.inbound) is None


def leaving(*routes: EgressRoute, names: tuple[str, ...] = (), cluster: str = "90") -> Outbound:
    host = EgressHost(name="a.test", domains=("a.test",), routes=routes)
    stream = EgressStream(
        port=90,
        protocol=EgressProtocol.HTTPS,
        server_names=names,
        cluster=cluster,
        granted_by="shop/out",
    )
    egress = Egress(
        clusters=(EgressCluster(name="90", port=90),),
        http=(EgressHttp(port=90, hosts=(host,), normalize_paths=False),),
        streams=(stream,),
    )
    return replace(BASE, egress=egress)


def route(path: str, cluster: str = "90") -> EgressRoute:
    return EgressRoute(match=HttpMatch(path=path), cluster=cluster, granted_by=("shop/out",))


@pytest.mark.parametrize(
    ("faulty", "sound", "faults"),
    [
        pytest.param(
            leaving(route("/a"), route("/b", "gone"), route("")),
            leaving(route("/a")),
            ["egress-http.90 host a.test", "egress-http.90 host a.test"],
            id="route-to-nowhere-and-without-path",
        ),
        pytest.param(
            leaving(names=("*a.test", "b.test", "*.c.test", "*")),
            leaving(names=("b.test", "*.c.test")),
            ["egress-https.90", "egress-https.90"],
            id="partial-wildcards",
        ),
    ],
)
def test_traffic_outside_is_mended(faulty: Outbound, sound: Outbound, faults: list[str]) -> None:
    repaired = repair_outbound(faulty)
    assert repaired is not None
    assert repaired.policy == sound
    assert [fault.unit for fault in repaired.faults] == faults


def test_stream_without_a_name_or_a_cluster_left_lets_nothing_out() -> None:
    for faulty in (leaving(names=("*",)), leaving(cluster="gone")):
        repaired = repair_outbound(faulty)
        assert repaired is not None
        assert repaired.policy.egress.streams == ()


def weighted(*weights: int) -> OutboundHost:
    shares = tuple(
        WeightedUpstream(service=s, weight=w) for s, w in zip((OTHER, WEB), weights, strict=True)
    )
    return replace(WEB_HOST, rule=replace(WEB_HOST.rule, upstreams=shares))


def with_host(*hosts: OutboundHost) -> Outbound:
    return replace(BASE, http=(replace(PORT, hosts=hosts),))


DB_WEB = xds_cases.service("shop/db", 80)
BETA = HttpMatch(path="/beta")
BAD_MATCH = "a rule with an empty path, header name or pattern grants nothing"


def canary(**fields: Any) -> OutboundHost:
    """Requests that fit go to the other service."""
    spread = replace(
        xds_cases.rule(WEB, (OTHER, 100)), matches=(BETA,), others=xds_cases.rule(WEB).upstreams
    )
    return replace(WEB_HOST, rule=replace(spread, **fields))


def copied_to(service: MeshService) -> RoutePolicy:
    return RoutePolicy(mirror=Mirror(service=service, percent=100))


@pytest.mark.parametrize(
    ("faulty", "sound", "faults"),
    [
        pytest.param(
            replace(BASE, http=(replace(PORT, port=0), replace(PORT, port=65536))),
            BASE,
            [
                ("outbound_0_http", "port 0 is not between 1 and 65535"),
                ("outbound_65536_http", "port 65536 is not between 1 and 65535"),
            ],
            id="impossible-ports",
        ),
        pytest.param(
            replace(BASE, http=(PORT, PORT)),
            replace(BASE, http=(PORT,)),
            [("outbound_80_http", "a chain of that name exists")],
            id="one-port-twice",
        ),
        pytest.param(
            replace(BASE, http=(replace(PORT, addresses=("10.0.0.1", "web", "10.0.0.1")),)),
            replace(BASE, http=(PORT,)),
            [
                ("outbound_80_http", "'web' is not an IP address"),
                ("outbound_80_http", "address 10.0.0.1 is taken on port 80"),
            ],
            id="name-and-double-among-addresses",
        ),
        pytest.param(
            replace(
                BASE,
                http=(PORT,),
                passthrough=True,
                denied=(
                    DeniedPort(port=80, addresses=("10.0.0.1",)),
                    DeniedPort(port=80, addresses=("10.0.0.3",)),
                    DeniedPort(port=0, addresses=("10.0.0.3",)),
                    DeniedPort(port=81, addresses=("10.0.0.1",)),
                ),
            ),
            replace(
                BASE,
                http=(PORT,),
                passthrough=True,
                denied=(DeniedPort(port=81, addresses=("10.0.0.1",)),),
            ),
            [
                ("outbound-mesh-denied.80", "address 10.0.0.1 is taken on port 80"),
                ("outbound-mesh-denied.80", "no address leads to it"),
                ("outbound-mesh-denied.80", "a chain of that name exists"),
                ("outbound-mesh-denied.0", "port 0 is not between 1 and 65535"),
            ],
            id="denied-yields-to-a-chain",
        ),
        pytest.param(
            with_host(WEB_HOST, OTHER_HOST, WEB_HOST),
            with_host(WEB_HOST, OTHER_HOST),
            [("outbound_80_http", f"domains {sorted(WEB_HOST.domains)} are taken")],
            id="one-host-twice",
        ),
        pytest.param(
            with_host(WEB_HOST, replace(OTHER_HOST, domains=("WEB.shop", "b"))),
            with_host(WEB_HOST, replace(OTHER_HOST, domains=("b",))),
            [("outbound_80_http", "domains ['WEB.shop'] are taken")],
            id="domains-differ-in-case-only",
        ),
        pytest.param(
            with_host(WEB_HOST, replace(OTHER_HOST, domains=())),
            with_host(WEB_HOST),
            [("outbound_80_http", "a host has no domains")],
            id="host-without-domains",
        ),
        pytest.param(
            with_host(weighted(0, 5)),
            with_host(replace(WEB_HOST, rule=xds_cases.rule(WEB, (WEB, 5)))),
            [("host shop/web", "weight 0 of shop/other|80 is not positive")],
            id="zero-weight",
        ),
        pytest.param(
            with_host(replace(WEB_HOST, policy=copied_to(DB_WEB))),
            with_host(WEB_HOST),
            [("host shop/web", "cluster shop/db|80 does not exist")],
            id="copies-to-a-missing-cluster",
        ),
        pytest.param(
            with_host(canary(matches=(HttpMatch(path=""), BETA))),
            with_host(canary()),
            [("host shop/web", BAD_MATCH)],
            id="match-without-path",
        ),
        pytest.param(
            with_host(canary(matches=(HttpMatch(path=""),))),
            with_host(WEB_HOST),
            [("host shop/web", BAD_MATCH), ("host shop/web", "no upstream is left")],
            id="no-match-is-left",
        ),
        pytest.param(
            with_host(canary(others=xds_cases.rule(DB_WEB).upstreams)),
            with_host(canary(others=())),
            [("host shop/web", "cluster shop/db|80 does not exist")],
            id="others-lead-nowhere",
        ),
        pytest.param(
            replace(BASE, upstreams=UPSTREAMS[:1], http=(PORT,), tcp=(TCP,)),
            replace(BASE, upstreams=UPSTREAMS[:1], tcp=(TCP,)),
            [
                ("host shop/web", "cluster shop/web|80 does not exist"),
                ("host shop/web", "no upstream is left"),
                ("outbound_80_http", "no host is left"),
            ],
            id="cluster-is-missing",
        ),
        pytest.param(
            replace(BASE, tcp=(TCP, TCP)),
            replace(BASE, tcp=(TCP,)),
            [("outbound_shop/db_6379_tcp", "a chain of that name exists")],
            id="one-tcp-service-twice",
        ),
        pytest.param(
            replace(BASE, tcp=(replace(TCP, addresses=()),)),
            BASE,
            [("outbound_shop/db_6379_tcp", "no address leads to it")],
            id="tcp-without-address",
        ),
        pytest.param(
            replace(BASE, tcp=(replace(TCP, addresses=("FD00:0::1",)),)),
            replace(BASE, tcp=(replace(TCP, addresses=("fd00::1",)),)),
            [("outbound_shop/db_6379_tcp", "address 'FD00:0::1' is written fd00::1")],
            id="address-in-another-spelling",
        ),
    ],
)
def test_outbound_fault_costs_the_smallest_unit(
    faulty: Outbound, sound: Outbound, faults: list[tuple[str, str]]
) -> None:
    repaired = repair_outbound(faulty)
    assert repaired is not None
    assert repaired.policy == sound
    assert list(repaired.faults) == [Fault(unit=unit, reason=reason) for unit, reason in faults]


def test_weights_are_scaled_to_what_envoy_can_add() -> None:
    repaired = repair_outbound(with_host(weighted(1, 4294967295)))
    assert repaired is not None
    (host,) = repaired.policy.http[0].hosts
    weights = [upstream.weight for upstream in host.rule.upstreams]
    assert sum(weights) <= 4294967295
    assert weights[0] == 1
    assert weights[1] > 4294967000
    (fault,) = repaired.faults
    assert fault.reason == "weights add up to 4294967296, more than 4294967295, and are scaled"


def header(name: str, pattern: str) -> HttpMatch:
    return HttpMatch(headers=(HeaderMatch(name=name, pattern=pattern),))


def named(match: HttpMatch) -> InboundRule:
    return InboundRule(match=match, principals=xds_cases.peers(BUYER))


def with_rules(*rules: InboundRule) -> InboundHttpPort:
    return replace(SERVED_PORT, hosts=(replace(SERVED, rules=rules),))


EMPTY = "an empty path, header name or pattern"
UNUSABLE = (
    (EMPTY, HttpMatch(path="")),
    (EMPTY, header("", "x")),
    (EMPTY, header("x", "")),
    ("a control character in a header name", header("x\n", "y")),
)


@pytest.mark.parametrize(
    ("faulty", "sound", "faults"),
    [
        pytest.param(
            Inbound(http=(replace(SERVED_PORT, target=0),), tcp=()),
            xds_cases.NOTHING_IN,
            [("rds-inbound.0", "port 0 is not between 1 and 65535")],
            id="impossible-port",
        ),
        pytest.param(
            Inbound(
                http=(SERVED_PORT,),
                tcp=(InboundTcp(service=WEB, server_name=WEB.fqdn().upper(), permissions=None),),
            ),
            Inbound(http=(SERVED_PORT,), tcp=()),
            [
                (
                    "inbound_shop/web_80_http",
                    "server name 'WEB.SHOP.SVC.CLUSTER.LOCAL' is taken or unusable on port 80",
                )
            ],
            id="http-beats-tcp",
        ),
        pytest.param(
            Inbound(
                http=(
                    replace(
                        SERVED_PORT,
                        chains=(*SERVED_PORT.chains, InboundHttp(service=OTHER, server_name="*.x")),
                    ),
                ),
                tcp=(),
            ),
            Inbound(http=(SERVED_PORT,), tcp=()),
            [("inbound_shop/other_80_http", "server name '*.x' is taken or unusable on port 80")],
            id="wildcard-server-name",
        ),
        pytest.param(
            Inbound(http=(replace(SERVED_PORT, chains=()),), tcp=()),
            xds_cases.NOTHING_IN,
            [("rds-inbound.80", "no chain leads to it")],
            id="port-without-chain",
        ),
        pytest.param(
            Inbound(
                http=(
                    with_rules(
                        InboundRule(match=HttpMatch(path="/x"), principals=()), SERVED.rules[0]
                    ),
                ),
                tcp=(),
            ),
            Inbound(http=(SERVED_PORT,), tcp=()),
            [("host shop/web", "a rule without principals grants nothing")],
            id="rule-without-principals",
        ),
        *(
            pytest.param(
                Inbound(http=(with_rules(SERVED.rules[0], named(match)),), tcp=()),
                Inbound(http=(SERVED_PORT,), tcp=()),
                [("host shop/web", f"a rule with {what} grants nothing")],
                id=str(match),
            )
            for what, match in UNUSABLE
        ),
        pytest.param(
            Inbound(
                http=(),
                tcp=(
                    xds_cases.inbound_tcp(
                        DB,
                        TcpPermission(name="shop/none", principals=()),
                        TcpPermission(name="shop/some", principals=xds_cases.peers(BUYER)),
                    ),
                ),
            ),
            Inbound(
                http=(),
                tcp=(
                    xds_cases.inbound_tcp(
                        DB, TcpPermission(name="shop/some", principals=xds_cases.peers(BUYER))
                    ),
                ),
            ),
            [
                (
                    "inbound_shop/db_6379_tcp",
                    "shop/none has no principals and grants nothing",
                )
            ],
            id="permission-without-principals",
        ),
        pytest.param(
            Inbound(
                http=(),
                tcp=(InboundTcp(service=DB, server_name="db", permissions=()),),
            ),
            xds_cases.NOTHING_IN,
            [("inbound_shop/db_6379_tcp", "nobody may call it")],
            id="tcp-for-nobody-has-no-chain",
        ),
        pytest.param(
            Inbound(
                http=(),
                tcp=(
                    InboundTcp(service=replace(DB, target=0), server_name="db", permissions=None),
                ),
            ),
            xds_cases.NOTHING_IN,
            [("inbound_shop/db_0_tcp", "port 0 is not between 1 and 65535")],
            id="impossible-tcp-port",
        ),
    ],
)
def test_inbound_fault_costs_the_smallest_unit(
    faulty: Inbound, sound: Inbound, faults: list[tuple[str, str]]
) -> None:
    repaired = repair_inbound(faulty)
    assert repaired is not None
    assert repaired.policy == sound
    assert list(repaired.faults) == [Fault(unit=unit, reason=reason) for unit, reason in faults]


GOOD, GROUP = "ECDHE-ECDSA-AES128-GCM-SHA256", "[ECDHE-RSA-AES128-SHA|AES128-SHA]"


def test_tls_names_that_envoy_does_not_know_are_dropped() -> None:
    parameters = TlsParameters(
        cipher_suites=("TLS_AES_128_GCM_SHA256", GOOD, GROUP, f"[{GOOD}|NULL]"),
        ecdh_curves=("P-224", "X25519", "X25519"),
    )
    repaired = repair_tls(parameters)
    assert repaired is not None
    assert repaired.policy == TlsParameters(cipher_suites=(GOOD, GROUP), ecdh_curves=("X25519",))
    assert [fault.reason for fault in repaired.faults] == [
        "'TLS_AES_128_GCM_SHA256' is not a cipher suite that Envoy knows",
        f"'[{GOOD}|NULL]' is not a cipher suite that Envoy knows",
        "'P-224' is not a curve that Envoy knows",
        "'X25519' comes twice",
    ]
    assert repair_tls(repaired.policy) is None
