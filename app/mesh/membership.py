"""Rules of who belongs to the mesh: a namespace and a wish to the labels to write, or why not.

A namespace joins, leaves or is ignored, and has its metrics scraped, only by labels and
annotations. The admin API and the CLI write what these functions return. Specification:
kubernetes-surface 2.1, 7.3 and 7.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from app.errors import RefusedError
from app.objects.meta import (
    IGNORE_LABEL,
    INJECTION_ANNOTATION,
    METRICS_ANNOTATION,
    MONITORED_BY_LABEL,
    SYSTEM_NAMESPACES,
    RawObject,
    kept_out_by,
)

SCRAPE_ANNOTATIONS = MappingProxyType(
    {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "15010",
        "prometheus.io/path": "/stats/prometheus",
    }
)
"""What tells Prometheus to scrape a sidecar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to write to a namespace, and what to tell about it."""

    patch: RawObject | None
    """A merge patch; None: it is so already."""
    message: str


def join(namespace: RawObject, mesh: str, *, inject: bool, force: bool = False) -> Change:
    """The namespace belongs to the mesh; raise ``RefusedError`` when something is in the way."""
    name, labels = _name(namespace), _labels(namespace)
    owner = labels.get(MONITORED_BY_LABEL)
    if name in SYSTEM_NAMESPACES:
        raise RefusedError(
            f"Namespace [{name}] is the cluster's own: it must run without any mesh; leave it out"
        )
    if owner == mesh:
        return Change(patch=None, message=f"Namespace [{name}] is already in mesh [{mesh}]")
    obstacle = kept_out_by(labels)
    if obstacle:
        raise RefusedError(
            f"Namespace [{name}] has the label {obstacle}={labels[obstacle]}; remove it before "
            "adding the namespace to a mesh"
        )
    if owner is not None and not force:
        raise RefusedError(
            f"Namespace [{name}] belongs to mesh [{owner}]; remove it there first, or force it"
        )
    switch = "enabled" if inject else "disabled"
    return Change(
        patch=_metadata({MONITORED_BY_LABEL: mesh}, {INJECTION_ANNOTATION: switch}),
        message=f"Namespace [{name}] successfully added to mesh [{mesh}]",
    )


def leave(namespace: RawObject, mesh: str) -> Change:
    """The namespace belongs to no mesh; raise ``RefusedError`` when it belongs to another."""
    name = _name(namespace)
    owner = _labels(namespace).get(MONITORED_BY_LABEL)
    if owner is None:
        return Change(patch=None, message=f"Namespace [{name}] does not belong to any mesh")
    if owner != mesh:
        raise RefusedError(f"Namespace [{name}] belongs to mesh [{owner}], not to mesh [{mesh}]")
    return Change(
        patch=_metadata(
            {MONITORED_BY_LABEL: None, IGNORE_LABEL: None},
            {INJECTION_ANNOTATION: None, METRICS_ANNOTATION: None},
        ),
        message=(
            f"Namespace [{name}] successfully removed from mesh [{mesh}]; restart its Pods: their "
            "sidecars stay until then"
        ),
    )


def ignore(namespace: RawObject) -> Change:
    """No Pod of the namespace is ever injected, no object of it validated."""
    name = _name(namespace)
    if _labels(namespace).get(IGNORE_LABEL) == "true":
        return Change(patch=None, message=f"Namespace [{name}] is already ignored")
    return Change(
        patch=_metadata({IGNORE_LABEL: "true"}, {}),
        message=f"Namespace [{name}] is ignored from now on",
    )


def scrape(namespace: RawObject, mesh: str, *, enable: bool) -> Change:
    """The sidecars of the namespace are scraped, or not; raise ``RefusedError`` outside a mesh."""
    name = _name(namespace)
    if enable and _labels(namespace).get(MONITORED_BY_LABEL) != mesh:
        raise RefusedError(
            f"Namespace [{name}] does not belong to mesh [{mesh}]; add it before enabling metrics"
        )
    value = "enabled" if enable else None
    word = "enabled" if enable else "disabled"
    is_so = _annotations(namespace).get(METRICS_ANNOTATION) == value
    return Change(
        patch=None if is_so else _metadata({}, {METRICS_ANNOTATION: value}),
        message=f"Metrics successfully {word} in namespace [{name}]",
    )


def scrape_pod(*, enable: bool) -> RawObject:
    """The merge patch that has a running Pod's sidecar scraped, or not."""
    found = {name: value if enable else None for name, value in SCRAPE_ANNOTATIONS.items()}
    return _metadata({}, found)


def _metadata(labels: RawObject, annotations: RawObject) -> RawObject:
    parts = {"labels": labels, "annotations": annotations}
    return {"metadata": {name: part for name, part in parts.items() if part}}


def _name(namespace: RawObject) -> str:
    return str(namespace["metadata"]["name"])


def _labels(namespace: RawObject) -> RawObject:
    return namespace["metadata"].get("labels") or {}


def _annotations(namespace: RawObject) -> RawObject:
    return namespace["metadata"].get("annotations") or {}
