"""What a rule may look at besides the object itself: the mesh as it is, and where it is run from.

Without a snapshot (one machine reads a file before any mesh exists) only the object is judged. The
names of a namespace that the snapshot does not know are never called missing: it may have joined a
moment ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.mesh.snapshot import MeshSnapshot, ServiceView
from app.mesh.table import NO_OBJECTS, ObjectTable
from app.validate.verdict import Remark, warn

_ACCOUNT = "ServiceAccount"
_DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The mesh around an object."""

    snapshot: MeshSnapshot | None
    osm_namespace: str

    @property
    def objects(self) -> ObjectTable:
        """What users wrote before."""
        return NO_OBJECTS if self.snapshot is None else self.snapshot.objects

    def knows(self, namespace: str) -> bool:
        """True when the mesh's objects of that namespace are in the snapshot."""
        return namespace in self.objects.accounts

    def views(self, namespace: str, service: str) -> tuple[ServiceView, ...] | None:
        """The ports of a Service; None where the mesh has none of that name."""
        services = self.snapshot.services.by_parent if self.snapshot is not None else {}
        return services.get(f"{namespace}/{service}")

    def absent_service(self, field: str, namespace: str, service: str) -> Iterator[Remark]:
        """A warning when the mesh has no such Service, or none of its Pods is ready."""
        if self.snapshot is None or not self.knows(namespace):
            return
        views = self.views(namespace, service)
        if views is None:
            reason = f"there is no Service '{namespace}/{service}' in the mesh: create it"
            yield warn(field, reason)
        elif not any(self.snapshot.endpoints.by_service.get(view.service) for view in views):
            reason = f"Service '{namespace}/{service}' has no ready endpoint with a sidecar"
            yield warn(field, f"{reason}: check its Pods")

    def absent_account(self, field: str, namespace: str, account: str) -> Iterator[Remark]:
        """A warning when a namespace of the mesh has no such ServiceAccount."""
        known = self.objects.accounts.get(namespace, frozenset({account}))
        if account not in known | {_DEFAULT_ACCOUNT}:
            yield warn(field, f"there is no ServiceAccount '{namespace}/{account}': create it")


def no_account(field: str, kind: str) -> Iterator[Remark]:
    """A warning when a source is not an account, the one kind that counts."""
    if kind != _ACCOUNT:
        yield warn(f"{field}.kind", f"must be {_ACCOUNT}, not {kind!r}: this one is ignored")
