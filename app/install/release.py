"""What the cluster remembers of an installation: release name, version, overrides, objects.

One Secret per mesh in the control plane's namespace (overrides may hold a token); ``osm mesh
upgrade`` and ``osm uninstall mesh`` read it. Pure but for the two short functions at the end.
Specification: kubernetes-surface 7.2.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.errors import ObjectError
from app.install.render import MESH_LABEL, Installation
from app.objects.meta import (
    INSTANCE_LABEL,
    NAME_LABEL,
    PRODUCT,
    VERSION_LABEL,
    ObjectRef,
    RawObject,
)
from app.ports import Cluster

_KEY = "release.json"
_TYPE = "openservicemesh.io/release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One mesh as it was installed."""

    mesh_name: str
    namespace: str
    version: str
    overrides: dict[str, Any] = field(default_factory=dict, repr=False)
    """The tree of ``--set`` and flags; may hold a token."""
    objects: tuple[ObjectRef, ...] = ()
    """What was applied, in order."""


def release_ref(mesh_name: str, namespace: str) -> ObjectRef:
    """Where the release of a mesh is written."""
    return ObjectRef(
        api_version="v1", kind="Secret", namespace=namespace, name=f"osm-release-{mesh_name}"
    )


def release_of(
    installation: Installation, overrides: dict[str, Any], objects: Iterable[RawObject]
) -> Release:
    """The release that an installation makes."""
    return Release(
        mesh_name=installation.mesh_name,
        namespace=installation.namespace,
        version=installation.version,
        overrides=overrides,
        objects=tuple(ObjectRef.of(raw) for raw in objects),
    )


def encode_release(release: Release) -> RawObject:
    """The Secret that holds the release."""
    ref = release_ref(release.mesh_name, release.namespace)
    content = {
        "name": release.mesh_name,
        "version": release.version,
        "overrides": release.overrides,
        "objects": [
            [one.api_version, one.kind, one.namespace, one.name] for one in release.objects
        ],
    }
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": {
                MESH_LABEL: release.mesh_name,
                NAME_LABEL: PRODUCT,
                INSTANCE_LABEL: release.mesh_name,
                VERSION_LABEL: release.version,
            },
        },
        "type": _TYPE,
        "data": {_KEY: base64.b64encode(json.dumps(content).encode()).decode()},
    }


def decode_release(raw: RawObject) -> Release:
    """The release in a Secret; raise ``ObjectError`` where it cannot be read."""
    try:
        content = json.loads(base64.b64decode(raw["data"][_KEY], validate=True))
        return Release(
            mesh_name=content["name"],
            namespace=raw["metadata"]["namespace"],
            version=content["version"],
            overrides=dict(content["overrides"]),
            objects=tuple(
                ObjectRef(api_version=api, kind=kind, namespace=namespace, name=name)
                for api, kind, namespace, name in content["objects"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        where = ObjectRef.of(raw)
        raise ObjectError(f"{where} is not a release that osm install wrote: {error!r}") from error


def read_release(cluster: Cluster, mesh_name: str, namespace: str) -> Release | None:
    """The release of a mesh, or None where the cluster remembers none."""
    raw = cluster.read(release_ref(mesh_name, namespace))
    return None if raw is None else decode_release(raw)


def write_release(cluster: Cluster, release: Release) -> None:
    """The cluster remembers this release of the mesh, and no other."""
    cluster.apply(encode_release(release))
