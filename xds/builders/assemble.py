"""Policy, endpoints and secrets in; the set of resources of a proxy out.

A set is six layers, each a function of few inputs, so a change rebuilds one of them: a new endpoint
only that of endpoints, a new certificate only that of the certificate. Layers that proxies have in
common are the same object, and so is the set of equal proxies. Called by the publisher for every
profile at every revision; what did not change costs a few look-ups. Specification: data-plane 5,
7.5, 7.6 and 7.8.
"""

from __future__ import annotations

from collections.abc import Iterable

from xds.builders import clusters, listeners, names, routes, tls
from xds.builders.inbound import InboundSpec
from xds.builders.outbound import OutboundSpec
from xds.builders.sound import Fault, sound_inbound, sound_outbound
from xds.cache import BuildCache
from xds.policy.identity import SubjectName
from xds.policy.proxy import KeyPair, ProxyPolicy, SecretTable, TlsParameters, TrustBundle
from xds.policy.service import EndpointReader, MeshService
from xds.policy.traffic import Inbound, Outbound, SplitRule, Upstream
from xds.resource import Layer, Resource, ResourceError, ResourceKind, ResourceSet

Upstreams = tuple[Upstream, ...]


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
    layers = (
        *assemble_policy(policy, cache),
        assemble_endpoints(policy.outbound, endpoints, cache),
        assemble_trust(policy.outbound, secrets.trust, cache),
        certificate,
    )
    return cache.recall(_checked, policy, cache.get(ResourceSet, layers))


def faults(policy: ProxyPolicy, cache: BuildCache) -> tuple[Fault, ...]:
    """What assembly leaves out of this policy, because Envoy would refuse it; empty as a rule."""
    outbound = cache.get(sound_outbound, policy.outbound)
    inbound = cache.get(sound_inbound, policy.inbound)
    return (*inbound.faults, *outbound.faults)


def assemble_policy(policy: ProxyPolicy, cache: BuildCache) -> tuple[Layer, Layer, Layer]:
    """CDS, LDS and RDS: clusters of upstreams, routes out, and what only this profile has.

    The first is shared by all who call the same services, the second by those of one namespace.
    """
    outbound, suffix = policy.outbound, policy.dns_suffix
    return (
        cache.recall(_upstream_layer, outbound.upstreams, policy.tls, suffix),
        cache.recall(_outbound_layer, outbound, suffix),
        cache.recall(_own_layer, policy),
    )


def assemble_endpoints(outbound: Outbound, endpoints: EndpointReader, cache: BuildCache) -> Layer:
    """EDS: one assignment per upstream, also an empty one."""
    return cache.recall(_endpoint_layer, outbound.upstreams, endpoints)


def assemble_trust(outbound: Outbound, trust: TrustBundle, cache: BuildCache) -> Layer:
    """SDS without keys: whom this proxy believes, as client of each Service and as server."""
    return cache.recall(_trust_layer, outbound.upstreams, trust)


def assemble_certificate(
    policy: ProxyPolicy, secrets: SecretTable, cache: BuildCache
) -> Layer | None:
    """SDS with the key: the workload's own certificate; None while it has none."""
    pair = secrets.workloads.get(policy.identity)
    return None if pair is None else cache.recall(_certificate_layer, pair)


def _upstream_layer(
    cache: BuildCache, upstreams: Upstreams, parameters: TlsParameters, dns_suffix: str
) -> Layer:
    return _layer(
        cache,
        (
            cache.get(clusters.build_upstream_cluster, upstream.service, parameters, dns_suffix)
            for upstream in _by_cluster(upstreams).values()
        ),
    )


def _outbound_layer(cache: BuildCache, outbound: Outbound, dns_suffix: str) -> Layer:
    sound = cache.get(sound_outbound, outbound).outbound
    found = [
        cache.get(routes.build_outbound_routes, port.hosts, port.port, dns_suffix)
        for port in sound.http
    ]
    if sound.passthrough:
        found.append(cache.get(clusters.build_passthrough_cluster, names.PASSTHROUGH))
    if sound.denied:
        found.append(cache.get(clusters.build_denied_cluster, names.MESH_DENIED))
    return _layer(cache, found)


def _own_layer(cache: BuildCache, policy: ProxyPolicy) -> Layer:
    found = [*_outbound_listener(cache, policy), *_inbound(cache, policy)]
    if policy.scrape:
        found.append(cache.get(listeners.build_prometheus_listener, names.PROMETHEUS_LISTENER))
        found.append(cache.get(clusters.build_metrics_cluster, names.METRICS))
    return _layer(cache, found)


