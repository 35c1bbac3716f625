"""Whether a Pod gets a sidecar: the decision table of kubernetes-surface 3.2.

In come the Pod as JSON and the namespace as the snapshot (or the API server) shows it; out comes
:class:`Inject` or :class:`Skip`. ``controller.injector`` asks before it has a certificate issued;
``osm inject --explain`` asks for the way to the answer.
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
    INJECTION_ANNOTATION,
    METRICS_ANNOTATION,
    MONITORED_BY_LABEL,
    SYSTEM_NAMESPACES,
    ObjectKey,
    RawObject,
    kept_out_by,
    shown,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """The Pod runs without a sidecar, on purpose."""

    reason: str
    of_namespace: bool = False
    """True when the namespace decided: a newer view of it may decide otherwise."""


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
    if namespace_name in SYSTEM_NAMESPACES | {osm_namespace}:
        return Skip(reason=f"namespace {namespace_name} never gets sidecars")
    if namespace is None:
        reason = f"namespace {namespace_name} is not monitored by this mesh"
        return Skip(reason=reason, of_namespace=True)
    if namespace.ignored:
        reason = f"namespace {namespace_name} has the label {namespace.ignored_by}"
        return Skip(reason=reason, of_namespace=True)
    return _unwanted(view, namespace) or _inject(view, namespace)


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
        ignored_by=kept_out_by(labels),
        injection=annotations.get(INJECTION_ANNOTATION),
        metrics=annotations.get(METRICS_ANNOTATION),
    )


def explain(
    pod: RawObject, namespace: RawObject | None, *, mesh_name: str, osm_namespace: str
) -> tuple[str, ...]:
    """What is asked about the Pod, one sentence each; the last is the decision.

    ``namespace`` is as the API server shows it, None where there is none. Raises nothing: what
    would be refused is told as such.
    """
    name = _text(namespace, "name") or _text(pod, "namespace") or "default"
    try:
        shown = read_namespace(namespace, name=name, mesh_name=mesh_name)
        facts = _facts(parse_pod(pod), shown, name=name, mesh_name=mesh_name)
    except InjectionError as error:
        return (f"The Pod is refused: {error}.",)
    try:
        decision = decide(pod, shown, namespace_name=name, osm_namespace=osm_namespace)
    except InjectionError as error:
        return (*facts, f"The Pod is refused: {error}.")
    return (*facts, _verdict(decision))


def _text(raw: RawObject | None, field: str) -> str:
    metadata = (raw or {}).get("metadata")
    return str(metadata.get(field) or "") if isinstance(metadata, dict) else ""


def _facts(
    view: PodView, namespace: MeshNamespace | None, *, name: str, mesh_name: str
) -> tuple[str, ...]:
    network = "that of its host" if view.spec.host_network else "its own"
    facts = [f"The Pod's network is {network}."]
    if namespace is None:
        facts.append(f"Namespace {name} has no label {MONITORED_BY_LABEL}: {mesh_name}.")
    else:
        ignored = f", but has the label {namespace.ignored_by}" if namespace.ignored else ""
        facts.append(f"Namespace {name} is monitored by mesh {mesh_name}{ignored}.")
        facts.append(f"Its annotation {INJECTION_ANNOTATION} is {_shown(namespace.injection)}.")
    own = view.metadata.annotations.get(INJECTION_ANNOTATION)
    facts.append(f"The Pod's own annotation {INJECTION_ANNOTATION} is {_shown(own)}.")
    return tuple(facts)


def _verdict(decision: Inject | Skip) -> str:
    if isinstance(decision, Skip):
        return f"The Pod gets no sidecar: {decision.reason}."
    sidecar = "a new sidecar, as a copy of an injected Pod" if decision.previous else "a sidecar"
    announced = "announced" if decision.metrics else "not announced"
    return (
        f"The Pod gets {sidecar} and runs as {decision.identity}; its metrics are {announced} to "
        "Prometheus."
    )


def _shown(value: str | None) -> str:
    return "not set" if value is None else shown(value)


def _unwanted(view: PodView, namespace: MeshNamespace) -> Skip | None:
    own = view.metadata.annotations.get(INJECTION_ANNOTATION)
    wanted = None if own is None else _switch(own)
    if own is not None and wanted is None:
        raise InjectionError(
            f"Pod annotation {INJECTION_ANNOTATION}: {shown(own)} is unknown; "
            "write enabled or disabled"
        )
    general = None if namespace.injection is None else _switch(namespace.injection)
    if namespace.injection is not None and general is None:
        raise _namespace_error(namespace.name, INJECTION_ANNOTATION, namespace.injection)
    if wanted is None and view.copied_uuid is not None:
        # kubectl drops annotations of copies; without a sidecar of its own this one would be served
        # by a second Envoy with the first one's certificate.
        return None
    if wanted is None and not general:
        says = "is disabled" if namespace.injection is not None else "is not set"
        reason = (
            f"annotation {INJECTION_ANNOTATION} of namespace {namespace.name} {says}, "
            "and the Pod has none"
        )
        return Skip(reason=reason, of_namespace=True)
    if wanted is False:
        return Skip(reason=f"the Pod's annotation {INJECTION_ANNOTATION} is disabled")
    return None


def _inject(view: PodView, namespace: MeshNamespace) -> Inject:
    check_names(view)
    old = view.copied_uuid
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
        f"annotation {annotation} of namespace {namespace}: {shown(value)} is unknown; "
        "write enabled or disabled"
    )
