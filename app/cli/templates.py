"""Pods in files: every workload that makes Pods, with the Pod it would make; pure.

In comes an object as written, out goes the Pod as the admission webhook would see it, or a copy of
the object whose Pods ask for a sidecar. Used by ``osm inject``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from app.errors import ObjectError
from app.objects.meta import INJECTION_ANNOTATION, RawObject

TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Pod": (),
        "Deployment": ("spec", "template"),
        "StatefulSet": ("spec", "template"),
        "DaemonSet": ("spec", "template"),
        "ReplicaSet": ("spec", "template"),
        "Job": ("spec", "template"),
        "CronJob": ("spec", "jobTemplate", "spec", "template"),
    }
)
"""Kinds that make Pods, and where the Pod's metadata and spec stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What a workload makes."""

    kind: str
    namespace: str
    name: str
    where: str
    """``file:line``."""
    pod: RawObject = field(repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def find_template(raw: RawObject, where: str, default_namespace: str) -> Template | None:
    """The Pod that the object makes; None for another kind; raise ``ObjectError`` if misshaped."""
    kind = str(raw.get("kind"))
    path = TEMPLATES.get(kind)
    if path is None:
        return None
    metadata = _mapping(raw, "metadata", where)
    template = _reached(raw, path, where)
    inner = _mapping(template, "metadata", where)
    namespace = str(metadata.get("namespace") or default_namespace)
    name = str(metadata.get("name") or metadata.get("generateName") or "")
    named = {} if kind == "Pod" else {"generateName": f"{name}-"}
    pod: RawObject = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**named, **inner, "namespace": namespace},
        "spec": copy.deepcopy(_mapping(template, "spec", where)),
    }
    return Template(kind=kind, namespace=namespace, name=name, where=where, pod=pod)


def annotated(raw: RawObject) -> RawObject:
    """A copy of the workload whose Pods ask for a sidecar by annotation."""
    edited = copy.deepcopy(raw)
    template = _reached(edited, TEMPLATES[str(raw["kind"])], "")
    metadata = template["metadata"] = template.get("metadata") or {}
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        INJECTION_ANNOTATION: "enabled",
    }
    return edited


def _reached(raw: RawObject, path: tuple[str, ...], where: str) -> RawObject:
    found, told = raw, ""
    for step in path:
        told = f"{told}.{step}" if told else step
        inner = found.get(step)
        if not isinstance(inner, dict):
            raise ObjectError(f"{where}: {raw['kind']} has no {told}, where its Pods are described")
        found = inner
    return found


def _mapping(raw: RawObject, name: str, where: str) -> RawObject:
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ObjectError(f"{where}: {name} must be an object with fields")
    return value
