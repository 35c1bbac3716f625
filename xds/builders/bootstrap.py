"""A sidecar's start-up files: Envoy's Bootstrap and the two file-SDS documents beside it.

Comes in one :class:`BootstrapSpec`, go out texts by file name, as the kubelet mounts them at
/etc/envoy. Called by ``app.inject.plan``. Source: kubernetes-surface 3.4 and 4, data-plane 5.2.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address

import yaml

from xds.builders import names
from xds.builders.probes import (
    ADMIN_CLUSTER,
    ADMIN_PORT,
    load_assignment,
    local_cluster,
    probe_clusters,
    probe_listeners,
    socket_address,
)
from xds.builders.telemetry import stdout_log
from xds.policy.bootstrap import AdsServer, BootstrapSpec
from xds.policy.http import MAX_PATTERN_PROGRAM
from xds.policy.identity import ProxyId, ServiceIdentity
from xds.policy.proxy import TlsParameters
from xds.protos import (
    Admin,
    AggregatedConfigSource,
    ApiConfigSource,
    ApiVersion,
    Bootstrap,
    CertificateValidationContext,
    Cluster,
    CommonTlsContext,
    ConfigSource,
    DataSource,
    DiscoveryResponse,
    DnsCluster,
    DnsLookupFamily,
    DownstreamConnectionsConfig,
    GrpcService,
    KeepaliveSettings,
    LayeredRuntime,
    Message,
    Node,
    OverloadManager,
    PathConfigSource,
    ResourceMonitor,
    RuntimeLayer,
    SdsSecretConfig,
    Secret,
    StringMatcher,
    SubjectAltNameMatcher,
    TcpKeepalive,
    TlsCertificate,
    TlsParametersMessage,
    TransportSocket,
    UInt32Value,
    UpstreamConnectionOptions,
    UpstreamHttpOptions,
    UpstreamTlsContext,
    WatchedDirectory,
    duration,
    pack,
    to_dict,
)
from xds.resource import ResourceError

DIRECTORY = "/etc/envoy"
BOOTSTRAP_FILE = "bootstrap.yaml"
CERTIFICATE_FILE = "tls_certificate_sds_secret.yaml"
VALIDATION_FILE = "validation_context_sds_secret.yaml"

_CERTIFICATE_SECRET = "tls_sds"  # noqa: S105 a name
_VALIDATION_SECRET = "validation_context_sds"  # noqa: S105 a name
_CONNECT_SECONDS = 5
_HTTP2_PING_SECONDS, _HTTP2_PING_TIMEOUT_SECONDS = 30, 10
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C library writes a bootstrap in a few milliseconds, Python in more than ten."""
_NOBODY = ProxyId(uuid="", identity=ServiceIdentity(namespace="", service_account=""))
_MAX_CONNECTIONS = 50_000
"""Far beyond what a Pod serves, well below the file descriptors that a container may open."""


def build_files(spec: BootstrapSpec) -> dict[str, str]:
    """The text of each start-up file, by name; certificates and keys are not among them."""
    node = _node(spec.proxy, pod_name=spec.pod_name, product_version=spec.product_version)
    head, tail = _around_node(replace(spec, proxy=_NOBODY, pod_name="", product_version=""))
    return {BOOTSTRAP_FILE: head + _dump({"node": to_dict(node)}) + tail, **build_secret_files()}


@lru_cache(maxsize=256)
def _around_node(spec: BootstrapSpec) -> tuple[str, str]:
    """The text before and after the node: all else is the same for all replicas of a workload."""
    document = _plain(build_bootstrap(spec))
    head = {name: value for name, value in document.items() if name < "node"}
    tail = {name: value for name, value in document.items() if name > "node"}
    return _dump(head), _dump(tail)


def build_secret_files() -> dict[str, str]:
    """The two file-SDS documents: which certificate to show, which roots to trust.

    They name directories to watch, because the kubelet replaces all files at once by moving a link.
    """
    return dict(_secret_files())


