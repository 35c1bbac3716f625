"""Pods of the mesh: who they are, what stands behind them, and which services they back.

Typed Pods come in; :class:`MeshPod` values and the :class:`Workloads` part go out to ``refresh``.
Specification: data-plane 3.5 and 5.8. A Pod is of the mesh when it has a sidecar, has not finished
and is not on its host's network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from app.mesh.findings import Finding
from app.mesh.memory import Candidate, ServiceState
from app.mesh.snapshot import MeshNamespace, MeshPod, Workloads
from app.mesh.ties import age
from app.objects.core import Namespace, Pod
from app.objects.meta import (
    INJECTION_ANNOTATION,
    METRICS_ANNOTATION,
    PROXY_UUID_LABEL,
    ObjectKey,
    ObjectKind,
    OwnerReference,
    kept_out_by,
)
from xds.policy.identity import ServiceIdentity
from xds.policy.service import MeshService, Workload

SCRAPE_ANNOTATION = "prometheus.io/scrape"
TEMPLATE_HASH_LABEL = "pod-template-hash"
_UNKNOWN = "unknown"


def has_sidecar(pod: Pod) -> bool:
    """True for a Pod whose traffic passes a sidecar."""
    return PROXY_UUID_LABEL in pod.metadata.labels and not pod.spec.host_network


def identity_of(pod: Pod) -> ServiceIdentity:
    """Who the Pod runs as."""
    return ServiceIdentity(namespace=pod.namespace, service_account=pod.service_account)


def workload_of(pod: Pod) -> Workload:
    """The controller behind a Pod: a Deployment for its ReplicaSets; ``unknown`` for none."""
    owners = pod.metadata.owner_references
    owner = next((one for one in owners if one.controller), owners[0] if owners else None)
    kind, name = _controller(owner, pod) if owner else (_UNKNOWN, _UNKNOWN)
    return Workload(namespace=pod.namespace, kind=kind, name=name)


def _controller(owner: OwnerReference, pod: Pod) -> tuple[str, str]:
    base, dash, suffix = owner.name.rpartition("-")
    of_deployment = owner.kind == "ReplicaSet" and dash
    if of_deployment and pod.metadata.labels.get(TEMPLATE_HASH_LABEL, suffix) == suffix:
        return "Deployment", base
    return owner.kind, owner.name


def mesh_pod(pod: Pod, states: Iterable[ServiceState]) -> MeshPod:
    """The Pod as the mesh sees it; ``states`` are those of the Services that select it."""
    services = {service for state in states for service in _backed(pod, state)}
    return MeshPod(
        namespace=pod.namespace,
        name=pod.name,
        uid=pod.metadata.uid,
        uuid=pod.metadata.labels[PROXY_UUID_LABEL],
        created=pod.metadata.creation_timestamp,
        identity=identity_of(pod),
        workload=workload_of(pod),
        scrape=pod.metadata.annotations.get(SCRAPE_ANNOTATION, "").lower() == "true",
        services=tuple(sorted(services)),
    )


def _backed(pod: Pod, state: ServiceState) -> Iterable[MeshService]:
    """Mesh services of one Service that the Pod serves: host names only if they are its own."""
    if state.shape is None:
        return
    candidates = state.shape.candidates
    for candidate in candidates:
        service = candidate.service
        own = service.subdomain in ("", pod.host)
        if own and _listens(pod, candidate, [c for c in candidates if _are_siblings(c, candidate)]):
            yield service


def _are_siblings(one: Candidate, other: Candidate) -> bool:
    """True for mesh services that differ in their target at most."""
    first, second = one.service, other.service
    return (first.port, first.subdomain) == (second.port, second.subdomain)


def _listens(pod: Pod, candidate: Candidate, siblings: Sequence[Candidate]) -> bool:
    """False where the Pod declares the named target port under the number of a sibling (3.2)."""
    number = pod.port_number(candidate.target_name) if candidate.target_name else None
    if number not in {sibling.service.target for sibling in siblings}:
        return True
    return candidate.service.target == number


def workloads(
    pods: Iterable[MeshPod], namespaces: Mapping[str, MeshNamespace]
) -> tuple[Workloads, tuple[Finding, ...]]:
    """The part, and what is wrong with sidecar UUIDs.

    Pods of one namespace that share a UUID are all left out (E5002). Across namespaces the oldest
    Pod keeps it: nobody can shut out a neighbour's Pod by copying its label.
    """
    by_uuid: dict[str, list[MeshPod]] = {}
    for pod in pods:
        by_uuid.setdefault(pod.uuid, []).append(pod)
    kept = {uuid: sharers[0] for uuid, sharers in by_uuid.items() if len(sharers) == 1}
    twins: set[str] = set()
    findings: list[Finding] = []
    for uuid, sharers in by_uuid.items():
        if len(sharers) > 1:
            winner = _holder(sharers)
            if winner is None:
                twins.add(uuid)
            else:
                kept[uuid] = winner
            findings += [_shared_uuid(pod) for pod in sharers if pod is not winner]
    part = Workloads(
        pods={uuid: kept[uuid] for uuid in sorted(kept)},
        namespaces=namespaces,
        duplicate_uuids=frozenset(twins),
    )
    return part, tuple(sorted(findings))


def mesh_namespaces(namespaces: Iterable[Namespace]) -> dict[str, MeshNamespace]:
    """Namespaces by name, as injection needs them."""
    return {
        one.name: MeshNamespace(
            name=one.name,
            ignored_by=kept_out_by(one.metadata.labels),
            injection=one.metadata.annotations.get(INJECTION_ANNOTATION),
            metrics=one.metadata.annotations.get(METRICS_ANNOTATION),
        )
        for one in namespaces
    }


def repeated_port(pod: Pod) -> Finding | None:
    """The first port that two containers of the Pod declare: only one of them can listen on it."""
    seen: dict[tuple[int, str], str] = {}
    for index, container in enumerate(pod.spec.containers):
        for place, port in enumerate(container.ports):
            field = f"spec.containers[{index}].ports[{place}].containerPort"
            first = seen.setdefault((port.container_port, port.protocol), field)
            if first != field:
                return Finding(
                    key=ObjectKey(kind=ObjectKind.POD, namespace=pod.namespace, name=pod.name),
                    field=field,
                    reason=f"asks for port {port.container_port} again, after {first}: remove one",
                    code="E3002",
                )
    return None


def _holder(sharers: Sequence[MeshPod]) -> MeshPod | None:
    """The oldest, unless a Pod of its own namespace shares its UUID."""
    oldest = min(sharers, key=lambda pod: (*age(pod.created), pod.namespace, pod.name))
    rivals = [pod for pod in sharers if pod.namespace == oldest.namespace]
    return oldest if len(rivals) == 1 else None


def _shared_uuid(pod: MeshPod) -> Finding:
    return Finding(
        key=ObjectKey(kind=ObjectKind.POD, namespace=pod.namespace, name=pod.name),
        field=f"metadata.labels.{PROXY_UUID_LABEL}",
        reason=f"another Pod has the UUID {pod.uuid} too: remove the label and create the Pod anew",
        code="E5002",
    )
