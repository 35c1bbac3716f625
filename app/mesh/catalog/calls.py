"""What UpstreamTrafficSettings and Retries say of the calls of clients.

Comes in: the snapshot's ``policies`` and ``config``. Goes out: the settings of each cluster, and
what the routes of a dialled host say, for ``outbound``. Specification: data-plane 4.8, 4.9, 5.10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from app.mesh.catalog.splits import Share, backend_views
from app.mesh.policies.calls import client_timeouts, cluster_settings, hash_keys
from app.mesh.policies.part import Retried
from app.mesh.snapshot import MeshSnapshot, ServiceView
from xds.policy.service import MeshService
from xds.policy.settings import (
    PLAIN_ROUTE,
    ClusterSettings,
    HashKey,
    Mirror,
    RetryPolicy,
    RoutePolicy,
)
from xds.policy.traffic import Outbound, OutboundHost, OutboundHttpPort


class Calls:
    """Settings of one snapshot; equal ones of a Service are the same object."""

    def __init__(self, snapshot: MeshSnapshot) -> None:
        self._services = snapshot.services
        self._settings = snapshot.policies.upstreams
        check = snapshot.config.feature_flags.enable_envoy_active_health_checks
        self._plain = cluster_settings(None, health_check=check)
        self._clusters = {
            service: cluster_settings(spec, health_check=check)
            for service, spec in self._settings.items()
        }

    def cluster(self, service: MeshService) -> ClusterSettings:
        """How clients connect to the service."""
        return self._clusters.get(service.parent, self._plain)

    def route(
        self,
        dialled: ServiceView,
        split: Iterable[Share],
        clusters: Mapping[MeshService, MeshService],
    ) -> RoutePolicy:
        """What the routes of a dialled service say; nothing is tried again.

        ``clusters`` names the service that stands for each one's cluster.
        """
        service = dialled.service
        if not self._settings:
            return PLAIN_ROUTE
        backends = (view.service.parent for views, _ in split for view in views)
        return RoutePolicy(
            timeouts=client_timeouts(self._settings.get(service.parent)),
            hash_keys=self._hash_keys([service.parent, *backends]),
            mirror=self._mirror(dialled, clusters),
        )

    def _hash_keys(self, parents: Iterable[str]) -> tuple[HashKey, ...]:
        """Those of the dialled Service, else of the first backend whose endpoints need some."""
        found = (hash_keys(self._settings.get(parent)) for parent in parents)
        return next((keys for keys in found if keys), ())

    def _mirror(
        self, dialled: ServiceView, clusters: Mapping[MeshService, MeshService]
    ) -> Mirror | None:
        """Who gets copies: the Service's port of the same number, else of the same name."""
        service = dialled.service
        spec = self._settings.get(service.parent)
        if spec is None or spec.mirror is None or not service.protocol.is_http:
            return None
        copies = [
            view.service
            for view in backend_views(self._services, dialled, spec.mirror.service)
            if view.service.protocol.is_http and view.service.parent != service.parent
        ]
        if not copies or not spec.mirror.percentage:
            return None
        return Mirror(service=clusters[min(copies)], percent=spec.mirror.percentage)


def with_retries(outbound: Outbound, retried: Retried) -> Outbound:
    """The same traffic, tried again where the client's Retries say so; all else is shared."""
    policies = dict(retried)
    ports = tuple(_retried_port(port, policies) for port in outbound.http)
    return outbound if ports == outbound.http else replace(outbound, http=ports)


def _retried_port(port: OutboundHttpPort, policies: Mapping[str, RetryPolicy]) -> OutboundHttpPort:
    if all(host.rule.service.parent not in policies for host in port.hosts):
        return port
    return replace(port, hosts=tuple(_retried_host(host, policies) for host in port.hosts))


def _retried_host(host: OutboundHost, policies: Mapping[str, RetryPolicy]) -> OutboundHost:
    found = policies.get(host.rule.service.parent)
    return host if found is None else replace(host, policy=replace(host.policy, retry=found))
