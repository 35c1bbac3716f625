"""All that policy objects are resolved with: what ``read`` gives to the module of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

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
    gateways: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Endpoint addresses of Services that IngressBackends name, by ``<namespace>/<name>``."""

    def with_routes(self, routes: Routes) -> PolicySource:
        """The same source with these routes."""
        return replace(self, routes=routes)
