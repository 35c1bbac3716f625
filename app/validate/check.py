"""May this object be stored, and what should its author know: the question of the API server.

Raw objects come in, a :class:`Verdict` goes out; nothing is read or written. On one machine the
same rules are asked for each document of a file, without a snapshot. What was stored before a rule
existed may be edited: only what the edit itself makes wrong is refused.
Specification: kubernetes-surface 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from app.mesh.snapshot import MeshSnapshot
from app.objects.access import TrafficDeny
from app.objects.config import MeshConfig
from app.objects.meta import KubeObject, ObjectKey, ObjectKind, RawObject, Rejected, shown
from app.objects.policy import Egress, ExtensionService, IngressBackend, Retry, Telemetry
from app.objects.root import MeshRootCertificate
from app.objects.scheme import KINDS, decode
from app.objects.smi import HTTPRouteGroup, TCPRoute, TrafficSplit, TrafficTarget
from app.objects.upstream import UpstreamTrafficSetting
from app.validate import access, config, policy, smi, upstream
from app.validate.context import Context
from app.validate.verdict import Remark, Verdict, refuse, verdict, warn


class Operation(StrEnum):
    """What is done with the object, by the API server's names."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


Rule = Callable[[Any, Any, Context], Iterable[Remark]]
"""The remarks on a new object, its former form (or None) and the mesh around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    rule: Rule
    may_refuse: bool
    """False: whatever is wrong is a warning, also what cannot be read."""


_RULES: Mapping[type[KubeObject], _Kind] = MappingProxyType(
    {
        TrafficTarget: _Kind(rule=smi.traffic_target, may_refuse=True),
        HTTPRouteGroup: _Kind(rule=smi.http_route_group, may_refuse=False),
        TCPRoute: _Kind(rule=smi.tcp_route, may_refuse=False),
        TrafficSplit: _Kind(rule=smi.traffic_split, may_refuse=False),
        Egress: _Kind(rule=policy.egress, may_refuse=True),
        IngressBackend: _Kind(rule=policy.ingress_backend, may_refuse=True),
        Retry: _Kind(rule=policy.retry, may_refuse=False),
        Telemetry: _Kind(rule=policy.telemetry, may_refuse=False),
        TrafficDeny: _Kind(rule=access.traffic_deny, may_refuse=True),
        UpstreamTrafficSetting: _Kind(rule=upstream.upstream_traffic_setting, may_refuse=True),
        ExtensionService: _Kind(rule=policy.extension_service, may_refuse=False),
        MeshConfig: _Kind(rule=config.mesh_config, may_refuse=False),
        MeshRootCertificate: _Kind(rule=config.mesh_root_certificate, may_refuse=True),
    }
)
VALIDATED: Mapping[ObjectKind, bool] = MappingProxyType(
    {KINDS[model.__name__].kind: kind.may_refuse for model, kind in _RULES.items()}
)
"""Kinds with rules of their own; True for those that may be refused, not merely warned of."""


def check(
    new: RawObject | None,
    old: RawObject | None,
    operation: Operation,
    *,
    snapshot: MeshSnapshot | None,
    osm_namespace: str,
) -> Verdict:
    """The verdict on one operation.

    ``new`` is None for a deletion, ``old`` for a creation. Without a snapshot no other object is
    looked at. Never raises for what a user wrote.
    """
    context = Context(snapshot=snapshot, osm_namespace=osm_namespace)
    if operation is Operation.DELETE:
        return verdict(_deletion(old, context))
    raw = new or {}
    kind = _kind_of(raw)
    if kind is None:
        return verdict([_unknown(raw)])
    metadata = raw.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("deletionTimestamp"):
        return Verdict()  # it is on its way out: whoever finalises it must be able to
    return verdict(_remarks(raw, old, kind, context))


def _kind_of(raw: Mapping[str, Any]) -> _Kind | None:
    version = KINDS.get(str(raw.get("kind")))
    if version is None or raw.get("apiVersion") not in version.api_versions:
        return None
    return _RULES.get(version.model)


def _unknown(raw: Mapping[str, Any]) -> Remark:
    known = ", ".join(sorted(VALIDATED))
    found = f"{shown(raw.get('apiVersion'))}, kind {shown(raw.get('kind'))}"
    return refuse("", f"unknown gvk: {found} is not validated here; known kinds are {known}")


def _remarks(
    raw: RawObject, old: RawObject | None, kind: _Kind, context: Context
) -> Iterator[Remark]:
    found = decode(raw)
    if isinstance(found, Rejected):
        yield _unreadable(found, refuses=kind.may_refuse and not _same_spec(raw, old))
        return
    settled = _same_spec(raw, old)
    for remark in kind.rule(found[1], _former(old, found[0]), context):
        yield replace(remark, refuses=remark.refuses and not settled)


def _former(old: RawObject | None, key: ObjectKey) -> KubeObject | None:
    """What the object was; None where there was none, or none that could be read."""
    found = decode(old)
    return found[1] if not isinstance(found, Rejected) and found[0] == key else None


def _unreadable(found: Rejected, *, refuses: bool) -> Remark:
    if refuses:
        return refuse(found.field, found.reason)
    return warn(found.field, f"{found.reason}; the object is not in force")


def _same_spec(new: RawObject, old: RawObject | None) -> bool:
    """True for an edit of labels, annotations or status."""
    return old is not None and old.get("spec") == new.get("spec")


def _deletion(old: RawObject | None, context: Context) -> Iterator[Remark]:
    found = decode(old)
    if not isinstance(found, Rejected) and isinstance(found[1], MeshRootCertificate):
        yield from config.deleted_root(found[1], context)
