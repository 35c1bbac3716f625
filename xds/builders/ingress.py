"""Filter chains and routes of traffic from gateways.

Served ports come in, chains of the inbound listener and one route configuration each go out. A
mesh client is told from a gateway by its ALPN alone. Specification: data-plane 4.7, 5.5, 5.9, 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from xds.builders import hcm, names, tls
from xds.builders.filters import RequestFilters
from xds.builders.rbac import match_permission, named_principals
from xds.builders.routes import route_matches
from xds.policy.ingress import IngressChain, IngressPort, IngressRule
from xds.policy.proxy import TlsParameters
from xds.protos import (
    RBAC,
    BoolValue,
    CidrRange,
    FilterChain,
    FilterChainMatch,
    HttpRbac,
    Policy,
    Principal,
    RBACPerRoute,
    Route,
    RouteAction,
    RouteConfiguration,
    UInt32Value,
    VirtualHost,
    duration,
    pack,
    resource_of,
)
from xds.resource import Resource, ResourceKind


def chains(
    port: IngressPort, filters: RequestFilters, parameters: TlsParameters
) -> Iterator[FilterChain]:
    """The chains of the port; TLS without server names has one more, for the mesh's own.

    Envoy looks no further once the mesh's chain of that name has matched, but for ALPN.
    """
    manager = hcm.ingress_hcm(
        hcm.IngressHttpSpec(
            routes=names.ingress_routes(port.target, tls=port.tls),
            normalize_paths=port.normalize_paths,
            filters=filters,
        )
    )
    for chain in port.chains:
        for suffix, server_names in _named(port, chain):
            found = FilterChain(
                name=names.ingress_chain(chain.service, tls=port.tls) + suffix,
                filter_chain_match=_match(port, server_names),
                filters=[manager],
            )
            if port.tls:
                socket = tls.gateway_tls(parameters, client_certificate=port.client_certificate)
                found.transport_socket.CopyFrom(socket)
            yield found


def build_ingress_routes(port: IngressPort) -> Resource:
    """The route configuration of the port: the rules decide who may send what."""
    name = names.ingress_routes(port.target, tls=port.tls)
    action = RouteAction(cluster=names.local_cluster(port.service), timeout=duration(0))
    host = VirtualHost(
        name=names.ingress_host(port.service),
        domains=["*"],
        routes=[
            Route(match=match, route=action)
            for rule in port.rules
            for match in route_matches(rule.match)
        ],
    )
    host.typed_per_filter_config[names.HTTP_RBAC].CopyFrom(pack(_rules(port.rules)))
    routes = RouteConfiguration(
        name=name, virtual_hosts=[host], validate_clusters=BoolValue(value=False)
    )
    return resource_of(ResourceKind.RDS, name, routes)


def _named(port: IngressPort, chain: IngressChain) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "", chain.server_names
    if port.tls and chain.own_names and not chain.server_names:
        yield "_fqdn", chain.own_names


def _match(port: IngressPort, server_names: Iterable[str]) -> FilterChainMatch:
    return FilterChainMatch(
        destination_port=UInt32Value(value=port.target),
        server_names=server_names,
        transport_protocol="tls" if port.tls else "raw_buffer",
    )


def _rules(rules: Iterable[IngressRule]) -> RBACPerRoute:
    """A request is allowed if any policy fits; without policies nobody is."""
    granted = RBAC(action=RBAC.ALLOW)
    for rule in rules:
        principals = _principals(rule)
        if principals:
            name = names.match_text(rule.match)
            policy = Policy(permissions=[match_permission(rule.match)], principals=principals)
            granted.policies[name].MergeFrom(policy)
    return RBACPerRoute(rbac=HttpRbac(rules=granted))


def _principals(rule: IngressRule) -> list[Principal]:
    """Who may send: from one of the addresses, with one of the names."""
    needed = []
    if rule.addresses is not None:
        ids = [Principal(direct_remote_ip=_cidr(written)) for written in rule.addresses]
        needed.append(Principal(or_ids=Principal.Set(ids=ids)))
    if rule.principals is not None:
        ids = named_principals(rule.principals)
        needed.append(Principal(or_ids=Principal.Set(ids=ids)))
    if rule.addresses == () or rule.principals == ():
        return []
    if not needed:
        return [Principal(any=True)]
    return needed if len(needed) == 1 else [Principal(and_ids=Principal.Set(ids=needed))]


def _cidr(written: str) -> CidrRange:
    network = ip_network(written)
    return CidrRange(
        address_prefix=str(network.network_address),
        prefix_len=UInt32Value(value=network.prefixlen),
    )