@lru_cache(maxsize=1)
def _secret_files() -> tuple[tuple[str, str], ...]:
    certificate = TlsCertificate(
        certificate_chain=_file("sds_cert.pem"),
        private_key=_file("sds_key.pem"),
        watched_directory=_directory(),
    )
    roots = CertificateValidationContext(
        trusted_ca=_file("cacert.pem"), watched_directory=_directory()
    )
    secrets = {
        CERTIFICATE_FILE: Secret(name=_CERTIFICATE_SECRET, tls_certificate=certificate),
        VALIDATION_FILE: Secret(name=_VALIDATION_SECRET, validation_context=roots),
    }
    return tuple(
        (name, _to_yaml(DiscoveryResponse(resources=[pack(secret)])))
        for name, secret in secrets.items()
    )


def renamed_bootstrap(text: str, *, proxy: ProxyId, pod_name: str, product_version: str) -> str:
    """The same document for another sidecar; all else stays, whoever wrote it.

    Raises :class:`ResourceError` when the text is not a bootstrap.
    """
    try:
        document = yaml.load(text, Loader=_LOADER)  # noqa: S506 both are safe loaders
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict):
        raise ResourceError("the bootstrap of the copied Pod is no YAML mapping")
    node = _node(proxy, pod_name=pod_name, product_version=product_version)
    return _dump(document | {"node": to_dict(node)})


def build_bootstrap(spec: BootstrapSpec) -> Bootstrap:
    """Envoy's start-up document. ``node.cluster`` comes from the command line."""
    return Bootstrap(
        node=_node(spec.proxy, pod_name=spec.pod_name, product_version=spec.product_version),
        admin=Admin(
            address=socket_address("127.0.0.1", ADMIN_PORT),
            access_log=[stdout_log()],
            ignore_global_conn_limit=True,
        ),
        dynamic_resources=_dynamic_resources(waits_for_config=spec.waits_for_config),
        static_resources=Bootstrap.StaticResources(
            listeners=probe_listeners(spec),
            clusters=[
                _ads_cluster(spec.ads, spec.tls),
                local_cluster(ADMIN_CLUSTER, ADMIN_PORT),
                *probe_clusters(spec.probes),
            ],
        ),
        layered_runtime=_runtime(),
        overload_manager=_overload_guard(),
    )


def _runtime() -> LayeredRuntime:
    """Patterns as large as admission lets in; above that, what can be set in a live Pod."""
    limits = RuntimeLayer(name="limits")
    for level in ("warn_level", "error_level"):
        limits.static_layer.update({f"re2.max_program_size.{level}": MAX_PATTERN_PROGRAM})
    # The layer that can be written at run time switches the tap logger.
    admin = RuntimeLayer(name="admin", admin_layer=RuntimeLayer.AdminLayer())
    return LayeredRuntime(layers=[limits, admin])


def _node(proxy: ProxyId, *, pod_name: str, product_version: str) -> Node:
    node = Node(id=proxy.uuid)
    # For people who read the ledger or a dump; identity comes from the certificate alone.
    node.metadata.update(
        {
            "pod": pod_name,
            "namespace": proxy.identity.namespace,
            "service_account": proxy.identity.service_account,
            "product_version": product_version,
        }
    )
    return node


def _dynamic_resources(*, waits_for_config: bool) -> Bootstrap.DynamicResources:
    service = GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=names.CONTROLLER))
    wildcard = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
    if waits_for_config:
        wildcard.initial_fetch_timeout.CopyFrom(duration(0))
    return Bootstrap.DynamicResources(
        ads_config=ApiConfigSource(
            api_type=ApiConfigSource.DELTA_GRPC,
            transport_api_version=ApiVersion.V3,
            grpc_services=[service],
            set_node_on_first_message_only=True,
        ),
        cds_config=wildcard,
        lds_config=wildcard,
    )


