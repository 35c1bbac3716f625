"""The whole mesh at one revision, in frozen parts.

``refresh`` makes it from objects; policies, injection, API and CLI read it. A refresh replaces only
the parts whose inputs changed, so "is it the same object?" is a sound and cheap key for everything
derived from a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from app.mesh.policies.part import NO_POLICIES, Policies
from app.mesh.table import NO_OBJECTS, ObjectTable
from app.objects.config import MeshConfigSpec
from app.objects.meta import Rejected
from xds.policy.http import HttpMatch
from xds.policy.identity import Issuers, ServiceIdentity
from xds.policy.service import Endpoint, MeshService, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPod:
    """A Pod with a sidecar in a monitored namespace, not finished, not on the host's network."""

    namespace: str
    name: str
    uid: str
    uuid: str
    identity: ServiceIdentity
    workload: Workload
    scrape: bool
    services: tuple[MeshService, ...]
    """Mesh services it backs; sorted."""
    created: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workloads:
    """Pods by sidecar UUID, and the mesh's namespaces as injection needs them."""

    pods: Mapping[str, MeshPod]
    namespaces: Mapping[str, MeshNamespace]
    """Monitored namespaces only."""
    duplicate_uuids: frozenset[str] = frozenset()
    """UUIDs that more than one Pod carries: none of those Pods is served (E5002)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshNamespace:
    """A monitored namespace: what injection decides by. Values are raw, None when absent."""

    name: str
    ignored_by: str
    """The label that keeps every mesh out; empty: none."""
    injection: str | None
    metrics: str | None

    @property
    def ignored(self) -> bool:
        """True where the webhooks are not asked."""
        return bool(self.ignored_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One mesh service as policy needs it; no endpoint addresses unless it is headless."""

    service: MeshService
    addresses: tuple[str, ...]
    """What a client dials (data-plane 3.7), sorted numerically; empty: nothing can dial it."""
    identities: tuple[ServiceIdentity, ...]
    """Accounts of the Pods behind it; sorted; may be empty."""
    created: datetime | None
    """Creation of the Service, for ties: the oldest wins, then the name."""
    port_name: str = ""
    """Name of the Service port; a split's backend without the root's port number is found by it."""
    share: int = 1
    """Weight > 0 among one Service port's views that lead to different targets (data-plane 3.2)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Services:
    """All mesh services, sorted by service; indexes into the same views."""

    views: tuple[ServiceView, ...]
    by_service: Mapping[MeshService, ServiceView]
    by_parent: Mapping[str, tuple[ServiceView, ...]]
    """``<namespace>/<name>`` of a Service to its views; an empty tuple for one without ports."""
    by_identity: Mapping[ServiceIdentity, tuple[MeshService, ...]]
    """Services behind which the identity stands; clients that serve nothing are not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """One TrafficTarget, resolved: sources may reach the destination's services (data-plane 4.2).

    ``ports`` None: its rules name no TCPRoute, so HTTP is not restricted and TCP not granted.
    ``any_port``: a TCPRoute without ports. ``matches`` are the HTTP matches of its route groups,
    sorted and distinct.
    """

    name: str
    """``<namespace>/<name>`` of the TrafficTarget."""
    destination: ServiceIdentity
    sources: tuple[ServiceIdentity, ...]
    matches: tuple[HttpMatch, ...]
    ports: frozenset[int] | None
    any_port: bool = False

    def admits_http(self, port: int) -> bool:
        """True when HTTP on the target port is not excluded by its TCPRoutes."""
        return self.ports is None or self.any_port or port in self.ports

    def admits_tcp(self, port: int) -> bool:
        """True when a TCPRoute of it admits the target port."""
        return self.ports is not None and (self.any_port or port in self.ports)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One TrafficSplit in force: its root and its backends, sorted by name.

    Some weight is > 0. A backend with 0 gets nothing, but its servers know the root's host names,
    so that its weight can rise without a gap.
    """

    name: str
    namespace: str
    root: str
    backends: tuple[tuple[str, int], ...]
    matches: tuple[HttpMatch, ...] | None = None
    """Sorted: only requests that fit one of them are spread, so none where it is empty; None: all.
    """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rules:
    """Access and splits in force, sorted by name, with the indexes policy needs."""

    access: tuple[AccessRule, ...]
    by_source: Mapping[ServiceIdentity, tuple[AccessRule, ...]]
    by_destination: Mapping[ServiceIdentity, tuple[AccessRule, ...]]
    splits: Mapping[str, Split]
    """By root, ``<namespace>/<name>``."""
    splits_of_backend: Mapping[str, tuple[Split, ...]]
    """By backend, ``<namespace>/<name>``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndpointTable:
    """Ready (and draining) endpoints with sidecars, per mesh service, sorted.

    A service's tuple is the same object as in the snapshot before when its endpoints did not
    change.
    """

    by_service: Mapping[MeshService, tuple[Endpoint, ...]]

    def endpoints(
        self, service: MeshService, identities: tuple[ServiceIdentity, ...] | None
    ) -> tuple[Endpoint, ...]:
        """Endpoints whose workload runs as one of the identities; None means all of them."""
        found = self.by_service.get(service, ())
        if identities is None or all(endpoint.identity in identities for endpoint in found):
            return found
        return tuple(endpoint for endpoint in found if endpoint.identity in identities)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshSnapshot:
    """One revision of the mesh. Policy depends on config, issuers, services, rules, policies."""

    revision: int
    config: MeshConfigSpec
    issuers: Issuers
    dns_suffix: str
    workloads: Workloads
    services: Services
    rules: Rules
    endpoints: EndpointTable
    rejected: tuple[Rejected, ...]
    """Sorted: what is not in force, from sources and from resolving references."""
    objects: ObjectTable = NO_OBJECTS
    """What users wrote, for validation and for showing."""
    policies: Policies = NO_POLICIES
    has_config: bool = False
    """True when there is a MeshConfig that can be read; else ``config`` holds the defaults."""


def unless_same(old: MeshSnapshot | None, new: MeshSnapshot) -> MeshSnapshot:
    """The old snapshot where no part differs; else the new one with what did not."""
    if old is None:
        return new
    new = replace(
        new,
        rejected=old.rejected if old.rejected == new.rejected else new.rejected,
        issuers=old.issuers if old.issuers == new.issuers else new.issuers,
    )
    same = (
        old.dns_suffix == new.dns_suffix
        and old.config is new.config
        and old.has_config == new.has_config
        and old.issuers is new.issuers
        and old.workloads is new.workloads
        and old.services is new.services
        and old.rules is new.rules
        and old.policies is new.policies
        and old.endpoints is new.endpoints
        and old.rejected is new.rejected
        and old.objects is new.objects
    )
    return old if same else new