def _outbound_listener(cache: BuildCache, policy: ProxyPolicy) -> Iterable[Resource]:
    sound = cache.get(sound_outbound, policy.outbound).outbound
    if sound.http or sound.tcp or sound.denied or sound.passthrough:
        spec = OutboundSpec.of(sound, policy.workload if policy.request_metrics else None)
        yield cache.get(listeners.build_outbound_listener, spec)


def _inbound(cache: BuildCache, policy: ProxyPolicy) -> Iterable[Resource]:
    sound = cache.get(sound_inbound, policy.inbound).inbound
    if sound.http or sound.tcp:
        yield cache.get(listeners.build_inbound_listener, InboundSpec.of(sound, policy.tls))
    for port in sound.http:
        yield cache.get(routes.build_inbound_routes, port.hosts, port.target, policy.dns_suffix)
    for service in _local_services(sound).values():
        yield cache.get(clusters.build_local_cluster, service)


def _local_services(inbound: Inbound) -> dict[str, MeshService]:
    services = [host.service for port in inbound.http for host in port.hosts]
    services += [served.service for served in inbound.tcp]
    return {names.local_cluster(service): service for service in services}


def _endpoint_layer(cache: BuildCache, upstreams: Upstreams, endpoints: EndpointReader) -> Layer:
    return _layer(
        cache,
        (
            cache.get(
                clusters.build_load_assignment,
                endpoints.endpoints(upstream.service, upstream.endpoints_of),
                names.upstream_cluster(upstream.service),
            )
            for upstream in _by_cluster(upstreams).values()
        ),
    )


def _trust_layer(cache: BuildCache, upstreams: Upstreams, trust: TrustBundle) -> Layer:
    servers: dict[str, tuple[SubjectName, ...]] = {}
    for upstream in upstreams:
        # Members of one Service share one secret, and as a rule its very names.
        known = servers.setdefault(upstream.service.parent, upstream.server_names)
        if known != upstream.server_names:
            servers[upstream.service.parent] = (*known, *upstream.server_names)
    found = [
        cache.get(tls.build_outbound_trust, accepted, parent, trust)
        for parent, accepted in servers.items()
    ]
    return _layer(cache, [*found, cache.get(tls.build_inbound_trust, trust)])


def _certificate_layer(cache: BuildCache, pair: KeyPair) -> Layer:
    return _layer(cache, [cache.get(tls.build_service_certificate, pair)])


def _by_cluster(upstreams: Upstreams) -> dict[str, Upstream]:
    """One upstream per cluster: two ports of a Service may lead to one target."""
    found: dict[str, Upstream] = {}
    for upstream in upstreams:
        found.setdefault(names.upstream_cluster(upstream.service), upstream)
    return found


def _layer(cache: BuildCache, resources: Iterable[Resource]) -> Layer:
    return cache.get(Layer, tuple(resources))


def _checked(cache: BuildCache, policy: ProxyPolicy, found: ResourceSet) -> ResourceSet:
    """The set, when every name that one of its resources refers to is in it."""
    sound_out = cache.get(sound_outbound, policy.outbound).outbound
    sound_in = cache.get(sound_inbound, policy.inbound).inbound
    upstreams = policy.outbound.upstreams
    called = [up.service for rule in _rules(sound_out) for up in rule.upstreams]
    needed = {
        ResourceKind.CDS: {*map(names.upstream_cluster, called), *_local_services(sound_in)},
        ResourceKind.EDS: set(_by_cluster(upstreams)),
        ResourceKind.RDS: {
            *(names.inbound_routes(port.target) for port in sound_in.http),
            *(names.outbound_routes(port.port) for port in sound_out.http),
        },
        ResourceKind.SDS: {
            *(names.outbound_trust(up.service.parent) for up in upstreams),
            names.INBOUND_TRUST,
            names.SERVICE_CERTIFICATE,
        },
    }
    for kind, wanted in needed.items():
        missing = wanted.difference(found.names(kind))
        if missing:
            raise ResourceError(f"{kind} of {policy.identity} lacks {sorted(missing)}")
    return found


def _rules(outbound: Outbound) -> Iterable[SplitRule]:
    yield from (host.rule for port in outbound.http for host in port.hosts)
    yield from (dialled.rule for dialled in outbound.tcp)