def _ads_cluster(ads: AdsServer, tls: TlsParameters) -> Cluster:
    cluster = Cluster(
        name=names.CONTROLLER,
        connect_timeout=duration(_CONNECT_SECONDS),
        lb_policy=Cluster.ROUND_ROBIN,
        load_assignment=load_assignment(names.CONTROLLER, ads.host, ads.port),
        transport_socket=TransportSocket(
            name="envoy.transport_sockets.tls", typed_config=pack(_ads_tls(ads, tls))
        ),
        upstream_connection_options=UpstreamConnectionOptions(
            tcp_keepalive=TcpKeepalive(
                keepalive_probes=UInt32Value(value=5),
                keepalive_time=UInt32Value(value=60),
                keepalive_interval=UInt32Value(value=5),
            )
        ),
    )
    cluster.typed_extension_protocol_options[
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    ].CopyFrom(pack(_http2_with_pings()))
    if _is_address(ads.host):
        cluster.type = Cluster.STATIC
    else:
        cluster.cluster_type.CopyFrom(_one_address_by_dns())
    return cluster


def _http2_with_pings() -> UpstreamHttpOptions:
    """HTTP/2 that notices a dead controller without waiting for TCP."""
    options = UpstreamHttpOptions()
    options.explicit_http_config.http2_protocol_options.connection_keepalive.CopyFrom(
        KeepaliveSettings(
            interval=duration(_HTTP2_PING_SECONDS), timeout=duration(_HTTP2_PING_TIMEOUT_SECONDS)
        )
    )
    return options


def _one_address_by_dns() -> Cluster.CustomClusterType:
    """What used to be called LOGICAL_DNS: connect to the first address, keep old connections."""
    dns = DnsCluster(
        all_addresses_in_single_endpoint=True, dns_lookup_family=DnsLookupFamily.V4_PREFERRED
    )
    return Cluster.CustomClusterType(name="envoy.clusters.dns", typed_config=pack(dns))


def _ads_tls(ads: AdsServer, tls: TlsParameters) -> UpstreamTlsContext:
    accepted = [
        SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.DNS, matcher=StringMatcher(exact=name))
        for name in ads.certificate_names
    ]
    # Without a name to match, any workload of the mesh could pose as its control plane.
    validation = CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=CertificateValidationContext(
            match_typed_subject_alt_names=accepted
        ),
        validation_context_sds_secret_config=_sds(_VALIDATION_SECRET, VALIDATION_FILE),
    )
    return UpstreamTlsContext(
        sni=ads.server_name,
        common_tls_context=CommonTlsContext(
            alpn_protocols=["h2"],
            tls_params=TlsParametersMessage(
                tls_minimum_protocol_version=TlsParametersMessage.TlsProtocol.Value(
                    tls.min_version
                ),
                tls_maximum_protocol_version=TlsParametersMessage.TlsProtocol.Value(
                    tls.max_version
                ),
                cipher_suites=tls.cipher_suites,
                ecdh_curves=tls.ecdh_curves,
            ),
            tls_certificate_sds_secret_configs=[_sds(_CERTIFICATE_SECRET, CERTIFICATE_FILE)],
            combined_validation_context=validation,
        ),
    )


def _sds(name: str, file: str) -> SdsSecretConfig:
    source = ConfigSource(
        path_config_source=PathConfigSource(
            path=f"{DIRECTORY}/{file}", watched_directory=_directory()
        ),
        resource_api_version=ApiVersion.V3,
    )
    return SdsSecretConfig(name=name, sds_config=source)


def _overload_guard() -> OverloadManager:
    limit = DownstreamConnectionsConfig(max_active_downstream_connections=_MAX_CONNECTIONS)
    monitor = ResourceMonitor(
        name="envoy.resource_monitors.global_downstream_max_connections", typed_config=pack(limit)
    )
    return OverloadManager(resource_monitors=[monitor])


def _file(name: str) -> DataSource:
    return DataSource(filename=f"{DIRECTORY}/{name}")


def _directory() -> WatchedDirectory:
    return WatchedDirectory(path=DIRECTORY)


def _is_address(host: str) -> bool:
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True


def _to_yaml(message: Message) -> str:
    return _dump(_plain(message))


def _plain(message: Message) -> dict[str, object]:
    # A packed message becomes an OrderedDict, which YAML would write as a Python object.
    document: dict[str, object] = json.loads(json.dumps(to_dict(message)))
    return document


def _dump(document: object) -> str:
    return str(yaml.dump(document, Dumper=_DUMPER, sort_keys=True))
