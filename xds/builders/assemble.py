"""Policy, endpoints and secrets in; the set of resources of a proxy out.

A set is six layers, each a function of few inputs, so a change rebuilds one of them: a new endpoint
only that of endpoints, a new certificate only that of the certificate. Layers that proxies have in
common are the same object, and so is the set of equal proxies. Called by the publisher for every
profile at every revision; what did not change costs a few look-ups. Specification: data-plane 5,
7.5, 7.6 and 7.8.
"""

from __future__ import annotations

from collections.abc import Iterable

from xds.builders import clusters, egress, ingress, listeners, names, routes, tls
from xds.builders.filters import all_limits
from xds.builders.inbound import InboundSpec
from xds.builders.outbound import OutboundSpec, build_matcher, claims
from xds.builders.sound import Fault, Repaired, repair_inbound, repair_outbound, repair_tls
from xds.cache import BuildCache
from xds.policy.identity import SubjectName
from xds.policy.limits import RateLimitServer
from xds.policy.proxy import ProxyPolicy, SecretTable, TlsParameters, TrustBundle
from xds.policy.service import EndpointReader, MeshService
from xds.policy.traffic import Inbound, Outbound, Upstream
from xds.resource import Layer, Resource, ResourceError, ResourceKind, ResourceSet


def assemble(
    policy: ProxyPolicy, endpoints: EndpointReader, secrets: SecretTable, cache: BuildCache
) -> ResourceSet | None:
    """All that proxies of the policy get; None while their identity has no certificate.

    Equal answers are the same object. Raises :class:`ResourceError` where a name is referenced and
    not built: a builder's fault.
    """
    certificate = assemble_certificate(policy, secrets, cache)
    if certificate is None:
        return None
    called, routed, own = assemble_policy(policy, cache)
    reached = assemble_endpoints(policy.outbound, endpoints, cache)
    trusted = assemble_trust(policy.outbound, secrets.trust, cache)
    cache.recall(_check_upstreams, policy.outbound, called, reached, trusted)
    cache.recall(_check_outbound, policy.outbound, called, routed)
    cache.recall(_check_inbound, policy.inbound, own, trusted, certificate)
    return cache.get(ResourceSet, (called, routed, own, reached, trusted, certificate))


def faults(policy: ProxyPolicy, cache: BuildCache) -> tuple[Fault, ...]:
    """What assembly leaves out of this policy, because Envoy would refuse it; empty as a rule."""
    inbound = cache.recall(_repaired_inbound, policy.inbound)
    outbound = cache.recall(_repaired_outbound, policy.outbound)
    repaired = (repair_tls(policy.tls), inbound, outbound)
    return tuple(fault for one in repaired if one is not None for fault in one.faults)


def assemble_policy(policy: ProxyPolicy, cache: BuildCache) -> tuple[Layer, Layer, Layer]:
    """CDS, LDS and RDS: clusters of upstreams, routes out, and what only this profile has.

    The first is shared by all who call the same services, the second by those of one namespace.
    """
    outbound, suffix = policy.outbound, policy.dns_suffix
    return (
        cache.recall(_upstream_layer, outbound, _sound_tls(policy), suffix),
        cache.recall(_outbound_layer, outbound, suffix),
        cache.recall(_own_layer, policy),
    )


def assemble_endpoints(outbound: Outbound, endpoints: EndpointReader, cache: BuildCache) -> Layer:
    """EDS: one assignment per upstream, also an empty one."""
    return cache.recall(_endpoint_layer, outbound, endpoints)


def assemble_trust(outbound: Outbound, trust: TrustBundle, cache: BuildCache) -> Layer:
    """SDS without keys: whom this proxy believes, as client of each Service and as server."""
    return cache.recall(_trust_layer, outbound, trust)


def assemble_certificate(
    policy: ProxyPolicy, secrets: SecretTable, cache: BuildCache
) -> Layer | None:
    """SDS with the key: the workload's own certificate; None while it has none."""
    pair = secrets.workloads.get(policy.identity)
    return None if pair is None else _layer(cache, [cache.get(tls.build_service_certificate, pair)])


