"""What a refresh remembers for the next one: results per Service and Pod, not yet joined.

Goes from one call of ``refresh`` to the next beside the snapshot, which may stay the same object
while this moves on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.mesh.findings import Finding
from app.mesh.resolve import NOTHING_RESOLVED, Resolved
from app.mesh.snapshot import MeshPod, MeshSnapshot
from app.objects.meta import ObjectKey
from xds.policy.identity import ServiceIdentity
from xds.policy.service import Endpoint, MeshService


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A mesh service as its own Service tells it, before addresses are shared out."""

    service: MeshService
    addresses: tuple[str, ...]
    port_name: str
    target_name: str
    """Name of the target port where the Service gives a name; else empty."""
    share: int
    field: str
    """Where the port stands in the Service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What policy depends on: all of a Service but readiness, and addresses if headless only."""

    key: ObjectKey
    candidates: tuple[Candidate, ...]
    identities: tuple[ServiceIdentity, ...]
    created: datetime | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceState:
    """One Service of a monitored namespace, read together with its Pods and endpoints."""

    pods: frozenset[str]
    """Names of the Pods its selector picked, with or without a sidecar."""
    slices: frozenset[str]
    """Names of its EndpointSlices."""
    shape: Shape | None
    """None: not a service of the mesh."""
    endpoints: Mapping[MeshService, tuple[Endpoint, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """All of it, with the findings of each step."""

    states: Mapping[tuple[str, str], ServiceState]
    """By namespace and name of the Service."""
    pods: Mapping[tuple[str, str], MeshPod]
    """By namespace and name, twins included."""
    repeated: Mapping[tuple[str, str], Finding]
    """Pods, by namespace and name, that declare a port twice."""
    resolved: Resolved
    findings: Mapping[str, tuple[Finding, ...]]
    """By the step that found them."""


NOTHING = Memory(states={}, pods={}, repeated={}, resolved=NOTHING_RESOLVED, findings={})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Progress:
    """The newest snapshot, and what the next refresh starts from."""

    snapshot: MeshSnapshot
    memory: Memory
