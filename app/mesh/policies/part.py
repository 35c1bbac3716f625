"""The snapshot's ``policies``: what traffic policies say, resolved, one field per kind.

``read`` makes it; ``app/mesh/catalog`` compiles it into what each profile may do. Equal content is
the same object from one snapshot to the next, so a change that means nothing compiles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.objects.upstream import UpstreamTrafficSettingSpec
from xds.policy.egress import EgressProtocol
from xds.policy.http import HttpMatch
from xds.policy.identity import ServiceIdentity, SubjectName
from xds.policy.settings import Connections, RetryPolicy

Retried = tuple[tuple[str, RetryPolicy], ...]
"""``<namespace>/<name>`` of Services and when calls to them are tried again; sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressGrant:
    """One Egress, resolved: its sources may leave the mesh for these hosts, networks and ports."""

    name: str
    """``<namespace>/<name>`` of the Egress."""
    sources: frozenset[ServiceIdentity]
    ports: tuple[tuple[int, EgressProtocol], ...]
    """Never empty."""
    hosts: tuple[str, ...]
    """Lower case; ``*.x`` is any host below x; empty: any."""
    ranges: tuple[str, ...]
    """IPv4 networks; empty: any address."""
    matches: tuple[HttpMatch, ...] | None
    """Requests that are let out; None: all; empty: none."""
    connections: Connections


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressGrant:
    """One backend of an IngressBackend, resolved: gateways may send to it."""

    name: str
    """``<namespace>/<name>`` of the IngressBackend."""
    service: str
    """``<namespace>/<name>`` of the Service."""
    target: int
    tls: bool
    client_certificate: bool
    server_names: tuple[str, ...]
    """TLS: empty means any."""
    addresses: tuple[str, ...] | None
    """Networks; None: any; empty: nobody."""
    principals: tuple[SubjectName, ...] | None
    """None: any, or no certificate; empty: nobody."""
    matches: tuple[HttpMatch, ...] | None
    """Requests that are let in; None: all; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One TrafficDeny, resolved: what its destination refuses of its sources."""

    name: str
    """``<namespace>/<name>`` of the TrafficDeny."""
    sources: tuple[ServiceIdentity, ...] | None
    """Sorted; None: everybody. Never empty."""
    matches: tuple[HttpMatch, ...]
    """HTTP requests that are denied on every port; sorted and distinct."""
    ports: frozenset[int] | None
    """Target ports on which all traffic is denied; None: all of them."""

    def covers(self, port: int) -> bool:
        """True when all traffic to the target port is denied."""
        return self.ports is None or port in self.ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Each field is empty where no object of its kind is in force."""

    upstreams: Mapping[str, UpstreamTrafficSettingSpec] = field(default_factory=dict)
    """The UpstreamTrafficSetting of each Service that has one, by ``<namespace>/<name>``."""
    retries: Mapping[ServiceIdentity, Retried] = field(default_factory=dict)
    """What each client that has a Retry tries again; empty while the feature flag is off."""
    egress: tuple[EgressGrant, ...] = ()
    """The oldest Egress first; empty where all of the mesh may leave."""
    ingress: Mapping[tuple[str, int], IngressGrant] = field(default_factory=dict)
    """By ``<namespace>/<name>`` of the Service and target port; sorted."""
    denials: Mapping[ServiceIdentity, tuple[Denial, ...]] = field(default_factory=dict)
    """By destination; sorted by name."""


NO_POLICIES = Policies()
