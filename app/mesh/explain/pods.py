"""Which TrafficTargets let one Pod call another, whatever it asks for (kubernetes-surface 7.4)."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import NotFoundError
from app.mesh.explain.answer import Walk
from app.mesh.explain.parties import Objects, find_client
from app.mesh.explain.remedy import target_key
from app.mesh.snapshot import MeshSnapshot
from app.objects.meta import ObjectKey
from xds.policy.identity import ServiceIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsAllowed:
    """Whether the source's account may call the destination's."""

    source: ServiceIdentity
    destination: ServiceIdentity
    permissive: bool
    targets: tuple[ObjectKey, ...]
    """TrafficTargets that let it, sorted by name; in permissive mode they decide nothing."""

    @property
    def allowed(self) -> bool:
        """True where some request may pass."""
        return self.permissive or bool(self.targets)


def pods_allowed(
    snapshot: MeshSnapshot, objects: Objects, source: tuple[str, str], to: tuple[str, str]
) -> PodsAllowed:
    """The answer for two Pods; raise ``NotFoundError`` where one is not of the mesh."""
    client, server = _meshed(snapshot, objects, *source), _meshed(snapshot, objects, *to)
    rules = snapshot.rules.by_destination.get(server, ())
    return PodsAllowed(
        source=client,
        destination=server,
        permissive=snapshot.config.traffic.enable_permissive_traffic_policy_mode,
        targets=tuple(target_key(rule) for rule in rules if client in rule.sources),
    )


def _meshed(snapshot: MeshSnapshot, objects: Objects, namespace: str, name: str) -> ServiceIdentity:
    found = find_client(snapshot, objects, namespace, name, Walk())
    if found.profile is None:
        raise NotFoundError(f"{namespace}/{name} is not of the mesh: it has no sidecar")
    return found.identity
