"""Policy objects to what is in force: routes, rules and policies, each kept while its input is.

``refresh`` gives the objects that count and what was resolved before; only what the changed kinds
touch is read anew. What does not resolve is a finding, never an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from app.mesh.findings import Finding
from app.mesh.policies.part import NO_POLICIES, Policies
from app.mesh.policies.read import read_policies
from app.mesh.policies.source import PolicySource
from app.mesh.routes import Routes, read_routes
from app.mesh.rules import access_rules, join_rules, missing_accounts, splits_in_force
from app.mesh.snapshot import Rules
from app.mesh.table import T
from app.objects import smi
from app.objects.meta import ObjectKind

_ROUTE_KINDS = frozenset({ObjectKind.HTTP_ROUTE_GROUP, ObjectKind.TCP_ROUTE})
_ACCESS_KINDS = _ROUTE_KINDS | {ObjectKind.TRAFFIC_TARGET}
_ACCOUNT_KINDS = frozenset({ObjectKind.TRAFFIC_TARGET, ObjectKind.SERVICE_ACCOUNT})
_SPLIT_KINDS = frozenset({ObjectKind.TRAFFIC_SPLIT})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resolved:
    """What is in force, and what is not and why."""

    source: PolicySource | None
    """What it was resolved from; None: nothing yet."""
    rules: Rules
    policies: Policies
    findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    """By the step that found them."""


NOTHING_RESOLVED = Resolved(source=None, rules=join_rules((), ()), policies=NO_POLICIES)


def resolve(
    objects: PolicySource, old: Resolved, changed: AbstractSet[ObjectKind] | None
) -> Resolved:
    """What is in force of the objects; equal parts are the old ones.

    ``changed`` has the kinds of which an object changed; None: the set of namespaces did, so all
    is read anew. ``objects.routes`` is not looked at: it is made here.
    """
    return _Resolution(objects, old, changed).resolved()


class _Resolution:
    def __init__(
        self, source: PolicySource, old: Resolved, changed: AbstractSet[ObjectKind] | None
    ) -> None:
        self._old = old
        self._changed = changed
        self._findings = dict(old.findings)
        self._all = changed is None or old.source is None
        self._source = source.with_routes(self._routes(source))

    def resolved(self) -> Resolved:
        rules = self._rules()
        return Resolved(
            source=self._source,
            rules=rules,
            policies=self._policies(),
            findings=self._findings,
        )

    def _touches(self, kinds: AbstractSet[ObjectKind]) -> bool:
        return self._all or bool(kinds & (self._changed or frozenset()))

    def _in_mesh(self, model: type[T], source: PolicySource | None = None) -> Iterator[T]:
        found = source or self._source
        for namespace in sorted(found.monitored):
            yield from found.objects.all(model, namespace)

    def _routes(self, source: PolicySource) -> Routes:
        old = self._old.source
        if old is not None and not self._touches(_ROUTE_KINDS):
            return old.routes
        groups = self._in_mesh(smi.HTTPRouteGroup, source)
        found, self._findings["routes"] = read_routes(groups, self._in_mesh(smi.TCPRoute, source))
        return old.routes if old is not None and old.routes == found else found

    def _rules(self) -> Rules:
        old = self._old.rules
        access, splits = old.access, tuple(old.splits.values())
        if self._touches(_ACCESS_KINDS):
            targets = self._in_mesh(smi.TrafficTarget)
            access, self._findings["access"] = access_rules(targets, self._source.routes)
        if self._touches(_ACCOUNT_KINDS):
            accounts = self._source.objects.accounts
            known = {namespace: accounts[namespace] for namespace in self._source.monitored}
            targets = self._in_mesh(smi.TrafficTarget)
            self._findings["accounts"] = missing_accounts(targets, known)
        if self._touches(_SPLIT_KINDS) or self._moved("services") or self._moved("routes"):
            splits, self._findings["splits"] = splits_in_force(
                self._in_mesh(smi.TrafficSplit),
                self._source.services,
                self._source.routes,
                dns_suffix=self._source.dns_suffix,
            )
        if access == old.access and splits == tuple(old.splits.values()):
            return old
        return join_rules(access, splits)

    def _policies(self) -> Policies:
        """They depend on all of the source, so any new part of it is a reason to look again."""
        parts = ("objects", "routes", "services", "config", "gateways")
        if not self._all and not any(self._moved(part) for part in parts):
            return self._old.policies
        found, self._findings["policies"] = read_policies(self._source)
        return self._old.policies if found == self._old.policies else found

    def _moved(self, part: str) -> bool:
        before = self._old.source
        return before is None or getattr(before, part) is not getattr(self._source, part)
