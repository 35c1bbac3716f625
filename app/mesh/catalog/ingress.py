"""Traffic from gateways to one workload: the chains and rules of the services it backs.

Comes in: the snapshot's grants and the services of a profile. Goes out: one port for plain HTTP
and one for TLS per target, as far as a grant names it. Services that share a target share its
rules: behind it is one application. Specification: data-plane 4.7 and 5.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from app.mesh.catalog.access import canonical_order
from app.mesh.policies.ingress import Grants
from app.mesh.policies.part import IngressGrant
from xds.policy.http import ANY_PATH, ANY_REQUEST
from xds.policy.ingress import IngressChain, IngressPort, IngressRule
from xds.policy.service import MeshService

_Served = tuple[MeshService, IngressGrant]


def compile_ingress(
    grants: Grants, services: Iterable[MeshService], dns_suffix: str
) -> tuple[IngressPort, ...]:
    """What gateways may send to a workload that backs the services; sorted by target."""
    found: dict[tuple[int, bool, bool], list[_Served]] = {}
    services = sorted(services)
    for service in services:
        grant = grants.get((service.parent, service.target))
        if grant is not None and not service.subdomain:
            key = (service.target, grant.tls, grant.client_certificate)
            found.setdefault(key, []).append((service, grant))
    own: dict[int, list[str]] = {}
    for service in services:
        own.setdefault(service.target, []).append(service.fqdn(dns_suffix))
    return tuple(_ports(found, own))


def _ports(
    found: dict[tuple[int, bool, bool], list[_Served]], own: Mapping[int, Sequence[str]]
) -> Iterator[IngressPort]:
    """A target's TLS asks for certificates, where two Services want it both ways."""
    done: set[tuple[int, bool]] = set()
    for target, secure, checked in sorted(found, key=lambda key: (key[0], key[1], not key[2])):
        if (target, secure) not in done:
            done.add((target, secure))
            yield _port(found[target, secure, checked], own[target])


def _port(served: Sequence[_Served], own: Iterable[str]) -> IngressPort:
    service, grant = served[0]
    rules = _rules(found for _, found in served)
    return IngressPort(
        target=service.target,
        tls=grant.tls,
        client_certificate=grant.client_certificate,
        service=service,
        chains=tuple(_chains(served, own)),
        rules=rules,
        normalize_paths=any(rule.match.path != ANY_PATH for rule in rules),
    )


def _chains(served: Sequence[_Served], own: Iterable[str]) -> Iterator[IngressChain]:
    """One chain per service; a server name, or none, is the first one's that has it."""
    named = {name for _, grant in served for name in grant.server_names}
    taken: set[str] = set()
    seen: set[str] = set()
    for service, grant in served:
        free = tuple(dict.fromkeys(n for n in grant.server_names if n not in taken))
        is_open = not grant.server_names and "" not in taken
        if service.parent in seen or not (free or is_open):
            continue
        seen.add(service.parent)
        taken.update(free or ("",))
        left = () if free else tuple(dict.fromkeys(name for name in own if name not in named))
        yield IngressChain(service=service, own_names=left, server_names=free)


def _rules(grants: Iterable[IngressGrant]) -> tuple[IngressRule, ...]:
    found = {
        IngressRule(match=match, addresses=grant.addresses, principals=grant.principals)
        for grant in grants
        for match in ((ANY_REQUEST,) if grant.matches is None else grant.matches)
    }
    return tuple(sorted(found, key=_order))


def _order(rule: IngressRule) -> tuple[object, ...]:
    addresses, principals = rule.addresses or (), rule.principals or ()
    open_to_all = (rule.addresses is None, rule.principals is None)
    return *canonical_order(rule.match), open_to_all, addresses, principals
