"""Route configurations: which request goes to which cluster.

Virtual hosts of a port come in, one RDS resource goes out. Outbound, the host a client names
decides; inbound, the same and the rules of the service: they are the only authorisation of HTTP, so
a policy edit changes nothing but this. Specification: data-plane 4.4 and 5.9.
"""

from __future__ import annotations

from dataclasses import replace

from xds.builders import names, rbac
from xds.builders.actions import apply_route_policy, apply_timeouts
from xds.builders.filters import apply_limits
from xds.policy.http import ANY_PATH, HttpMatch
from xds.policy.limits import NO_LIMITS, RequestLimits
from xds.policy.settings import NO_TIMEOUTS, RoutePolicy
from xds.policy.traffic import InboundHost, OutboundHost, WeightedUpstream
from xds.protos import (
    BoolValue,
    HeaderMatcher,
    RegexMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    StringMatcher,
    UInt32Value,
    VirtualHost,
    WeightedCluster,
    pack,
    resource_of,
)
from xds.resource import Resource, ResourceKind

_SEVERAL = 2


def build_outbound_routes(hosts: tuple[OutboundHost, ...], port: int, dns_suffix: str) -> Resource:
    """The route configuration of all HTTP services a client calls on the port."""
    found = [_outbound_host(host, dns_suffix) for host in hosts]
    return _resource(names.outbound_routes(port), found)


def build_inbound_routes(hosts: tuple[InboundHost, ...], target: int, dns_suffix: str) -> Resource:
    """The route configuration of all HTTP services that a workload serves on the target port."""
    found = [_inbound_host(host, dns_suffix) for host in hosts]
    return _resource(names.inbound_routes(target), found)


def route_matches(match: HttpMatch) -> list[RouteMatch]:
    """One route match per method; one for all where any method will do."""
    shared = _path(match.path)
    shared.headers.extend(rbac.header_matcher(header) for header in match.headers)
    if not match.methods:
        return [shared]
    found = []
    for method in match.methods:
        one = RouteMatch(headers=[rbac.method_matcher(method)])
        one.MergeFrom(shared)
        found.append(one)
    return found


def _outbound_host(host: OutboundHost, dns_suffix: str) -> VirtualHost:
    rule = host.rule
    found = []
    if rule.matches:
        action = _outbound_action(rule.upstreams, host.policy)
        spread = (match for one in rule.matches for match in route_matches(one))
        found = [Route(match=match, route=action) for match in spread]
    rest = rule.others if rule.matches else rule.upstreams
    if rest:
        found.append(Route(match=_path(ANY_PATH), route=_outbound_action(rest, host.policy)))
    return VirtualHost(
        name=names.outbound_host(rule.service, dns_suffix), domains=host.domains, routes=found
    )


def _outbound_action(upstreams: tuple[WeightedUpstream, ...], policy: RoutePolicy) -> RouteAction:
    action = RouteAction(weighted_clusters=_weighted(upstreams))
    apply_route_policy(action, policy)
    return action


def _weighted(upstreams: tuple[WeightedUpstream, ...]) -> WeightedCluster:
    shares = sorted((names.upstream_cluster(u.service), u.weight) for u in upstreams)
    return WeightedCluster(
        clusters=[
            WeightedCluster.ClusterWeight(name=name, weight=UInt32Value(value=weight))
            for name, weight in shares
        ]
    )


def _inbound_host(host: InboundHost, dns_suffix: str) -> VirtualHost:
    timeouts, limits = dict(host.timeouts), dict(host.route_limits)
    virtual = VirtualHost(name=names.inbound_host(host.service, dns_suffix), domains=host.domains)
    for rule in host.rules:
        action = RouteAction(cluster=names.local_cluster(host.service))
        apply_timeouts(action, timeouts.get(rule.match.path, NO_TIMEOUTS))
        for match in _inbound_matches(rule.match, own := limits.get(rule.match.path, NO_LIMITS)):
            route = Route(match=match, route=action)
            apply_limits(route.typed_per_filter_config, own)
            virtual.routes.append(route)
    apply_limits(virtual.typed_per_filter_config, host.limits)
    denials = rbac.host_denials(host.denials)
    if denials is not None:
        virtual.typed_per_filter_config[names.HTTP_DENIALS].CopyFrom(pack(denials))
    rules = rbac.host_rbac(host.rules)
    if rules is not None:
        virtual.typed_per_filter_config[names.HTTP_RBAC].CopyFrom(pack(rules))
    return virtual


def _inbound_matches(match: HttpMatch, limits: RequestLimits) -> list[RouteMatch]:
    """As ``route_matches``, but one for all methods where each would have a bucket of its own."""
    if limits.local is None or len(match.methods) < _SEVERAL:
        return route_matches(match)
    (found,) = route_matches(replace(match, methods=()))
    either = RegexMatcher(regex="|".join(match.methods))
    found.headers.append(
        HeaderMatcher(name=":method", string_match=StringMatcher(safe_regex=either))
    )
    return [found]


def _path(pattern: str) -> RouteMatch:
    return RouteMatch(safe_regex=RegexMatcher(regex=pattern))


def _resource(name: str, hosts: list[VirtualHost]) -> Resource:
    routes = RouteConfiguration(
        name=name,
        virtual_hosts=sorted(hosts, key=lambda host: host.name),
        validate_clusters=BoolValue(value=False),  # clusters may still be on their way
    )
    return resource_of(ResourceKind.RDS, name, routes)