def _upstream_layer(
    cache: BuildCache, outbound: Outbound, parameters: TlsParameters, dns_suffix: str
) -> Layer:
    return _layer(
        cache,
        (
            cache.get(
                clusters.build_upstream_cluster,
                upstream.service,
                upstream.settings,
                parameters,
                dns_suffix,
            )
            for upstream in _by_cluster(outbound.upstreams).values()
        ),
    )


def _outbound_layer(cache: BuildCache, outbound: Outbound, dns_suffix: str) -> Layer:
    sound = _sound_outbound(cache, outbound)
    found = [
        cache.get(routes.build_outbound_routes, port.hosts, port.port, dns_suffix)
        for port in sound.http
    ]
    if sound.passthrough:
        found.append(cache.get(clusters.build_passthrough_cluster, names.PASSTHROUGH))
    if sound.denied:
        found.append(cache.get(clusters.build_denied_cluster, names.MESH_DENIED))
    found += [cache.get(egress.build_egress_cluster, one) for one in sound.egress.clusters]
    found += [cache.get(egress.build_egress_routes, one) for one in sound.egress.http]
    return _layer(cache, found)


def _own_layer(cache: BuildCache, policy: ProxyPolicy) -> Layer:
    found = [*_outbound_listener(cache, policy), *_inbound(cache, policy)]
    if policy.scrape:
        found.append(cache.get(listeners.build_prometheus_listener, names.PROMETHEUS_LISTENER))
        found.append(cache.get(clusters.build_metrics_cluster, names.METRICS))
    return _layer(cache, found)


def _outbound_listener(cache: BuildCache, policy: ProxyPolicy) -> Iterable[Resource]:
    sound = _sound_outbound(cache, policy.outbound)
    leaving = sound.egress.http or sound.egress.streams
    if sound.http or sound.tcp or sound.denied or sound.passthrough or leaving:
        matcher = cache.get(build_matcher, claims(sound), sound.egress)
        counted_as = policy.workload if policy.request_metrics else None
        spec = OutboundSpec.of(sound, matcher, counted_as)
        yield cache.get(listeners.build_outbound_listener, spec)


def _inbound(cache: BuildCache, policy: ProxyPolicy) -> Iterable[Resource]:
    sound = _sound_inbound(cache, policy.inbound)
    if sound.http or sound.tcp or sound.ingress:
        yield cache.get(listeners.build_inbound_listener, InboundSpec.of(sound, _sound_tls(policy)))
    for port in sound.http:
        yield cache.get(routes.build_inbound_routes, port.hosts, port.target, policy.dns_suffix)
    for served in sound.ingress:
        yield cache.get(ingress.build_ingress_routes, served)
    for service in _local_services(sound).values():
        yield cache.get(clusters.build_local_cluster, service)
    for server in _limit_servers(sound):
        name = names.limit_cluster(server)
        yield cache.get(clusters.build_grpc_cluster, name, server.host, server.port)
    asked = sound.authorization
    if asked is not None and (sound.http or sound.ingress):
        yield cache.get(
            clusters.build_grpc_cluster,
            names.AUTHORIZATION,
            asked.host,
            asked.port,
            asked.timeout_seconds,
        )


def _limit_servers(inbound: Inbound) -> list[RateLimitServer]:
    """Shared rate-limit services that a host, a route or a chain names; sorted, unique."""
    limits = [one for port in inbound.http for host in port.hosts for one in all_limits(host)]
    found = {one.shared.counter.server for one in limits if one.shared is not None}
    chains = [chain.connections for port in inbound.http for chain in port.chains]
    chains += [served.connections for served in inbound.tcp]
    found |= {one.shared.server for one in chains if one.shared is not None}
    return sorted(found)


def _local_services(inbound: Inbound) -> dict[str, MeshService]:
    services = [host.service for port in inbound.http for host in port.hosts]
    services += [served.service for served in inbound.tcp]
    services += [port.service for port in inbound.ingress]
    return {names.local_cluster(service): service for service in services}


def _endpoint_layer(cache: BuildCache, outbound: Outbound, endpoints: EndpointReader) -> Layer:
    return _layer(
        cache,
        (
            cache.get(
                clusters.build_load_assignment,
                endpoints.endpoints(upstream.service, upstream.endpoints_of),
                names.upstream_cluster(upstream.service),
            )
            for upstream in _by_cluster(outbound.upstreams).values()
        ),
    )


