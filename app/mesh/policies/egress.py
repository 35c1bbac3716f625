"""Egresses to grants: who may leave the mesh, to which hosts, networks and ports.

An Egress counts in the namespace of its sources only, unless the MeshConfig opens that, so that
nobody can let out another's workloads; and not at all where all of the mesh may leave. A missing
route group grants nothing, a missing UpstreamTrafficSetting is left aside: it only bounds.
Specification: data-plane 4.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network

from app.mesh.findings import Finding, finding_of
from app.mesh.policies.calls import connections
from app.mesh.policies.overlaps import overlaps
from app.mesh.policies.part import EgressGrant
from app.mesh.policies.source import PolicySource
from app.mesh.ties import seniority
from app.objects.meta import is_domain, shown
from app.objects.policy import Egress, PolicyRef
from app.objects.upstream import UpstreamTrafficSetting
from xds.policy.egress import EgressProtocol
from xds.policy.http import HttpMatch
from xds.policy.identity import ServiceIdentity
from xds.policy.settings import PLAIN_CLUSTER, Connections

_ACCOUNT = "ServiceAccount"
_ROUTES = "specs.smi-spec.io"
_SETTINGS = "policy.openservicemesh.io"
ANY_HOST = "*"
"""As the only name or beside others: any."""
_PROTOCOLS = {str(protocol): protocol for protocol in EgressProtocol}


def egress_in_force(source: PolicySource) -> tuple[tuple[EgressGrant, ...], tuple[Finding, ...]]:
    """The grants of all Egresses, the oldest first, and what is not in force."""
    found: list[Egress] = []
    for namespace in sorted(source.monitored):
        found += source.objects.all(Egress, namespace)
    if source.config.traffic.enable_egress:
        reason = "is not in force: traffic.enableEgress of the MeshConfig lets all traffic out"
        return (), tuple(finding_of(one, "", reason, "E2012") for one in found)
    findings: list[Finding] = []
    readers = [_Reader(one, source, findings) for one in sorted(found, key=seniority)]
    read = [reader.grant() for reader in readers]
    grants = tuple(grant for grant in read if grant is not None)
    by_name = {f"{one.namespace}/{one.name}": one for one in found}
    findings += (
        finding_of(by_name[name], field, reason, "E2013")
        for name, field, reason in overlaps(grants)
    )
    return grants, tuple(findings)


class _Reader:
    """One Egress and what its references lead to; writes to ``findings``."""

    def __init__(self, egress: Egress, source: PolicySource, findings: list[Finding]) -> None:
        self._egress = egress
        self._source = source
        self._findings = findings

    def grant(self) -> EgressGrant | None:
        """What it grants; None where it grants nothing."""
        spec = self._egress.spec
        ranges = tuple(self._ranges())
        hosts = tuple(dict.fromkeys(self._hosts()))
        # What was meant to narrow and cannot be read must not open everything instead.
        narrowed = bool(spec.hosts and not hosts) or bool(spec.ip_addresses and not ranges)
        sources, ports = frozenset(self._sources()), tuple(dict.fromkeys(self._ports()))
        matches, settings = self._matches()
        if narrowed or not sources or not ports:
            return None
        return EgressGrant(
            name=f"{self._egress.namespace}/{self._egress.name}",
            sources=sources,
            ports=ports,
            hosts=() if ANY_HOST in hosts else hosts,
            ranges=tuple(dict.fromkeys(ranges)),
            matches=matches,
            connections=settings,
        )

    def _sources(self) -> Iterator[ServiceIdentity]:
        anywhere = self._source.config.traffic.enable_cross_namespace_egress
        for index, one in enumerate(self._egress.spec.sources):
            field = f"spec.sources[{index}]"
            if one.kind != _ACCOUNT:
                reason = f"must be {_ACCOUNT}, not {shown(one.kind)}: this source is ignored"
                self._report(f"{field}.kind", reason, "E2011")
            elif one.namespace != self._egress.namespace and not anywhere:
                reason = (
                    f"must be {self._egress.namespace!r}, the Egress's own, not "
                    f"{one.namespace!r}, unless traffic.enableCrossNamespaceEgress of the "
                    "MeshConfig is true: this source is ignored"
                )
                self._report(f"{field}.namespace", reason, "E2009")
            else:
                yield ServiceIdentity(namespace=one.namespace, service_account=one.name)

    def _ports(self) -> Iterator[tuple[int, EgressProtocol]]:
        for index, port in enumerate(self._egress.spec.ports):
            protocol = _PROTOCOLS.get(port.protocol.lower())
            if protocol is None:
                reason = (
                    f"must be one of {', '.join(_PROTOCOLS)}, not {shown(port.protocol)}: "
                    "this port is ignored"
                )
                self._report(f"spec.ports[{index}].protocol", reason, "E5020")
            else:
                yield port.number, protocol

    def _hosts(self) -> Iterator[str]:
        for index, written in enumerate(self._egress.spec.hosts):
            host = written.lower()
            if host == ANY_HOST or is_domain(host.removeprefix("*.")):
                yield host
            else:
                reason = (
                    "is not the name of a host such as api.example.com or *.example.com: "
                    f"{shown(written)}"
                )
                self._report(f"spec.hosts[{index}]", f"{reason} is ignored", "E2003")

    def _ranges(self) -> Iterator[str]:
        for index, written in enumerate(self._egress.spec.ip_addresses):
            network = _network(written)
            if network is not None:
                yield network
            else:
                reason = f"must be an IPv4 network such as 10.0.0.0/8, not {shown(written)}"
                self._report(f"spec.ipAddresses[{index}]", f"{reason}: it is ignored", "E2002")

    def _matches(self) -> tuple[tuple[HttpMatch, ...] | None, Connections]:
        """Requests that are let out, None for all; and the bounds of connections."""
        matches: set[HttpMatch] | None = None
        settings = PLAIN_CLUSTER.connections
        for index, ref in enumerate(self._egress.spec.matches):
            field = f"spec.matches[{index}]"
            if ref.group == _ROUTES:
                matches = (matches or set()) | self._group(field, ref)
            elif ref.group == _SETTINGS:
                found = self._setting(field, ref)
                settings = found if settings is PLAIN_CLUSTER.connections and found else settings
            else:
                reason = f"must be {_ROUTES}/v1alpha4 or {_SETTINGS}/v1alpha1: it is ignored"
                self._report(f"{field}.apiGroup", reason, "E2003")
        return None if matches is None else tuple(sorted(matches)), settings

    def _group(self, field: str, ref: PolicyRef) -> set[HttpMatch]:
        found = self._source.routes.groups.get((self._egress.namespace, ref.name))
        if found is None or ref.kind != "HTTPRouteGroup":
            reason = (
                f"there is no HTTPRouteGroup {ref.name!r} in this namespace, so it lets no "
                "request out: create it"
            )
            self._report(f"{field}.name", reason, "E2004")
            return set()
        return {match for _, match in found}

    def _setting(self, field: str, ref: PolicyRef) -> Connections | None:
        objects, namespace = self._source.objects, self._egress.namespace
        found = objects.get(UpstreamTrafficSetting, namespace, ref.name)
        if found is None or ref.kind != "UpstreamTrafficSetting":
            reason = (
                f"there is no UpstreamTrafficSetting {ref.name!r} in this namespace, so "
                "connections have no bounds: create it"
            )
            self._report(f"{field}.name", reason, "E3003")
            return None
        return connections(found.spec)

    def _report(self, field: str, reason: str, code: str) -> None:
        self._findings.append(finding_of(self._egress, field, reason, code))


def _network(written: str) -> str | None:
    """The network in its canonical form; None for what is none, or has no prefix length."""
    with suppress(ValueError):
        return str(IPv4Network(written, strict=False)) if "/" in written else None
    return None
