"""Policy in, the same policy without what Envoy would refuse, and the faults that were found.

A single refused item makes Envoy refuse the whole listener, route configuration or chain, so the
smallest unit is dropped here before anything is built (data-plane 7.6 and appendix C). The catalog
keeps its own promises; this page is why a mistake there costs one host and never a proxy.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import Generic, TypeVar

from xds.builders import names, tls
from xds.builders.sound_egress import sound_host, sound_stream
from xds.builders.sound_limits import sound_authorization, sound_connections, sound_requests
from xds.policy.egress import Egress, EgressHost, EgressProtocol
from xds.policy.http import HttpMatch
from xds.policy.ingress import IngressChain, IngressPort
from xds.policy.limits import ExternalAuthorization
from xds.policy.proxy import TlsParameters
from xds.policy.traffic import (
    DeniedPort,
    Inbound,
    InboundHost,
    InboundHttp,
    InboundHttpPort,
    InboundRule,
    InboundTcp,
    Outbound,
    OutboundHost,
    OutboundHttpPort,
    OutboundTcp,
    SplitRule,
    TcpPermission,
    WeightedUpstream,
)

_MAX_PORT = 65535
_MAX_WEIGHTS = 4294967295
_CONTROL = frozenset("\0\r\n")

Host = TypeVar("Host", OutboundHost, InboundHost, EgressHost)
Served = TypeVar("Served", InboundHttp, InboundTcp)
Part = TypeVar("Part")
Policy = TypeVar("Policy")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One unit of a policy that was dropped, and why."""

    unit: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired(Generic[Policy]):
    """A policy without its faults."""

    policy: Policy
    faults: tuple[Fault, ...]
    """Not empty."""


def repair_outbound(outbound: Outbound) -> Repaired[Outbound] | None:
    """None where nothing is wrong, else traffic out that Envoy takes.

    Rules have clusters and weights, each (port, address) one chain, each domain one host.
    """
    check = _OutboundCheck(outbound)
    sound = replace(
        outbound,
        http=_kept(check.http(port) for port in outbound.http),
        tcp=_kept(check.tcp(dialled) for dialled in outbound.tcp),
        denied=_kept(check.denied(denied) for denied in outbound.denied),
        egress=check.egress(outbound.egress),
    )
    return Repaired(policy=sound, faults=tuple(check.faults)) if check.faults else None


def repair_inbound(inbound: Inbound) -> Repaired[Inbound] | None:
    """None where nothing is wrong, else traffic in that Envoy takes.

    Each (port, server name) has one chain, each domain one host, each rule principals.
    """
    check = _InboundCheck()
    sound = replace(
        inbound,
        http=_kept(check.http(port) for port in inbound.http),
        tcp=_kept(check.tcp(served) for served in inbound.tcp),
        ingress=_kept(check.ingress(port) for port in inbound.ingress),
        authorization=check.authorization(inbound.authorization),
    )
    return Repaired(policy=sound, faults=tuple(check.faults)) if check.faults else None


def repair_tls(parameters: TlsParameters) -> Repaired[TlsParameters] | None:
    """None where Envoy knows every cipher suite and curve, else the parameters with those it knows.

    One unknown name would leave every chain and cluster of the mesh without a secret. A list of
    unknown names only becomes empty, which means Envoy's defaults.
    """
    check = _Check()
    sound = replace(
        parameters,
        cipher_suites=check.known("cipher suite", parameters.cipher_suites, tls.CIPHER_SUITES),
        ecdh_curves=check.known("curve", parameters.ecdh_curves, tls.CURVES),
    )
    return Repaired(policy=sound, faults=tuple(check.faults)) if check.faults else None