def _trust_layer(cache: BuildCache, outbound: Outbound, trust: TrustBundle) -> Layer:
    servers: dict[str, tuple[SubjectName, ...]] = {}
    for upstream in outbound.upstreams:
        # Members of one Service share one secret, and as a rule its very names.
        known = servers.setdefault(upstream.service.parent, upstream.server_names)
        if known != upstream.server_names:
            servers[upstream.service.parent] = (*known, *upstream.server_names)
    found = [
        cache.get(tls.build_outbound_trust, accepted, parent, trust)
        for parent, accepted in servers.items()
    ]
    return _layer(cache, [*found, cache.get(tls.build_inbound_trust, trust)])


def _sound_outbound(cache: BuildCache, outbound: Outbound) -> Outbound:
    repaired = cache.recall(_repaired_outbound, outbound)
    return outbound if repaired is None else repaired.policy


def _sound_inbound(cache: BuildCache, inbound: Inbound) -> Inbound:
    repaired = cache.recall(_repaired_inbound, inbound)
    return inbound if repaired is None else repaired.policy


def _sound_tls(policy: ProxyPolicy) -> TlsParameters:
    repaired = repair_tls(policy.tls)
    return policy.tls if repaired is None else repaired.policy


def _repaired_outbound(_: BuildCache, outbound: Outbound) -> Repaired[Outbound] | None:
    return repair_outbound(outbound)


def _repaired_inbound(_: BuildCache, inbound: Inbound) -> Repaired[Inbound] | None:
    return repair_inbound(inbound)


def _by_cluster(upstreams: Iterable[Upstream]) -> dict[str, Upstream]:
    """One upstream per cluster: two ports of a Service may lead to one target."""
    found: dict[str, Upstream] = {}
    for upstream in upstreams:
        found.setdefault(names.upstream_cluster(upstream.service), upstream)
    return found


def _layer(cache: BuildCache, resources: Iterable[Resource]) -> Layer:
    return cache.get(Layer, tuple(resources))


def _check_upstreams(
    _: BuildCache, outbound: Outbound, called: Layer, reached: Layer, trusted: Layer
) -> None:
    needed = _by_cluster(outbound.upstreams)
    _check(ResourceKind.CDS, needed, called)
    _check(ResourceKind.EDS, needed, reached)
    parents = {upstream.service.parent for upstream in outbound.upstreams}
    _check(ResourceKind.SDS, map(names.outbound_trust, parents), trusted)


def _check_outbound(cache: BuildCache, outbound: Outbound, called: Layer, routed: Layer) -> None:
    sound = _sound_outbound(cache, outbound)
    rules = [host.rule for port in sound.http for host in port.hosts]
    rules += [dialled.rule for dialled in sound.tcp]
    services = {up.service for rule in rules for up in (*rule.upstreams, *rule.others)}
    copies = (host.policy.mirror for port in sound.http for host in port.hosts)
    services |= {mirror.service for mirror in copies if mirror is not None}
    _check(ResourceKind.CDS, map(names.upstream_cluster, services), called)
    ports = (port.port for port in sound.http)
    _check(ResourceKind.RDS, map(names.outbound_routes, ports), routed)
    _check(ResourceKind.CDS, sound.egress.named_clusters, routed)


def _check_inbound(
    cache: BuildCache, inbound: Inbound, own: Layer, trusted: Layer, certificate: Layer
) -> None:
    sound = _sound_inbound(cache, inbound)
    _check(ResourceKind.CDS, _local_services(sound), own)
    _check(ResourceKind.CDS, map(names.limit_cluster, _limit_servers(sound)), own)
    _check(ResourceKind.RDS, (names.inbound_routes(port.target) for port in sound.http), own)
    gateways = (names.ingress_routes(port.target, tls=port.tls) for port in sound.ingress)
    _check(ResourceKind.RDS, gateways, own)
    _check(ResourceKind.SDS, [names.INBOUND_TRUST], trusted)
    _check(ResourceKind.SDS, [names.SERVICE_CERTIFICATE], certificate)


def _check(kind: ResourceKind, needed: Iterable[str], layer: Layer) -> None:
    missing = set(needed).difference(layer.resources(kind))
    if missing:
        raise ResourceError(f"{kind} resources {sorted(missing)} are referred to and not built")
