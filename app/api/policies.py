"""GET /services, /policies, /rejected, /conflicts: what the mesh knows and what is in force."""

from __future__ import annotations

from fastapi import APIRouter

from app.api import schemas
from app.deps import CurrentRuntime, CurrentSnapshot
from app.mesh import snapshot as mesh
from app.mesh.policies.part import Denial
from app.objects.meta import ObjectKey
from app.validate.conflicts import conflicts
from xds.policy.http import HttpMatch
from xds.policy.identity import ServiceIdentity

router = APIRouter(prefix="/api/v1", tags=["policies"], responses=schemas.PROBLEMS)


@router.get("/services")
def list_services(snapshot: CurrentSnapshot) -> list[schemas.Service]:
    """All services of the mesh, one entry per port, sorted."""
    return [_service(view, snapshot.endpoints) for view in snapshot.services.views]


@router.get("/policies")
def list_policies(snapshot: CurrentSnapshot) -> schemas.Policies:
    """Policies in force. In permissive mode TrafficTargets are listed but decide nothing."""
    traffic = snapshot.config.traffic
    return schemas.Policies(
        permissive=traffic.enable_permissive_traffic_policy_mode,
        egress=traffic.enable_egress,
        access=tuple(_access(rule) for rule in snapshot.rules.access),
        denials=tuple(
            _denial(to, denial)
            for to, found in sorted(snapshot.policies.denials.items())
            for denial in found
        ),
        splits=tuple(_split(split) for _, split in sorted(snapshot.rules.splits.items())),
    )


@router.get("/rejected")
def list_rejected(
    snapshot: CurrentSnapshot, runtime: CurrentRuntime
) -> list[schemas.RejectedObject]:
    """Objects, or parts of them, that are not in force, with place, field, reason and code."""
    objects = [
        schemas.RejectedObject(where=r.where, field=r.field, reason=r.reason, code=r.code)
        for r in snapshot.rejected
    ]
    return objects + [
        schemas.RejectedObject(where="configuration", field="", reason=text, code="E5007")
        for text in runtime.problems
    ]


@router.get("/conflicts")
def list_conflicts(
    snapshot: CurrentSnapshot, namespace: str | None = None
) -> list[schemas.Conflict]:
    """Pairs of objects that claim the same, sorted; of one namespace, or of all."""
    return [
        schemas.Conflict(
            first=_conflicting(found.first),
            second=_conflicting(found.second),
            over=found.over,
            message=str(found),
        )
        for found in conflicts(snapshot, namespace)
    ]


def _conflicting(key: ObjectKey) -> schemas.ConflictingObject:
    return schemas.ConflictingObject(kind=key.kind, namespace=key.namespace, name=key.name)


def _service(view: mesh.ServiceView, endpoints: mesh.EndpointTable) -> schemas.Service:
    service = view.service
    return schemas.Service(
        namespace=service.namespace,
        name=service.name,
        host=service.host,
        port=service.port,
        target=service.target,
        protocol=service.protocol,
        addresses=view.addresses,
        identities=tuple(str(identity) for identity in view.identities),
        endpoints=tuple(
            schemas.EndpointState(address=e.address, port=e.port, pod=e.pod, draining=e.draining)
            for e in endpoints.endpoints(service, None)
        ),
    )


def _access(rule: mesh.AccessRule) -> schemas.Access:
    namespace, _, name = rule.name.partition("/")
    ports = ("any",) if rule.any_port else tuple(str(port) for port in sorted(rule.ports or ()))
    return schemas.Access(
        namespace=namespace,
        name=name,
        destination=str(rule.destination),
        sources=tuple(str(source) for source in rule.sources),
        requests=tuple(_request(match) for match in rule.matches),
        ports=ports,
    )


def _denial(destination: ServiceIdentity, denial: Denial) -> schemas.Denial:
    namespace, _, name = denial.name.partition("/")
    sources, ports = denial.sources, denial.ports
    return schemas.Denial(
        namespace=namespace,
        name=name,
        destination=str(destination),
        sources=("*",) if sources is None else tuple(str(source) for source in sources),
        requests=tuple(_request(match) for match in denial.matches),
        ports=("any",) if ports is None else tuple(str(port) for port in sorted(ports)),
    )


def _request(match: HttpMatch) -> str:
    methods = ",".join(match.methods) or "*"
    headers = "".join(f" {header.name}={header.pattern}" for header in match.headers)
    return f"{methods} {match.path}{headers}"


def _split(split: mesh.Split) -> schemas.Split:
    return schemas.Split(
        namespace=split.namespace,
        name=split.name,
        root=split.root,
        backends=tuple(schemas.SplitBackend(service=s, weight=w) for s, w in split.backends),
        requests=None if split.matches is None else tuple(_request(m) for m in split.matches),
    )
