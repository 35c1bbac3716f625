"""Clusters and endpoints: whom a proxy can call, and how.

Services and endpoints come in, CDS and EDS resources go out. A cluster says nothing of its client,
so all clients share it; an assignment is always built, also an empty one, because a missing one
stalls Envoy for 15 s. Specification: data-plane 5.10 and 5.11.
"""

from __future__ import annotations

from xds.builders import names, tls
from xds.builders.settings import HTTP_OPTIONS, health_check, new_cluster
from xds.builders.telemetry import ENDPOINT_METADATA
from xds.policy.proxy import TlsParameters
from xds.policy.service import Endpoint, MeshService
from xds.policy.settings import ClusterSettings, Connections
from xds.protos import (
    Address,
    Cluster,
    ClusterLoadAssignment,
    DnsCluster,
    DnsLookupFamily,
    HealthStatus,
    LbEndpoint,
    Locality,
    LocalityLbEndpoints,
    Metadata,
    Percent,
    SocketAddress,
    UInt32Value,
    UpstreamHttpOptions,
    duration,
    pack,
    resource_of,
)
from xds.protos import Endpoint as EndpointMessage
from xds.resource import Resource, ResourceKind

_CONNECT_SECONDS = 5
_LOOPBACK = "127.0.0.1"
_ADMIN_PORT = 15000
_ENDPOINT_ZONE = "local"
_LOCAL_ZONE = "zone"


def build_upstream_cluster(
    service: MeshService, settings: ClusterSettings, parameters: TlsParameters, dns_suffix: str
) -> Resource:
    """The cluster of a mesh service as every client of it sees it."""
    cluster = new_cluster(names.upstream_cluster(service), Cluster.EDS, settings)
    cluster.eds_cluster_config.eds_config.CopyFrom(tls.ads())
    cluster.transport_socket.CopyFrom(tls.upstream_tls(service, parameters, dns_suffix))
    # Draining endpoints count as unhealthy. They are used only when nothing else is left, as in a
    # cluster; Envoy's default would use them as soon as they are the majority of a rollout.
    cluster.common_lb_config.healthy_panic_threshold.CopyFrom(Percent(value=1))
    if settings.health_check:
        cluster.health_checks.append(health_check(service, dns_suffix))
    return _resource(cluster)


def build_local_cluster(service: MeshService) -> Resource:
    """The workload itself, as its own sidecar calls it."""
    cluster = new_cluster(names.local_cluster(service), Cluster.STATIC)
    _assign(cluster, service.target)
    return _resource(cluster)


def build_passthrough_cluster(name: str) -> Resource:
    """Wherever the client wanted to go, untouched."""
    cluster = new_cluster(name, Cluster.ORIGINAL_DST)
    cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    return _resource(cluster)


def build_denied_cluster(name: str) -> Resource:
    """A cluster without endpoints: whoever is sent here is closed at once."""
    cluster = Cluster(name=name, type=Cluster.STATIC, connect_timeout=duration(_CONNECT_SECONDS))
    cluster.load_assignment.cluster_name = name
    return _resource(cluster)


def build_metrics_cluster(name: str) -> Resource:
    """Envoy's own admin interface, for the Prometheus listener."""
    cluster = new_cluster(name, Cluster.STATIC)
    _assign(cluster, _ADMIN_PORT)
    return _resource(cluster)


def build_grpc_cluster(
    name: str, host: str, port: int, connect_seconds: float | None = None
) -> Resource:
    """A gRPC server outside the mesh, by DNS name or address; without a host, nobody answers."""
    connections = Connections(connect_timeout_seconds=connect_seconds)
    cluster = new_cluster(name, Cluster.STATIC, ClusterSettings(connections=connections))
    cluster.typed_extension_protocol_options.clear()
    options = UpstreamHttpOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(options))
    cluster.load_assignment.cluster_name = name
    if host:
        dns = DnsCluster(respect_dns_ttl=True, dns_lookup_family=DnsLookupFamily.V4_PREFERRED)
        by_dns = Cluster.CustomClusterType(name="envoy.clusters.dns", typed_config=pack(dns))
        cluster.cluster_type.CopyFrom(by_dns)
        _assign(cluster, port, host)
    return _resource(cluster)


def build_load_assignment(endpoints: tuple[Endpoint, ...], cluster: str) -> Resource:
    """The endpoints of a cluster in the order given; none is fine."""
    locality = LocalityLbEndpoints(
        locality=Locality(zone=_ENDPOINT_ZONE),
        lb_endpoints=[_lb_endpoint(endpoint) for endpoint in endpoints],
    )
    assignment = ClusterLoadAssignment(cluster_name=cluster, endpoints=[locality])
    return resource_of(ResourceKind.EDS, cluster, assignment)


def _assign(cluster: Cluster, port: int, host: str = _LOOPBACK) -> None:
    endpoint = EndpointMessage(address=_address(host, port))
    locality = LocalityLbEndpoints(
        locality=Locality(zone=_LOCAL_ZONE),
        lb_endpoints=[LbEndpoint(endpoint=endpoint)],
        load_balancing_weight=UInt32Value(value=100),
    )
    cluster.load_assignment.cluster_name = cluster.name
    cluster.load_assignment.endpoints.append(locality)


def _lb_endpoint(endpoint: Endpoint) -> LbEndpoint:
    workload = endpoint.workload
    labels = Metadata()
    labels.filter_metadata[ENDPOINT_METADATA].update(
        {
            "pod": endpoint.pod,
            "namespace": workload.namespace,
            "kind": workload.kind,
            "name": workload.name,
        }
    )
    return LbEndpoint(
        endpoint=EndpointMessage(address=_address(endpoint.address, endpoint.port)),
        health_status=HealthStatus.DRAINING if endpoint.draining else HealthStatus.UNKNOWN,
        metadata=labels,
    )


def _address(address: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=address, port_value=port))


def _resource(cluster: Cluster) -> Resource:
    return resource_of(ResourceKind.CDS, cluster.name, cluster)
