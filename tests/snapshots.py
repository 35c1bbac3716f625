"""Short builders of snapshots, as ``refresh`` would make them, for tests of what comes after.

Identities are written ``namespace/account``, services ``namespace/name``. ``mesh`` computes the
indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from app.mesh.policies.part import Denial, Policies
from app.mesh.snapshot import (
    AccessRule,
    EndpointTable,
    MeshSnapshot,
    Rules,
    Services,
    ServiceView,
    Split,
    Workloads,
)
from app.objects.config import MeshConfigSpec
from xds.policy.http import ANY_REQUEST, HttpMatch
from xds.policy.identity import Issuers, ServiceIdentity
from xds.policy.proxy import ProxyProfile
from xds.policy.service import Endpoint, MeshService, Protocol, Workload


def identity(text: str) -> ServiceIdentity:
    namespace, _, account = text.partition("/")
    return ServiceIdentity(namespace=namespace, service_account=account)


def service(text: str, port: int = 80, target: int = 8080, protocol: str = "http") -> MeshService:
    """``namespace/name`` or ``namespace/host.name``."""
    namespace, _, host = text.partition("/")
    subdomain, _, name = host.rpartition(".")
    return MeshService(
        namespace=namespace,
        name=name,
        subdomain=subdomain,
        port=port,
        target=target,
        protocol=Protocol(protocol),
    )


def view(
    served: MeshService | str,
    *addresses: str,
    accounts: Iterable[str] | None = None,
    created: int | None = None,
    port_name: str = "",
    share: int = 1,
) -> ServiceView:
    """Accounts default to the one named as the service, ``created`` counts seconds."""
    if isinstance(served, str):
        served = service(served)
    runs_as = [served.parent] if accounts is None else accounts
    return ServiceView(
        service=served,
        addresses=addresses,
        identities=tuple(sorted(identity(account) for account in runs_as)),
        created=None if created is None else datetime.fromtimestamp(created, UTC),
        port_name=port_name,
        share=share,
    )


def access(
    destination: str,
    *sources: str,
    matches: Iterable[HttpMatch] = (ANY_REQUEST,),
    ports: Iterable[int] | None = None,
    any_port: bool = False,
    name: str | None = None,
) -> AccessRule:
    """A rule named as its destination unless told otherwise."""
    return AccessRule(
        name=name or destination,
        destination=identity(destination),
        sources=tuple(sorted(identity(source) for source in sources)),
        matches=tuple(sorted(set(matches))),
        ports=None if ports is None else frozenset(ports),
        any_port=any_port,
    )


def denial(
    source: str | None,
    *,
    matches: Iterable[HttpMatch] = (),
    ports: Iterable[int] | None = (),
    name: str = "shop/deny",
) -> Denial:
    """A denial for one source, or for everybody."""
    return Denial(
        name=name,
        sources=None if source is None else (identity(source),),
        matches=tuple(sorted(set(matches))),
        ports=None if ports is None else frozenset(ports),
    )


def split(root: str, weights: Mapping[str, int]) -> Split:
    namespace, _, name = root.partition("/")
    return Split(
        name=f"{root}-split",
        namespace=namespace,
        root=name,
        backends=tuple(sorted(weights.items())),
    )


def services(views: Iterable[ServiceView]) -> Services:
    ordered = tuple(sorted(views, key=lambda found: found.service))
    by_parent: dict[str, tuple[ServiceView, ...]] = {}
    by_identity: dict[ServiceIdentity, tuple[MeshService, ...]] = {}
    for found in ordered:
        parent = found.service.parent
        by_parent[parent] = (*by_parent.get(parent, ()), found)
        for runs_as in found.identities:
            by_identity[runs_as] = (*by_identity.get(runs_as, ()), found.service)
    return Services(
        views=ordered,
        by_service={found.service: found for found in ordered},
        by_parent=by_parent,
        by_identity=by_identity,
    )


def rules(granted: Iterable[AccessRule] = (), splits: Iterable[Split] = ()) -> Rules:
    ordered = tuple(sorted(granted, key=lambda rule: rule.name))
    by_source: dict[ServiceIdentity, tuple[AccessRule, ...]] = {}
    by_destination: dict[ServiceIdentity, tuple[AccessRule, ...]] = {}
    for rule in ordered:
        for source in rule.sources:
            by_source[source] = (*by_source.get(source, ()), rule)
        by_destination[rule.destination] = (*by_destination.get(rule.destination, ()), rule)
    of_backend: dict[str, tuple[Split, ...]] = {}
    for found in splits:
        for backend, _ in found.backends:
            key = f"{found.namespace}/{backend}"
            of_backend[key] = (*of_backend.get(key, ()), found)
    return Rules(
        access=ordered,
        by_source=by_source,
        by_destination=by_destination,
        splits={f"{found.namespace}/{found.root}": found for found in splits},
        splits_of_backend=of_backend,
    )


def mesh(
    *views: ServiceView,
    granted: Iterable[AccessRule] = (),
    splits: Iterable[Split] = (),
    permissive: bool = False,
    egress: bool = False,
    issuers: Issuers | None = None,
    denials: Mapping[str, tuple[Denial, ...]] | None = None,
    config: Mapping[str, object] | None = None,
    dns_suffix: str = "cluster.local",
    endpoints: Mapping[MeshService, tuple[Endpoint, ...]] | None = None,
) -> MeshSnapshot:
    """A snapshot in SMI mode without egress unless told otherwise."""
    traffic = {"enablePermissiveTrafficPolicyMode": permissive, "enableEgress": egress}
    return MeshSnapshot(
        revision=1,
        config=MeshConfigSpec.model_validate({"traffic": traffic, **(config or {})}),
        issuers=issuers or Issuers(),
        dns_suffix=dns_suffix,
        workloads=Workloads(pods={}, namespaces={}),
        services=services(views),
        rules=rules(granted, splits),
        endpoints=EndpointTable(by_service=endpoints or {}),
        rejected=(),
        policies=Policies(
            denials={identity(account): found for account, found in (denials or {}).items()}
        ),
    )


def profile(account: str, *backs: MeshService, scrape: bool = False) -> ProxyProfile:
    """The profile of Pods that run as the account and back the services."""
    runs_as = identity(account)
    return ProxyProfile(
        identity=runs_as,
        services=tuple(sorted(backs)),
        scrape=scrape,
        workload=Workload(
            namespace=runs_as.namespace, kind="Deployment", name=runs_as.service_account
        ),
    )