class _Check:
    """What both directions share; faults gather in the order found.

    Whatever differs from the policy is a fault: a policy without faults is used as it is.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def drop(self, unit: str, reason: str) -> None:
        self.faults.append(Fault(unit=unit, reason=reason))

    def known(self, unit: str, given: Iterable[str], allowed: frozenset[str]) -> tuple[str, ...]:
        """Those given that are known; ``[A|B]`` is a group of equals."""
        kept = []
        for name in given:
            if not allowed.issuperset(name.removeprefix("[").removesuffix("]").split("|")):
                self.drop(f"TLS {unit}s", f"{name!r} is not a {unit} that Envoy knows")
            elif name in kept:
                self.drop(f"TLS {unit}s", f"{name!r} comes twice")
            else:
                kept.append(name)
        return tuple(kept)

    def port(self, unit: str, port: int) -> bool:
        if 0 < port <= _MAX_PORT:
            return True
        self.drop(unit, f"port {port} is not between 1 and {_MAX_PORT}")
        return False

    def match(self, unit: str, match: HttpMatch) -> bool:
        """False, and told, where Envoy would refuse the match."""
        headers = [text for header in match.headers for text in (header.name, header.pattern)]
        if not all([match.path, *headers]):
            self.drop(unit, "a rule with an empty path, header name or pattern grants nothing")
        elif any(_CONTROL & set(header.name) for header in match.headers):
            self.drop(unit, "a rule with a control character in a header name grants nothing")
        else:
            return True
        return False

    def hosts(self, unit: str, hosts: Iterable[Host]) -> tuple[Host, ...]:
        """The hosts, each without domains that an earlier one has; Envoy ignores case."""
        taken: set[str] = set()
        kept = []
        for host in hosts:
            free = tuple(d for d in host.domains if d.lower() not in taken)
            if len(free) < len(host.domains):
                self.drop(unit, f"domains {sorted(set(host.domains) - set(free))} are taken")
            taken.update(domain.lower() for domain in free)
            if free:
                kept.append(host if free == host.domains else replace(host, domains=free))
            elif not host.domains:
                self.drop(unit, "a host has no domains")
        return tuple(kept)


class _OutboundCheck(_Check):
    def __init__(self, outbound: Outbound) -> None:
        super().__init__()
        self._clusters = {names.upstream_cluster(up.service) for up in outbound.upstreams}
        self._claimed: set[tuple[int, str]] = set()
        self._chains: set[str] = set()

    def http(self, port: OutboundHttpPort) -> OutboundHttpPort | None:
        unit = names.outbound_http_chain(port.port)
        if not self._chain(unit, port.port):
            return None
        routed = _kept(self._host(host) for host in port.hosts)
        hosts = self.hosts(unit, routed)
        addresses = self._addresses(unit, port.port, port.addresses)
        if not hosts:
            self.drop(unit, "no host is left")
            return None
        return replace(port, hosts=hosts, addresses=addresses) if addresses else None

    def tcp(self, dialled: OutboundTcp) -> OutboundTcp | None:
        service = dialled.rule.service
        unit = names.outbound_tcp_chain(service)
        if not self._chain(unit, service.port):
            return None
        rule = self._rule(unit, dialled.rule)
        addresses = self._addresses(unit, service.port, dialled.addresses)
        if rule is None or not addresses:
            return None
        return replace(dialled, rule=rule, addresses=addresses)

    def denied(self, denied: DeniedPort) -> DeniedPort | None:
        unit = names.denied_chain(denied.port)
        if not self._chain(unit, denied.port):
            return None
        addresses = self._addresses(unit, denied.port, denied.addresses)
        return replace(denied, addresses=addresses) if addresses else None

    def egress(self, egress: Egress) -> Egress:
        """The same without hosts that stand twice, streams that lead nowhere, wrong names."""
        known = {cluster.name for cluster in egress.clusters}
        http = []
        for one in egress.http:
            unit = names.egress_chain(EgressProtocol.HTTP, one.port, one.granted_by)
            if self._chain(unit, one.port):
                routed = [self._outside(unit, host, known) for host in one.hosts]
                http.append(replace(one, hosts=self.hosts(unit, routed)))
        streams = _kept(sound_stream(one, known, self.drop) for one in egress.streams)
        return replace(egress, http=tuple(http), streams=streams)

    def _outside(self, chain: str, host: EgressHost, known: Container[str]) -> EgressHost:
        unit = f"{chain} host {host.name}"
        return sound_host(host, known, partial(self.drop, unit), is_match=partial(self.match, unit))

    def _host(self, host: OutboundHost) -> OutboundHost | None:
        unit = f"host {host.rule.service.full_name}"
        rule = self._rule(unit, host.rule)
        mirror = host.policy.mirror
        if mirror is not None and names.upstream_cluster(mirror.service) not in self._clusters:
            self.drop(unit, f"cluster {names.upstream_cluster(mirror.service)} does not exist")
            host = replace(host, policy=replace(host.policy, mirror=None))
        return None if rule is None else replace(host, rule=rule)

    def _chain(self, unit: str, port: int) -> bool:
        if unit in self._chains:
            self.drop(unit, "a chain of that name exists")
            return False
        self._chains.add(unit)
        return self.port(unit, port)

    def _addresses(self, unit: str, port: int, addresses: Iterable[str]) -> tuple[str, ...]:
        kept = []
        for text in addresses:
            address = _canonical(text)
            if address is None:
                self.drop(unit, f"{text!r} is not an IP address")
            elif (port, address) in self._claimed:
                self.drop(unit, f"address {address} is taken on port {port}")
            else:
                self._claimed.add((port, address))
                kept.append(address)
                if address != text:  # Envoy compares texts: only its own spelling ever matches
                    self.drop(unit, f"address {text!r} is written {address}")
        if not kept:
            self.drop(unit, "no address leads to it")
        return tuple(kept)

    def _rule(self, unit: str, rule: SplitRule) -> SplitRule | None:
        upstreams, others = self._shares(unit, rule.upstreams), self._shares(unit, rule.others)
        matches = tuple(match for match in rule.matches if self.match(unit, match))
        if upstreams and (matches or not rule.matches):
            return replace(rule, upstreams=upstreams, matches=matches, others=others)
        self.drop(unit, "no upstream is left")
        # Requests that were to be spread are not: they go where all others do.
        return replace(rule, upstreams=others, matches=(), others=()) if others else None

    def _shares(
        self, unit: str, upstreams: Iterable[WeightedUpstream]
    ) -> tuple[WeightedUpstream, ...]:
        kept = []
        for upstream in upstreams:
            cluster = names.upstream_cluster(upstream.service)
            if upstream.weight <= 0:
                self.drop(unit, f"weight {upstream.weight} of {cluster} is not positive")
            elif cluster not in self._clusters:
                self.drop(unit, f"cluster {cluster} does not exist")
            else:
                kept.append(upstream)
        return self._scaled(unit, kept)

    def _scaled(
        self, unit: str, upstreams: Sequence[WeightedUpstream]
    ) -> tuple[WeightedUpstream, ...]:
        """Shares whose sum Envoy can hold; a share never becomes 0."""
        total = sum(upstream.weight for upstream in upstreams)
        if total <= _MAX_WEIGHTS:
            return tuple(upstreams)
        self.drop(unit, f"weights add up to {total}, more than {_MAX_WEIGHTS}, and are scaled")
        most = _MAX_WEIGHTS - len(upstreams)
        return tuple(replace(up, weight=max(1, up.weight * most // total)) for up in upstreams)


class _InboundCheck(_Check):
    def __init__(self) -> None:
        super().__init__()
        self._claimed: set[tuple[int, str]] = set()
        self._gateways: set[tuple[int, bool, str]] = set()

    def http(self, port: InboundHttpPort) -> InboundHttpPort | None:
        unit = names.inbound_routes(port.target)
        if not self.port(unit, port.target):
            return None
        chains = _kept(self._http_chain(port.target, chain) for chain in port.chains)
        if not chains:
            self.drop(unit, "no chain leads to it")
            return None
        hosts = tuple(self._limits(self._rules(host)) for host in self.hosts(unit, port.hosts))
        return replace(port, chains=chains, hosts=hosts)

    def tcp(self, served: InboundTcp) -> InboundTcp | None:
        unit = names.inbound_chain(served.service)
        target = served.service.target
        if not self.port(unit, target) or not self._claim(unit, target, served.server_name):
            return None
        served = self._connections(served)
        if served.permissions is None:
            return served
        permissions = _kept(self._permission(unit, one) for one in served.permissions)
        if not permissions:
            self.drop(unit, "nobody may call it")
            return None
        return replace(served, permissions=permissions)

    def ingress(self, port: IngressPort) -> IngressPort | None:
        """The port with chains that Envoy can tell apart; None where none is left."""
        unit = names.ingress_routes(port.target, tls=port.tls)
        if not self.port(unit, port.target):
            return None
        chains = _kept(self._ingress_chain(unit, port, chain) for chain in port.chains)
        if not chains:
            self.drop(unit, "no chain leads to it")
            return None
        return replace(port, chains=chains)

    def _ingress_chain(
        self, unit: str, port: IngressPort, chain: IngressChain
    ) -> IngressChain | None:
        asked = {(port.target, port.tls, name.lower()) for name in chain.server_names or ("",)}
        if asked & self._gateways or any("*" in name[2].removeprefix("*.") for name in asked):
            self.drop(unit, f"server names {list(chain.server_names)} are taken or unusable")
            return None
        self._gateways |= asked
        return chain

    def _http_chain(self, target: int, chain: InboundHttp) -> InboundHttp | None:
        unit = names.inbound_chain(chain.service)
        return self._connections(chain) if self._claim(unit, target, chain.server_name) else None

    def authorization(self, asked: ExternalAuthorization | None) -> ExternalAuthorization | None:
        """Whom Envoy can ask; None only where nobody is to be asked."""
        drop = partial(self.drop, "external authorisation")
        return None if asked is None else sound_authorization(asked, drop)

    def _connections(self, served: Served) -> Served:
        drop = partial(self.drop, names.inbound_chain(served.service))
        return replace(served, connections=sound_connections(served.connections, drop))

    def _limits(self, host: InboundHost) -> InboundHost:
        drop = partial(self.drop, f"host {host.service.full_name}")
        routes = ((path, sound_requests(limits, drop)) for path, limits in host.route_limits)
        return replace(host, limits=sound_requests(host.limits, drop), route_limits=tuple(routes))

    def _claim(self, unit: str, target: int, server_name: str) -> bool:
        key = (target, server_name.lower())
        if key in self._claimed or not server_name or "*" in server_name:
            self.drop(unit, f"server name {server_name!r} is taken or unusable on port {target}")
            return False
        self._claimed.add(key)
        return True

    def _rules(self, host: InboundHost) -> InboundHost:
        kept = tuple(rule for rule in host.rules if self._rule(host, rule))
        if not all(self.match(host.service.full_name, one.match) for one in host.denials):
            return replace(host, rules=(), denials=())  # what was denied is not let in instead
        return host if len(kept) == len(host.rules) else replace(host, rules=kept)

    def _rule(self, host: InboundHost, rule: InboundRule) -> bool:
        unit = f"host {host.service.full_name}"
        if rule.principals == ():
            self.drop(unit, "a rule without principals grants nothing")
            return False
        return self.match(unit, rule.match)

    def _permission(self, unit: str, permission: TcpPermission) -> TcpPermission | None:
        if permission.principals:
            return permission
        self.drop(unit, f"{permission.name} has no principals and grants nothing")
        return None


def _canonical(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _kept(parts: Iterable[Part | None]) -> tuple[Part, ...]:
    return tuple(part for part in parts if part is not None)
