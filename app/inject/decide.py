"""Whether a Pod gets a sidecar: the decision table of kubernetes-surface 3.2.

In come the Pod as JSON and the namespace as the snapshot (or the API server) shows it; out comes
:class:`Inject` or :class:`Skip`. ``controller.injector`` asks before it has a certificate issued.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import InjectionError, NamespaceInjectionError
from app.inject.pod import PodView, check_names, check_pod, parse_pod
from app.inject.secret import bootstrap_key
from app.mesh.snapshot import MeshNamespace
from app.objects.meta import (
    IGNORE_LABEL,
    INJECTION_ANNOTATION,
    METRICS_ANNOTATION,
    MONITORED_BY_LABEL,
    PROXY_UUID_LABEL,
    ObjectKey,
    RawObject,
)
from xds.policy.identity import ServiceIdentity

_SWITCH = {
    "enabled": True,
    "yes": True,
    "true": True,
    "disabled": False,
    "no": False,
    "false": False,
}
_NEVER = frozenset(["kube-system", "kube-public"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """The Pod runs without a sidecar, on purpose."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """The Pod gets a sidecar that runs as this identity."""

    identity: ServiceIdentity
    metrics: bool
    """True when its metrics are announced to Prometheus."""
    previous: ObjectKey | None
    """The bootstrap Secret of the Pod this one is a copy of; it must be read before planning."""


def decide(
    pod: RawObject, namespace: MeshNamespace | None, *, namespace_name: str, osm_namespace: str
) -> Inject | Skip:
    """The first row of the table that fits; ``namespace`` is None when the mesh does not watch it.

    Raises :class:`InjectionError` for an annotation with an unknown value, and for a Pod that wants
    a sidecar but cannot have one.
    """
    view = parse_pod(pod)
    if view.spec.host_network:
        return Skip(reason="the Pod is on the network of its host")
    if namespace_name in _NEVER | {osm_namespace}:
        return Skip(reason=f"namespace {namespace_name} never gets sidecars")
    if namespace is None:
        return Skip(reason=f"namespace {namespace_name} is not monitored by this mesh")
    if namespace.ignored:
        return Skip(reason=f"namespace {namespace_name} has the label {IGNORE_LABEL}")
    if not _is_wanted(view, namespace):
        return Skip(reason="sidecar injection is not enabled by annotation")
    return _inject(view, namespace)


def read_namespace(raw: RawObject | None, *, name: str, mesh_name: str) -> MeshNamespace | None:
    """The namespace as the API server shows it; None when this mesh does not monitor it.

    Raises :class:`InjectionError` when there is no such namespace.
    """
    if raw is None:
        raise NamespaceInjectionError(f"namespace {name} not found; try again when it exists")
    metadata = raw.get("metadata") or {}
    labels: Mapping[str, Any] = metadata.get("labels") or {}
    annotations: Mapping[str, Any] = metadata.get("annotations") or {}
    if labels.get(MONITORED_BY_LABEL) != mesh_name:
        return None
    return MeshNamespace(
        name=name,
        ignored=IGNORE_LABEL in labels,
        injection=annotations.get(INJECTION_ANNOTATION),
        metrics=annotations.get(METRICS_ANNOTATION),
    )


def _is_wanted(view: PodView, namespace: MeshNamespace) -> bool:
    own = view.metadata.annotations.get(INJECTION_ANNOTATION)
    wanted = None if own is None else _switch(own)
    if own is not None and wanted is None:
        raise InjectionError(
            f"Pod annotation {INJECTION_ANNOTATION}: {own!r} is unknown; write enabled or disabled"
        )
    general = None if namespace.injection is None else _switch(namespace.injection)
    if namespace.injection is not None and general is None:
        raise _namespace_error(namespace.name, INJECTION_ANNOTATION, namespace.injection)
    return bool(general) if wanted is None else wanted


def _inject(view: PodView, namespace: MeshNamespace) -> Inject:
    check_names(view)
    old = view.metadata.labels[PROXY_UUID_LABEL] if view.has_sidecar else None
    if old is None:
        check_pod(view)
    identity = ServiceIdentity(namespace=namespace.name, service_account=view.service_account)
    return Inject(
        identity=identity,
        metrics=_has_metrics(namespace),
        previous=None if old is None else bootstrap_key(namespace.name, old),
    )


def _has_metrics(namespace: MeshNamespace) -> bool:
    if not namespace.metrics:
        return False
    switch = _switch(namespace.metrics)
    if switch is None:
        raise _namespace_error(namespace.name, METRICS_ANNOTATION, namespace.metrics)
    return switch


def _switch(value: str) -> bool | None:
    return _SWITCH.get(value.lower())


def _namespace_error(namespace: str, annotation: str, value: str) -> NamespaceInjectionError:
    return NamespaceInjectionError(
        f"annotation {annotation} of namespace {namespace}: {value!r} is unknown; "
        "write enabled or disabled"
    )
