"""Policy objects of the mesh to the snapshot's ``policies`` part, and what is wrong with them.

``refresh`` calls it when an object of the table, a route, a Service or the MeshConfig changed. Each
kind has a module of its own beside this one, which gets a :class:`PolicySource` and returns its
field and its findings. One tie rule for all: the oldest object wins, then the name, then the
namespace (data-plane 4); the loser is a finding.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from app.mesh.findings import Finding
from app.mesh.policies.part import Policies
from app.mesh.routes import Routes
from app.mesh.snapshot import Services
from app.mesh.table import ObjectTable
from app.objects.config import MeshConfigSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicySource:
    """All that policies are resolved with."""

    objects: ObjectTable
    routes: Routes
    """HTTPRouteGroups and TCPRoutes, by namespace and name."""
    services: Services
    config: MeshConfigSpec
    monitored: AbstractSet[str]
    """Names of the mesh's namespaces."""
    osm_namespace: str
    dns_suffix: str

    def with_routes(self, routes: Routes) -> PolicySource:
        """The same source with these routes."""
        return replace(self, routes=routes)


def read_policies(source: PolicySource) -> tuple[Policies, tuple[Finding, ...]]:
    """What is in force, and what is not and why."""
    del source
    return Policies(), ()
