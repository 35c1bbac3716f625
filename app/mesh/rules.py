"""SMI objects to rules in force: TrafficTargets to access, TrafficSplits to splits.

Typed objects come in; parts of :class:`Rules` and findings go out to ``refresh``. Rules only ever
add: whatever refers to something missing grants nothing and is reported. Permission plays no part
in splits here; ``catalog`` asks it. Specification: data-plane 4.2, 4.3, 4.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from app.mesh.findings import Finding, finding_of
from app.mesh.hosts import own_service
from app.mesh.routes import Routes
from app.mesh.snapshot import AccessRule, Rules, Services, ServiceView, Split
from app.mesh.ties import seniority
from app.objects import smi
from app.objects.meta import shown
from xds.policy.http import HttpMatch
from xds.policy.identity import ServiceIdentity

_ACCOUNT = "ServiceAccount"
_DEFAULT_ACCOUNT = "default"


def access_rules(
    targets: Iterable[smi.TrafficTarget], routes: Routes
) -> tuple[tuple[AccessRule, ...], tuple[Finding, ...]]:
    """Rules of all valid TrafficTargets that have a source, sorted by name; and what is wrong."""
    findings: list[Finding] = []
    rules = []
    for target in targets:
        reader = _TargetReader(target=target, routes=routes, findings=findings)
        rule = reader.rule()
        if rule is not None:
            rules.append(rule)
    return tuple(sorted(rules, key=lambda rule: rule.name)), tuple(findings)


def missing_accounts(
    targets: Iterable[smi.TrafficTarget], known: Mapping[str, AbstractSet[str]]
) -> tuple[Finding, ...]:
    """One finding per name of an account that nobody made: most likely a slip, so it is told.

    ``known`` has the accounts of each namespace of the mesh; ``default`` is in all of them, and
    those of other namespaces cannot be judged. The rule stays in force: it grants nothing to who
    does not exist, and all it says to an account that comes later.
    """
    findings = []
    for target in targets:
        for field, named in _subjects(target):
            namespace = named.namespace or target.namespace
            accounts = known.get(namespace, {named.name})
            if named.kind == _ACCOUNT and named.name not in {_DEFAULT_ACCOUNT} | accounts:
                reason = f"there is no ServiceAccount '{namespace}/{named.name}': create it"
                findings.append(finding_of(target, f"{field}.name", reason, "E3003"))
    return tuple(findings)


def splits_in_force(
    splits: Iterable[smi.TrafficSplit], services: Services, routes: Routes, *, dns_suffix: str
) -> tuple[tuple[Split, ...], tuple[Finding, ...]]:
    """At most one split per root, the oldest; sorted by root. Backends are Services of the mesh."""
    findings: list[Finding] = []
    claims: dict[str, list[smi.TrafficSplit]] = {}
    for split in splits:
        root = root_name(split, dns_suffix)
        if not root:
            findings.append(_foreign_root(split))
        elif f"{split.namespace}/{root}" not in services.by_parent:
            reason = f"{root!r} is not a Service of the mesh in this namespace: create it"
            findings.append(finding_of(split, "spec.service", reason, "E3003"))
        else:
            claims.setdefault(f"{split.namespace}/{root}", []).append(split)
    chosen = []
    for root in sorted(claims):
        winner, *losers = sorted(claims[root], key=seniority)
        findings += [_second_split(loser, root, winner) for loser in losers]
        found = _split(winner, root, services, findings)
        if found is not None:
            matches = _split_matches(winner, services.by_parent[root], routes, findings)
            chosen.append(replace(found, matches=matches))
    return tuple(chosen), tuple(findings)


def join_rules(access: tuple[AccessRule, ...], splits: Iterable[Split]) -> Rules:
    """The rules part, with the indexes policy needs."""
    by_source: dict[ServiceIdentity, list[AccessRule]] = {}
    by_destination: dict[ServiceIdentity, list[AccessRule]] = {}
    for rule in access:
        by_destination.setdefault(rule.destination, []).append(rule)
        for source in rule.sources:
            by_source.setdefault(source, []).append(rule)
    by_root = {f"{split.namespace}/{split.root}": split for split in splits}
    by_backend: dict[str, list[Split]] = {}
    for split in by_root.values():
        for backend, _ in split.backends:
            by_backend.setdefault(f"{split.namespace}/{backend}", []).append(split)
    return Rules(
        access=access,
        by_source={source: tuple(rules) for source, rules in by_source.items()},
        by_destination={to: tuple(rules) for to, rules in by_destination.items()},
        splits=by_root,
        splits_of_backend={backend: tuple(found) for backend, found in by_backend.items()},
    )


def _subjects(target: smi.TrafficTarget) -> Iterator[tuple[str, smi.Subject]]:
    yield "spec.destination", target.spec.destination
    for index, source in enumerate(target.spec.sources):
        yield f"spec.sources[{index}]", source


@dataclass(frozen=True, slots=True, kw_only=True)
class _TargetReader:
    """One TrafficTarget and what its references lead to; writes to ``findings``."""

    target: smi.TrafficTarget
    routes: Routes
    findings: list[Finding]

    def rule(self) -> AccessRule | None:
        """The rule, or None where the object is not valid or has no source."""
        spec, namespace = self.target.spec, self.target.namespace
        sources = self._sources()
        if not self._is_valid() or not sources:
            return None
        matches: set[HttpMatch] = set()
        ports: set[int] = set()
        named_tcp = any_port = False
        for index, ref in enumerate(spec.rules):
            field = f"spec.rules[{index}]"
            match ref.kind:
                case "HTTPRouteGroup":
                    matches |= self._matches(field, ref)
                case "TCPRoute":
                    found = self._ports(field, ref)
                    named_tcp, any_port = True, any_port or found == ()
                    ports |= set(found or ())
                case _:
                    self._report(f"{field}.kind", _wrong_rule(ref), "E2005")
        return AccessRule(
            name=f"{namespace}/{self.target.name}",
            destination=ServiceIdentity(namespace=namespace, service_account=spec.destination.name),
            sources=sources,
            matches=tuple(sorted(matches)),
            ports=frozenset(ports) if named_tcp else None,
            any_port=any_port,
        )

    def _is_valid(self) -> bool:
        destination, namespace = self.target.spec.destination, self.target.namespace
        if destination.kind != _ACCOUNT:
            reason = f"must be {_ACCOUNT}, not {shown(destination.kind)}: nothing is granted"
            self._report("spec.destination.kind", reason, "E2010")
            return False
        if destination.namespace not in ("", namespace):
            reason = (
                f"must be {namespace!r}, the TrafficTarget's own, not {destination.namespace!r}: "
                "nothing is granted"
            )
            self._report("spec.destination.namespace", reason, "E2009")
            return False
        if not self.target.spec.rules:
            self._report("spec.rules", "is empty, so nothing is granted: name a route", "E2009")
            return False
        return True

    def _sources(self) -> tuple[ServiceIdentity, ...]:
        found = set()
        for index, source in enumerate(self.target.spec.sources):
            if source.kind == _ACCOUNT:
                namespace = source.namespace or self.target.namespace
                found.add(ServiceIdentity(namespace=namespace, service_account=source.name))
            else:
                reason = f"must be {_ACCOUNT}, not {shown(source.kind)}: this source is ignored"
                self._report(f"spec.sources[{index}].kind", reason, "E2011")
        if not self.target.spec.sources:
            self._report("spec.sources", "is empty, so nobody is let in: name a source", "E2009")
        return tuple(sorted(found))

    def _matches(self, field: str, ref: smi.RouteRef) -> set[HttpMatch]:
        group = self.routes.groups.get((self.target.namespace, ref.name))
        if group is None:
            self._report(f"{field}.name", _missing("HTTPRouteGroup", ref.name), "E2005")
            return set()
        known = {name for name, _ in group}
        for name in ref.matches:
            if name not in known:
                reason = (
                    f"{name!r} is not a usable match of HTTPRouteGroup {ref.name!r}: correct it"
                )
                self._report(f"{field}.matches", reason, "E2005")
        return {match for name, match in group if not ref.matches or name in ref.matches}

    def _ports(self, field: str, ref: smi.RouteRef) -> tuple[int, ...] | None:
        """Ports of the TCPRoute; empty for any port, None where it is missing."""
        ports = self.routes.tcp.get((self.target.namespace, ref.name))
        if ports is None:
            self._report(f"{field}.name", _missing("TCPRoute", ref.name), "E2005")
        return ports

    def _report(self, field: str, reason: str, code: str) -> None:
        self.findings.append(finding_of(self.target, field, reason, code))


def _wrong_rule(ref: smi.RouteRef) -> str:
    return f"must be HTTPRouteGroup or TCPRoute, not {shown(ref.kind)}: this rule is ignored"


def _missing(kind: str, name: str) -> str:
    return f"there is no {kind} {name!r} in this namespace, so this rule grants nothing: create it"


def root_name(split: smi.TrafficSplit, dns_suffix: str) -> str:
    """The root's plain name, from any of its host names in the split's namespace; else empty."""
    return own_service(split.spec.service, split.namespace, dns_suffix)


def _split(
    split: smi.TrafficSplit, root: str, services: Services, findings: list[Finding]
) -> Split | None:
    """The split with the backends that exist; None when no traffic would be split."""
    weights: dict[str, int] = {}
    for index, backend in enumerate(split.spec.backends):
        wrong = _wrong_backend(backend.service, split.namespace, services.by_parent[root], services)
        if wrong:
            findings.append(finding_of(split, f"spec.backends[{index}].service", wrong, "E3003"))
        if f"{split.namespace}/{backend.service}" in services.by_parent:
            weights[backend.service] = weights.get(backend.service, 0) + backend.weight
    if not any(backend.weight for backend in split.spec.backends):
        reason = "no backend has a weight above 0, so traffic is not split: raise one"
        findings.append(finding_of(split, "spec.backends", reason, "E2008"))
    if not any(weights.values()):
        return None
    return Split(
        name=split.name,
        namespace=split.namespace,
        root=root.partition("/")[2],
        backends=tuple(sorted(weights.items())),
    )


def _split_matches(
    split: smi.TrafficSplit, roots: Sequence[ServiceView], routes: Routes, findings: list[Finding]
) -> tuple[HttpMatch, ...] | None:
    """Which requests are spread: those that fit a match of a named group; None: all."""
    if not split.spec.matches:
        return None
    found: set[HttpMatch] = set()
    for index, ref in enumerate(split.spec.matches):
        group = routes.groups.get((split.namespace, ref.name))
        if group is None:
            reason = f"there is no HTTPRouteGroup {ref.name!r} in this namespace: create it"
            findings.append(finding_of(split, f"spec.matches[{index}].name", reason, "E2005"))
        found |= {match for _, match in group or ()}
    for view in roots:
        if not view.service.protocol.is_http:
            reason = (
                f"speaks of requests, but port {view.service.port} of the root carries "
                f"{view.service.protocol}, which is not split"
            )
            findings.append(finding_of(split, "spec.matches", reason, "E2008"))
    return tuple(sorted(found))


def _wrong_backend(
    name: str, namespace: str, roots: Sequence[ServiceView], services: Services
) -> str:
    """Why a backend gets none of the traffic, or not that of every port of the root."""
    views = services.by_parent.get(f"{namespace}/{name}")
    if views is None:
        return f"{name!r} is not a Service of the mesh in this namespace, so it gets no traffic"
    numbers = {view.service.port for view in views}
    names = {view.port_name for view in views} - {""}
    missing = sorted(
        {
            v.service.port
            for v in roots
            if v.service.port not in numbers and v.port_name not in names
        }
    )
    if missing:
        shown_ports = ", ".join(str(port) for port in missing)
        return f"{name!r} has no port {shown_ports} as the root has, so it gets none of its traffic"
    return ""


def _foreign_root(split: smi.TrafficSplit) -> Finding:
    reason = (
        f"{split.spec.service!r} is not a Service of namespace {split.namespace!r}: "
        "a split works in its own namespace"
    )
    return finding_of(split, "spec.service", reason, "E3003")


def _second_split(split: smi.TrafficSplit, root: str, winner: smi.TrafficSplit) -> Finding:
    reason = (
        f"Service {root} is split already by TrafficSplit {winner.namespace}/{winner.name}, "
        "which is older or comes first by name: delete one"
    )
    return finding_of(split, "spec.service", reason, "E2007")
