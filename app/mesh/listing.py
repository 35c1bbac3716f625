"""Which objects count, by namespace: the store to the snapshot's table.

``refresh`` calls it when an object of ``TABLE_KINDS`` changed. An object outside the mesh is in no
table, so nothing built on a table can mistake it for one of the mesh. Source: kubernetes-surface
9.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from app.mesh.findings import Finding
from app.mesh.store import ObjectStore
from app.mesh.table import ObjectTable
from app.objects.core import ServiceAccount
from app.objects.meta import KubeObject, ObjectKey, ObjectKind
from app.objects.policy import ExtensionService
from app.objects.scheme import KINDS

NOT_ENFORCED = "E2012"
"""Code of what is read and means nothing yet."""
_UNENFORCED_KINDS = frozenset(
    {
        ObjectKind.TELEMETRY,
        ObjectKind.EXTENSION_SERVICE,
        ObjectKind.MESH_ROOT_CERTIFICATE,
    }
)
"""Kinds that are read and validated, and mean nothing to proxies yet."""
_CONTROL_PLANE_KINDS = frozenset({ObjectKind.TELEMETRY, ObjectKind.MESH_ROOT_CERTIFICATE})
"""Kinds that count in the control plane's namespace."""
_NAMESPACE_KINDS = frozenset(
    {
        ObjectKind.TRAFFIC_TARGET,
        ObjectKind.HTTP_ROUTE_GROUP,
        ObjectKind.TCP_ROUTE,
        ObjectKind.TRAFFIC_SPLIT,
        ObjectKind.EGRESS,
        ObjectKind.INGRESS_BACKEND,
        ObjectKind.RETRY,
        ObjectKind.UPSTREAM_TRAFFIC_SETTING,
        ObjectKind.TRAFFIC_DENY,
        ObjectKind.TELEMETRY,
    }
)
"""Kinds that count in the mesh's namespaces."""
TABLE_KINDS = frozenset(
    {
        *_NAMESPACE_KINDS,
        *_CONTROL_PLANE_KINDS,
        ObjectKind.EXTENSION_SERVICE,
        ObjectKind.SERVICE_ACCOUNT,
    }
)
"""Kinds whose change may make another table."""
_MODELS: Mapping[ObjectKind, type[KubeObject]] = {one.kind: one.model for one in KINDS.values()}


def object_table(
    old: ObjectTable, store: ObjectStore, monitored: AbstractSet[str], *, osm_namespace: str
) -> ObjectTable:
    """What counts of all that exists; the old table where that is equal."""
    found: dict[tuple[ObjectKind, str], tuple[KubeObject, ...]] = {}
    for place in sorted(_places(store, monitored, osm_namespace)):
        kind, namespace = place
        objects = sorted(store.all(_MODELS[kind], namespace), key=lambda one: one.name)
        if objects:
            found[place] = tuple(objects)
    accounts = {
        namespace: frozenset(account.name for account in store.all(ServiceAccount, namespace))
        for namespace in sorted(monitored)
    }
    if found == old.by_place and accounts == old.accounts:
        return old
    by_key = {
        ObjectKey(kind=kind, namespace=namespace, name=one.name): one
        for (kind, namespace), objects in found.items()
        for one in objects
    }
    return ObjectTable(by_key=by_key, by_place=found, accounts=accounts)


def unenforced_objects(table: ObjectTable) -> tuple[Finding, ...]:
    """One finding per object that proxies do not know of yet."""
    return tuple(_unenforced(table.by_key))


def _places(
    store: ObjectStore, monitored: AbstractSet[str], osm_namespace: str
) -> set[tuple[ObjectKind, str]]:
    places = {(kind, namespace) for namespace in monitored for kind in _NAMESPACE_KINDS}
    places |= {(kind, osm_namespace) for kind in _CONTROL_PLANE_KINDS}
    extensions = store.namespaces(ExtensionService)
    return places | {(ObjectKind.EXTENSION_SERVICE, namespace) for namespace in extensions}


def _unenforced(keys: Iterable[ObjectKey]) -> Iterator[Finding]:
    for key in keys:
        if key.kind in _UNENFORCED_KINDS:
            reason = f"is read, but this release does not enforce {key.kind} objects yet"
            yield Finding(key=key, reason=reason, code=NOT_ENFORCED)
