"""Grants to what gateways may send to one workload: ports, chains and rules."""

from __future__ import annotations

from typing import Any

import snapshots

from app.mesh.catalog.ingress import compile_ingress
from app.mesh.policies.part import IngressGrant
from xds.policy.http import ANY_REQUEST, HttpMatch
from xds.policy.identity import NameType, SubjectName
from xds.policy.ingress import IngressChain, IngressPort, IngressRule

WEB = snapshots.service("shop/web", 80, 8080)
ALIAS = snapshots.service("shop/alias", 81, 8080)
FEED = snapshots.service("shop/feed", 90, 9090, "tcp")
NGINX = SubjectName(type=NameType.DNS, value="nginx.edge.cluster.local")
NET = ("10.0.0.0/8",)


def grant(service: str = "shop/web", target: int = 8080, **changes: Any) -> IngressGrant:
    values: dict[str, Any] = {
        "tls": False,
        "client_certificate": False,
        "server_names": (),
        "addresses": NET,
        "principals": None,
        "matches": None,
        **changes,
    }
    return IngressGrant(name=f"{service}-in", service=service, target=target, **values)


def compiled(*grants: IngressGrant) -> tuple[IngressPort, ...]:
    by_place = {(one.service, one.target): one for one in grants}
    return compile_ingress(by_place, [WEB, ALIAS, FEED], "cluster.local")


def chain(service: Any, *server_names: str) -> IngressChain:
    own = () if server_names else tuple(sorted(one.fqdn() for one in (WEB, ALIAS)))
    return IngressChain(service=service, own_names=own, server_names=server_names)


def rule(match: HttpMatch = ANY_REQUEST, **changes: Any) -> IngressRule:
    return IngressRule(**{"match": match, "addresses": NET, "principals": None, **changes})


def test_service_without_a_grant_takes_nothing() -> None:
    assert compiled(grant(target=8081), grant("pay/web")) == ()


def test_http_port() -> None:
    assert compiled(grant()) == (
        IngressPort(
            target=8080,
            tls=False,
            client_certificate=False,
            service=WEB,
            chains=(chain(WEB),),
            rules=(rule(),),
            normalize_paths=False,
        ),
    )


def test_paths_are_resolved_where_a_match_names_one() -> None:
    match = HttpMatch(path="/open/.*")
    (port,) = compiled(grant(matches=(match,)))
    assert (port.rules, port.normalize_paths) == ((rule(match),), True)


def test_services_of_one_target_share_rules_but_not_chains() -> None:
    secure = {"tls": True, "client_certificate": True, "principals": (NGINX,)}
    (port,) = compiled(
        grant(server_names=("a.test", "b.test"), **secure),
        grant("shop/alias", server_names=("b.test",), addresses=None, **secure),
    )
    assert port.chains == (chain(ALIAS, "b.test"), chain(WEB, "a.test"))
    assert set(port.rules) == {
        rule(principals=(NGINX,)),
        rule(addresses=None, principals=(NGINX,)),
    }


def test_one_chain_takes_any_server_name() -> None:
    (port,) = compiled(grant(tls=True), grant("shop/alias", tls=True))
    assert port.chains == (chain(ALIAS),)


def test_plain_and_secure_traffic_of_one_target_have_rules_of_their_own() -> None:
    secure = grant(
        "shop/alias", tls=True, client_certificate=True, principals=(NGINX,), addresses=None
    )
    plain, tls = compiled(grant(), secure)
    assert (plain.tls, plain.rules) == (False, (rule(),))
    assert (tls.tls, tls.rules) == (True, (rule(addresses=None, principals=(NGINX,)),))


def test_where_two_services_differ_certificates_are_asked_for() -> None:
    checked = grant("shop/alias", tls=True, client_certificate=True, principals=(NGINX,))
    (port,) = compiled(grant(tls=True, addresses=None), checked)
    assert (port.client_certificate, port.chains) == (True, (chain(ALIAS),))


def test_tcp_service_may_take_requests_of_gateways() -> None:
    (port,) = compiled(grant("shop/feed", 9090))
    assert (port.target, port.service) == (9090, FEED)
