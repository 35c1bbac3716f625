"""TrafficDenies to what each destination refuses, by the account it runs as.

A deny takes away what TrafficTargets or permissive mode grant, so it fails closed: a rule that
leads to no route, or to one that cannot be read in full, denies all traffic of the sources, and a
source that is no account stands for everybody. It acts on accounts of its own namespace only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.mesh.findings import Finding, finding_of
from app.mesh.policies.part import Denial
from app.mesh.policies.source import PolicySource
from app.objects.access import TrafficDeny
from app.objects.meta import shown
from app.objects.smi import HTTPRouteGroup, RouteRef
from xds.policy.http import HttpMatch
from xds.policy.identity import ServiceIdentity

_ACCOUNT = "ServiceAccount"
_ALL = "so all traffic of its sources is denied: correct it"

Denials = Mapping[ServiceIdentity, tuple[Denial, ...]]
"""By destination; those without a TrafficDeny are not in it."""


def denials_in_force(source: PolicySource) -> tuple[Denials, tuple[Finding, ...]]:
    """What every destination refuses, sorted by name of the object; and what is wrong."""
    findings: list[Finding] = []
    found: dict[ServiceIdentity, tuple[Denial, ...]] = {}
    for namespace in sorted(source.monitored):
        for deny in source.objects.all(TrafficDeny, namespace):
            destination = _destination(deny, findings)
            if destination is not None:
                denial = _Reader(deny=deny, source=source, findings=findings).denial()
                found[destination] = (*found.get(destination, ()), denial)
    return found, tuple(findings)


def _destination(deny: TrafficDeny, findings: list[Finding]) -> ServiceIdentity | None:
    """Whose traffic is denied; None where the object must not speak for it."""
    named = deny.spec.destination
    if named.kind != _ACCOUNT:
        reason = f"must be {_ACCOUNT}, not {shown(named.kind)}: nothing is denied"
        findings.append(finding_of(deny, "spec.destination.kind", reason, "E2010"))
    elif named.namespace not in ("", deny.namespace):
        reason = (
            f"must be {deny.namespace!r}, the TrafficDeny's own, not {named.namespace!r}: "
            "nothing is denied"
        )
        findings.append(finding_of(deny, "spec.destination.namespace", reason, "E2009"))
    else:
        return ServiceIdentity(namespace=deny.namespace, service_account=named.name)
    return None


@dataclass(slots=True, kw_only=True)
class _Reader:
    """One TrafficDeny and what its references lead to; writes to ``findings``."""

    deny: TrafficDeny
    source: PolicySource
    findings: list[Finding]
    matches: set[HttpMatch] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    everything: bool = False

    def denial(self) -> Denial:
        """What it denies; all traffic where a rule cannot be read in full."""
        self.everything = not self.deny.spec.rules
        for index, ref in enumerate(self.deny.spec.rules):
            self._read(f"spec.rules[{index}]", ref)
        if self.everything:
            self.matches, self.ports = set(), set()
        return Denial(
            name=f"{self.deny.namespace}/{self.deny.name}",
            sources=self._sources(),
            matches=tuple(sorted(self.matches)),
            ports=None if self.everything else frozenset(self.ports),
        )

    def _sources(self) -> tuple[ServiceIdentity, ...] | None:
        found = set()
        everybody = not self.deny.spec.sources
        for index, named in enumerate(self.deny.spec.sources):
            if named.kind == _ACCOUNT:
                namespace = named.namespace or self.deny.namespace
                found.add(ServiceIdentity(namespace=namespace, service_account=named.name))
            else:
                everybody = True
                reason = f"must be {_ACCOUNT}, not {shown(named.kind)}: everybody is denied"
                self._report(f"spec.sources[{index}].kind", reason, "E2011")
        return None if everybody else tuple(sorted(found))

    def _read(self, place: str, ref: RouteRef) -> None:
        match ref.kind:
            case "HTTPRouteGroup":
                self._read_group(place, ref)
            case "TCPRoute":
                ports = self.source.routes.tcp.get((self.deny.namespace, ref.name))
                if ports is None:
                    self._deny_all(f"{place}.name", f"there is no TCPRoute {ref.name!r}")
                elif ports:
                    self.ports |= set(ports)
                else:
                    self.everything = True
            case _:
                reason = f"must be HTTPRouteGroup or TCPRoute, not {shown(ref.kind)}"
                self._deny_all(f"{place}.kind", reason)

    def _read_group(self, place: str, ref: RouteRef) -> None:
        usable = self.source.routes.groups.get((self.deny.namespace, ref.name))
        if usable is None:
            self._deny_all(f"{place}.name", f"there is no HTTPRouteGroup {ref.name!r}")
            return
        group = self.source.objects.get(HTTPRouteGroup, self.deny.namespace, ref.name)
        written = [match.name for match in group.spec.matches] if group else []
        wanted = ref.matches or tuple(written)
        names = [name for name, _ in usable]
        if not wanted:
            self._deny_all(f"{place}.name", f"HTTPRouteGroup {ref.name!r} has no matches")
        for name in dict.fromkeys(wanted):
            if not names.count(name) or names.count(name) < written.count(name):
                reason = f"{name!r} is not a usable match of HTTPRouteGroup {ref.name!r}"
                self._deny_all(f"{place}.matches", reason)
        self.matches |= {match for name, match in usable if name in wanted}

    def _deny_all(self, place: str, reason: str) -> None:
        """The rule cannot be read in full: all traffic is denied, and that is told."""
        self.everything = True
        self._report(place, f"{reason}, {_ALL}", "E2015")

    def _report(self, place: str, reason: str, code: str) -> None:
        self.findings.append(finding_of(self.deny, place, reason, code))
