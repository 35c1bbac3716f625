"""Traffic in: the chains of the services that a workload backs, and who may send what to them.

Comes in: the snapshot and the services of a profile. Goes out: ``Inbound``. Specification:
data-plane 4.2 to 4.5, 5.5 and 5.9. There is one chain per (host name, target port), HTTP before
TCP; Service ports that lead to one target are one virtual host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.mesh.catalog.access import ANYBODY, http_rules, tcp_permissions
from app.mesh.catalog.denials import denied_names, denied_requests, without_denied
from app.mesh.catalog.splits import roots_of
from app.mesh.policies.authorization import external_authorization
from app.mesh.policies.calls import server_timeouts
from app.mesh.policies.limits import ServerLimits, server_limits
from app.mesh.snapshot import MeshSnapshot
from xds.policy.http import ANY_PATH
from xds.policy.identity import ServiceIdentity
from xds.policy.service import MeshService, Protocol
from xds.policy.traffic import (
    Inbound,
    InboundHost,
    InboundHttp,
    InboundHttpPort,
    InboundRule,
    InboundTcp,
    TcpPermission,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Requests:
    """Who may send what to a target port, and who may not."""

    rules: tuple[InboundRule, ...]
    denials: tuple[InboundRule, ...]


def compile_inbound(
    snapshot: MeshSnapshot, identity: ServiceIdentity, services: Iterable[MeshService]
) -> Inbound:
    """All that a workload of the identity accepts as the services it backs."""
    http: dict[int, list[MeshService]] = {}
    tcp: list[InboundTcp] = []
    for service in _one_per_chain(services, snapshot.dns_suffix):
        if service.protocol.is_http:
            http.setdefault(service.target, []).append(service)
        else:
            tcp.extend(_tcp_chain(snapshot, identity, service))
    served = [service for service in services if service.protocol.is_http]
    return Inbound(
        http=tuple(
            _http_port(
                snapshot,
                chains,
                [service for service in served if service.target == target],
                _requests(snapshot, identity, target),
            )
            for target, chains in sorted(http.items())
        ),
        tcp=tuple(tcp),
        authorization=external_authorization(snapshot.config),
    )


def _one_per_chain(services: Iterable[MeshService], dns_suffix: str) -> list[MeshService]:
    """One service per (host name, target): HTTP first, then the lowest port; sorted by both."""
    chosen: dict[tuple[str, int], MeshService] = {}
    for service in sorted(services, key=lambda service: (not service.protocol.is_http, service)):
        chosen.setdefault((service.fqdn(dns_suffix), service.target), service)
    return [service for _, service in sorted(chosen.items())]


def _http_port(
    snapshot: MeshSnapshot,
    chains: list[MeshService],
    served: list[MeshService],
    requests: _Requests,
) -> InboundHttpPort:
    suffix = snapshot.dns_suffix
    return InboundHttpPort(
        target=chains[0].target,
        chains=tuple(
            InboundHttp(
                service=s,
                server_name=s.fqdn(suffix),
                connections=_limits(snapshot, s).connections,
            )
            for s in chains
        ),
        hosts=tuple(
            _as_set(snapshot, host)
            for host in _hosts([*served, *_roots(snapshot, served)], requests, suffix)
        ),
        normalize_paths=any(
            rule.match.path != ANY_PATH for rule in (*requests.rules, *requests.denials)
        ),
        denies=bool(requests.denials),
    )


def _as_set(snapshot: MeshSnapshot, host: InboundHost) -> InboundHost:
    """The host with what the UpstreamTrafficSetting of its Service asks of servers."""
    setting = snapshot.policies.upstreams.get(host.service.parent)
    limits = _limits(snapshot, host.service)
    return replace(
        host,
        timeouts=server_timeouts(setting),
        limits=limits.host,
        route_limits=limits.routes,
    )


def _limits(snapshot: MeshSnapshot, service: MeshService) -> ServerLimits:
    parent = service.parent
    return server_limits(snapshot.policies.upstreams.get(parent), parent)


def _roots(snapshot: MeshSnapshot, served: Iterable[MeshService]) -> list[MeshService]:
    """Split roots whose Host header arrives here, as services on the backend's target."""
    return [
        MeshService(
            namespace=root.service.namespace,
            name=root.service.name,
            port=root.service.port,
            target=backend.target,
            protocol=backend.protocol,
        )
        for backend in served
        for root in roots_of(snapshot.services, snapshot.rules, backend)
    ]


def _hosts(
    services: Iterable[MeshService], requests: _Requests, dns_suffix: str
) -> tuple[InboundHost, ...]:
    """One virtual host per host name, sorted; a domain two would claim stays with the first."""
    named: dict[str, list[MeshService]] = {}
    for service in sorted(set(services)):
        named.setdefault(service.fqdn(dns_suffix), []).append(service)
    claimed: set[str] = set()
    hosts = []
    for _, ports in sorted(named.items()):
        names = (n for s in ports for n in s.host_names(local=True, dns_suffix=dns_suffix))
        domains = tuple(name for name in dict.fromkeys(names) if name not in claimed)
        claimed.update(domains)
        hosts.append(
            InboundHost(
                service=ports[0],
                domains=domains,
                rules=requests.rules,
                denials=requests.denials,
            )
        )
    return tuple(hosts)


def _requests(snapshot: MeshSnapshot, identity: ServiceIdentity, target: int) -> _Requests:
    denials = snapshot.policies.denials.get(identity, ())
    return _Requests(
        rules=_rules(snapshot, identity, target),
        denials=denied_requests(denials, snapshot.issuers, target),
    )


def _rules(
    snapshot: MeshSnapshot, identity: ServiceIdentity, target: int
) -> tuple[InboundRule, ...]:
    if snapshot.config.traffic.enable_permissive_traffic_policy_mode:
        return ANYBODY
    return http_rules(snapshot.rules, snapshot.issuers, identity, target)


def _tcp_chain(
    snapshot: MeshSnapshot, identity: ServiceIdentity, service: MeshService
) -> Iterable[InboundTcp]:
    """The chain of a TCP service, or nothing where nobody may connect."""
    denials = snapshot.policies.denials.get(identity, ())
    denied = denied_names(denials, snapshot.issuers, service.target)
    if denied is None:
        return
    permissions: tuple[TcpPermission, ...] | None = None
    if not snapshot.config.traffic.enable_permissive_traffic_policy_mode:
        granted = tcp_permissions(snapshot.rules, snapshot.issuers, identity, service.target)
        permissions = without_denied(granted, denied)
        if not permissions:
            return
    elif denied and service.protocol is Protocol.TCP_SERVER_FIRST:
        return  # its greeting would reach who is denied: nothing of a client comes before it
    yield InboundTcp(
        service=service,
        server_name=service.fqdn(snapshot.dns_suffix),
        permissions=permissions,
        connections=_limits(snapshot, service).connections,
        denied=denied,
    )
