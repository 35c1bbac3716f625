"""Every name that stands in more than one resource: clusters, routes, chains, secrets.

Builders and the reference check of assembly take names from here and nowhere else, so a name cannot
differ between the two ends of a reference. Specification: data-plane 3.1 and 5.1.
"""

from __future__ import annotations

from xds.policy.egress import EgressProtocol
from xds.policy.http import HttpMatch
from xds.policy.limits import Counter, RateLimitServer
from xds.policy.service import MeshService

OUTBOUND_LISTENER = "outbound-listener"
INBOUND_LISTENER = "inbound-listener"
PROMETHEUS_LISTENER = "inbound-prometheus-listener"

DEFAULT_CHAIN = "outbound-egress-filter-chain"

PASSTHROUGH = "passthrough-outbound"
MESH_DENIED = "mesh-denied"
METRICS = "envoy-metrics-cluster"
CONTROLLER = "osm-controller"
"""The bootstrap's own cluster: ADS, and the access-log service behind the tap switch."""

SERVICE_CERTIFICATE = "service-cert"
INBOUND_TRUST = "root-cert-for-mtls-inbound"

TAP_RUNTIME_KEY = "osm.tap"

MESH_ALPN = "osm"
HEALTH_PATH = "/healthz/osm"
HEALTH_HEADER = "x-osm-envoy-healthcheck"
"""What sidecars ask one another by, and answer without asking the application."""
HTTP_RBAC = "envoy.filters.http.rbac"
"""Name of the filter and key of its settings per virtual host: both must be equal."""
HTTP_DENIALS = "osm.deny"
"""The same for the filter of what is denied, which stands before that of what is allowed."""
HTTP_LOCAL_LIMIT = "envoy.filters.http.local_ratelimit"
HTTP_FAULT = "envoy.filters.http.fault"
AUTHORIZATION = "ext-authz"
"""The cluster of the server that is asked about requests."""


def upstream_cluster(service: MeshService) -> str:
    """The cluster, and the load assignment, of the service as others call it."""
    return f"{service.full_name}|{service.target}"


def local_cluster(service: MeshService) -> str:
    """The cluster of the workload itself, as its own sidecar calls it."""
    return f"{upstream_cluster(service)}|local"


def outbound_trust(parent: str) -> str:
    """The validation secret for calls to ``<namespace>/<name>``."""
    return f"root-cert-for-mtls-outbound:{parent}"


def inbound_routes(target: int) -> str:
    """The route configuration of a served target port."""
    return f"rds-inbound.{target}"


def outbound_routes(port: int) -> str:
    """The route configuration of a called port."""
    return f"rds-outbound.{port}"


def inbound_chain(service: MeshService) -> str:
    """The filter chain of a served service."""
    return f"inbound_{service.full_name}_{service.target}_{service.protocol}"


def outbound_http_chain(port: int) -> str:
    """The one filter chain of all HTTP services of a port."""
    return f"outbound_{port}_http"


def outbound_tcp_chain(service: MeshService) -> str:
    """The filter chain of a called TCP service."""
    return f"outbound_{service.full_name}_{service.port}_{service.protocol}"


def denied_chain(port: int) -> str:
    """The filter chain that closes connections to mesh services the client may not call."""
    return f"outbound-mesh-denied.{port}"


def egress_routes(port: int, granted_by: str) -> str:
    """The route configuration of requests to a port outside; ``granted_by`` with ranges only."""
    return _of_grant(f"rds-egress.{port}", granted_by)


def egress_chain(protocol: EgressProtocol, port: int, granted_by: str = "") -> str:
    """The filter chain of traffic to a port outside."""
    return _of_grant(f"egress-{protocol}.{port}", granted_by)


def egress_host(name: str) -> str:
    """The virtual host of a host outside."""
    return f"egress_virtual-host|{name}"


def ingress_routes(target: int, *, tls: bool) -> str:
    """The route configuration of what gateways send to a target port."""
    return f"rds-ingress.{target}{'_https' if tls else ''}"


def ingress_chain(service: MeshService, *, tls: bool) -> str:
    """The filter chain of what gateways send to a service."""
    return f"ingress_{service.full_name}_{service.target}_{'https' if tls else 'http'}"


def ingress_host(service: MeshService) -> str:
    """The virtual host of what gateways send to a service."""
    return f"ingress_virtual-host|{service.full_name}"


def inbound_host(service: MeshService, dns_suffix: str) -> str:
    """The virtual host of a served service."""
    return f"inbound_virtual-host|{service.fqdn(dns_suffix)}"


def outbound_host(service: MeshService, dns_suffix: str) -> str:
    """The virtual host of a called service."""
    return f"outbound_virtual-host|{service.fqdn(dns_suffix)}"


def limit_filter(counter: Counter) -> str:
    """The HTTP filter that asks a shared rate-limit service on behalf of one Service."""
    return f"envoy.filters.http.ratelimit/{counter.name}"


def limit_cluster(server: RateLimitServer) -> str:
    """The cluster of a shared rate-limit service."""
    return f"{server.host}|{server.port}"


def match_text(match: HttpMatch) -> str:
    """Canonical text of a match, the name of its RBAC policy; distinct for distinct matches."""
    methods = ",".join(match.methods) or "*"
    headers = "".join(f" {header.name}={header.pattern!r}" for header in match.headers)
    return f"{methods} {match.path!r}{headers}"


def _of_grant(name: str, granted_by: str) -> str:
    return f"{name}|{granted_by}" if granted_by else name
