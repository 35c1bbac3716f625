"""Which mesh service an address and port belong to, and the services part that follows.

Shapes of single Services come in from ``services``; the :class:`Services` part and what lost its
address go out to ``refresh``. Each (port, address) is in one chain only: HTTP beats TCP, then the
oldest Service, then the name. HTTP services share: the Host header tells them apart.
Specification: data-plane 3.7, 5.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from app.mesh.findings import Finding
from app.mesh.memory import Candidate, Shape
from app.mesh.snapshot import MeshPod, Services, ServiceView
from app.mesh.ties import age
from xds.policy.identity import ServiceIdentity
from xds.policy.service import MeshService

Claim = tuple[Shape, Candidate]
Place = tuple[int, str]
"""A port and an address."""


def join_services(
    shapes: Iterable[Shape], pods: Iterable[MeshPod]
) -> tuple[Services, tuple[Finding, ...]]:
    """The services part of the mesh, and the ports that lost addresses to other Services."""
    ordered = sorted(shapes, key=lambda shape: (shape.key.namespace, shape.key.name))
    lost = _lost_places(ordered)
    views = [_view(shape, candidate, lost) for shape in ordered for candidate in shape.candidates]
    views.sort(key=lambda view: view.service)
    by_parent: dict[str, list[ServiceView]] = {shape.key.path: [] for shape in ordered}
    for view in views:
        by_parent[view.service.parent].append(view)
    part = Services(
        views=tuple(views),
        by_service={view.service: view for view in views},
        by_parent={parent: tuple(found) for parent, found in by_parent.items()},
        by_identity=_by_identity(pods),
    )
    return part, _findings(ordered, lost)


def same_services(one: Services, other: Services) -> bool:
    """True when both parts say the same, so that the older object can stay."""
    return (
        one.views == other.views
        and one.by_parent.keys() == other.by_parent.keys()
        and one.by_identity == other.by_identity
    )


def _lost_places(shapes: Iterable[Shape]) -> dict[tuple[MeshService, Place], Shape]:
    """Places that a mesh service has to leave, each with the Service that keeps it."""
    claims: dict[Place, list[Claim]] = {}
    for shape in shapes:
        for candidate in shape.candidates:
            for address in candidate.addresses:
                claims.setdefault((candidate.service.port, address), []).append((shape, candidate))
    lost: dict[tuple[MeshService, Place], Shape] = {}
    for place, rivals in claims.items():
        if len(rivals) > 1:
            for shape, candidate in _losers(rivals):
                lost[candidate.service, place] = shape
    return lost


def _losers(rivals: list[Claim]) -> Iterator[Claim]:
    """TCP claims of other Services than the winner's, paired with the winner."""
    winner = min(rivals, key=_rank)[0]
    for shape, candidate in rivals:
        if shape is not winner and not candidate.service.protocol.is_http:
            yield winner, candidate


def _rank(claim: Claim) -> tuple[object, ...]:
    shape, candidate = claim
    is_tcp = not candidate.service.protocol.is_http
    return is_tcp, *age(shape.created), shape.key.name, shape.key.namespace


def _view(
    shape: Shape, candidate: Candidate, lost: dict[tuple[MeshService, Place], Shape]
) -> ServiceView:
    service = candidate.service
    return ServiceView(
        service=service,
        addresses=tuple(
            address
            for address in candidate.addresses
            if (service, (service.port, address)) not in lost
        ),
        identities=shape.identities,
        created=shape.created,
        port_name=candidate.port_name,
        share=candidate.share,
    )


def _by_identity(pods: Iterable[MeshPod]) -> dict[ServiceIdentity, tuple[MeshService, ...]]:
    found: dict[ServiceIdentity, set[MeshService]] = {}
    for pod in pods:
        if pod.services:
            found.setdefault(pod.identity, set()).update(pod.services)
    return {identity: tuple(sorted(found[identity])) for identity in sorted(found)}


def _findings(
    shapes: Iterable[Shape], lost: dict[tuple[MeshService, Place], Shape]
) -> tuple[Finding, ...]:
    """One per port and winner, naming the lowest address."""
    if not lost:
        return ()
    by_service = {
        candidate.service: (shape, candidate) for shape in shapes for candidate in shape.candidates
    }
    found: dict[tuple[object, ...], Finding] = {}
    for service, (port, address) in sorted(lost, key=lambda entry: (entry[0], entry[1])):
        winner = lost[service, (port, address)].key
        loser, candidate = by_service[service]
        reason = (
            f"cannot be reached at {address}, port {port}, because {winner} has the same address "
            "and port: use another port, or http on both"
        )
        found.setdefault(
            (loser.key, candidate.field, winner),
            Finding(key=loser.key, field=candidate.field, reason=reason, code="E2008"),
        )
    return tuple(sorted(found.values()))
