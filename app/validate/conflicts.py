"""Objects of one namespace that claim the same thing: which two, and over what.

``check`` refuses or warns of a new object by the pairs it would be in; the API lists those that
exist already, as ``osm policy check-conflicts`` shows them. Pure.
Source: kubernetes-surface 5.3 row 4, 5.5 and 5.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice

from app.mesh.hosts import own_service
from app.mesh.rules import root_name
from app.mesh.snapshot import MeshSnapshot
from app.objects.meta import KubeObject, ObjectKey, ObjectKind
from app.objects.policy import IngressBackend, Telemetry
from app.objects.smi import TrafficSplit
from app.objects.upstream import UpstreamTrafficSetting

MAX_CONFLICTS = 100
"""Pairs that are listed; who has more starts with these."""
MAX_SHARED = 5
"""Things one pair is over that are named."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Conflict:
    """Two objects of a kind and namespace of which only one can be in force."""

    first: ObjectKey
    second: ObjectKey
    over: tuple[str, ...]
    """What both claim, sorted: ``web:8080`` or a host; at most five of them."""

    def __str__(self) -> str:
        return (
            f"{self.first.kind} {self.first.path} conflicts with {self.second.path} "
            f"over {', '.join(self.over)}"
        )


def conflicts(snapshot: MeshSnapshot, namespace: str | None = None) -> tuple[Conflict, ...]:
    """The conflicts of a namespace, or of all; sorted, at most a hundred."""
    return tuple(islice(_conflicts(snapshot, namespace), MAX_CONFLICTS))


def claims_of(found: KubeObject, dns_suffix: str) -> frozenset[str]:
    """What the object wants for itself in its namespace; empty for kinds that cannot conflict."""
    match found:
        case IngressBackend():
            return frozenset(f"{one.name}:{one.port.number}" for one in found.spec.backends)
        case UpstreamTrafficSetting():
            return frozenset({_full_host(found, dns_suffix)})
        case TrafficSplit():
            root = root_name(found, dns_suffix)
            return frozenset({f"root {root}"} if root else ())
        case Telemetry():
            return frozenset(() if found.spec.selector else {"all Pods of the namespace"})
    return frozenset()


def _full_host(found: UpstreamTrafficSetting, dns_suffix: str) -> str:
    """The host in lower case; a Service of the namespace by its full name, however written."""
    suffix = dns_suffix or "cluster.local"
    name = own_service(found.spec.host, found.namespace, suffix)
    return f"{name}.{found.namespace}.svc.{suffix}" if name else found.spec.host.lower()


def _conflicts(snapshot: MeshSnapshot, namespace: str | None) -> Iterator[Conflict]:
    for (kind, place), objects in sorted(snapshot.objects.by_place.items()):
        if namespace in (None, place):
            yield from _pairs(kind, objects, snapshot.dns_suffix)


def _pairs(kind: ObjectKind, objects: Iterable[KubeObject], dns_suffix: str) -> Iterator[Conflict]:
    """Pairs of objects with a common claim, sorted; no more are looked for than are listed."""
    claimants: dict[str, list[ObjectKey]] = {}
    for one in objects:
        key = ObjectKey(kind=kind, namespace=one.namespace, name=one.name)
        for claim in claims_of(one, dns_suffix):
            claimants.setdefault(claim, []).append(key)
    shared: dict[tuple[ObjectKey, ObjectKey], list[str]] = {}
    for claim, keys in sorted(claimants.items()):
        for pair in islice(combinations(keys, 2), MAX_CONFLICTS):
            shared.setdefault(pair, []).append(claim)
        if len(shared) >= MAX_CONFLICTS:
            break
    for (first, second), over in sorted(shared.items()):
        yield Conflict(first=first, second=second, over=tuple(over[:MAX_SHARED]))
