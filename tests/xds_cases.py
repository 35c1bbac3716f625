"""Policies, endpoints and secrets built in code: the cases of golden files, and parts for tables.

Each case is one proxy. Names are those of the bookstore where it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import xds_certificates
import xds_limits

from xds.builders.assemble import assemble
from xds.cache import BuildCache
from xds.policy.egress import (
    Egress,
    EgressCluster,
    EgressHost,
    EgressHttp,
    EgressProtocol,
    EgressRoute,
    EgressStream,
)
from xds.policy.http import ANY_REQUEST, HeaderMatch, HttpMatch
from xds.policy.identity import Issuers, ServiceIdentity, SubjectName
from xds.policy.ingress import IngressChain, IngressPort, IngressRule
from xds.policy.proxy import ProxyPolicy, SecretTable, TlsParameters
from xds.policy.service import Endpoint, MeshService, Protocol, Workload
from xds.policy.settings import (
    Balancing,
    ClusterSettings,
    Connections,
    HashKey,
    Mirror,
    OutlierDetection,
    RetryPolicy,
    RoutePolicy,
    Timeouts,
)
from xds.policy.traffic import (
    DeniedPort,
    Inbound,
    InboundHost,
    InboundHttp,
    InboundHttpPort,
    InboundRule,
    InboundTcp,
    Outbound,
    OutboundHost,
    OutboundHttpPort,
    OutboundTcp,
    SplitRule,
    TcpPermission,
    Upstream,
    WeightedUpstream,
)
from xds.resource import Resource, ResourceKind

BUYER = ServiceIdentity(namespace="bookbuyer", service_account="bookbuyer")
THIEF = ServiceIdentity(namespace="bookthief", service_account="bookthief")
STORE = ServiceIdentity(namespace="bookstore", service_account="bookstore")
WAREHOUSE = ServiceIdentity(namespace="bookwarehouse", service_account="bookwarehouse")
NOTHING_IN = Inbound(http=(), tcp=())
NOTHING_OUT = Outbound(upstreams=(), http=(), tcp=(), passthrough=False, denied=())


@dataclass(frozen=True, kw_only=True)
class FixedEndpoints:
    """An EndpointReader over a mapping by Service name; identity filters as the mesh does."""

    by_name: Mapping[str, tuple[Endpoint, ...]]

    def __hash__(self) -> int:
        return id(self)

    def endpoints(
        self, service: MeshService, identities: tuple[ServiceIdentity, ...] | None
    ) -> tuple[Endpoint, ...]:
        found = self.by_name.get(service.full_name, ())
        if identities is None:
            return found
        return tuple(endpoint for endpoint in found if endpoint.identity in identities)


@dataclass(frozen=True, kw_only=True)
class Case:
    policy: ProxyPolicy
    endpoints: FixedEndpoints
    secrets: SecretTable


def service(
    full_name: str, port: int, protocol: Protocol = Protocol.HTTP, *, target: int | None = None
) -> MeshService:
    """``namespace/name`` or ``namespace/subdomain.name``."""
    namespace, _, host = full_name.partition("/")
    subdomain, _, name = host.rpartition(".")
    return MeshService(
        namespace=namespace,
        name=name,
        subdomain=subdomain,
        port=port,
        target=port if target is None else target,
        protocol=protocol,
    )


def peers(*identities: ServiceIdentity, issuers: Issuers | None = None) -> tuple[SubjectName, ...]:
    return (issuers or Issuers()).subject_names(identities)


def upstream(called: MeshService, *servers: ServiceIdentity, permissive: bool = False) -> Upstream:
    return Upstream(
        service=called, server_names=peers(*servers), endpoints_of=None if permissive else servers
    )


def rule(called: MeshService, *shares: tuple[MeshService, int]) -> SplitRule:
    weighted = shares or ((called, 100),)
    return SplitRule(
        service=called,
        upstreams=tuple(WeightedUpstream(service=s, weight=weight) for s, weight in weighted),
    )


def outbound_host(spread: SplitRule, *, local: bool = False) -> OutboundHost:
    return OutboundHost(rule=spread, domains=spread.service.host_names(local=local))


def inbound_host(served: MeshService, *rules: InboundRule) -> InboundHost:
    return InboundHost(service=served, domains=served.host_names(local=True), rules=rules)


def inbound_port(*hosts: InboundHost, chains: tuple[MeshService, ...] = ()) -> InboundHttpPort:
    served = chains or tuple(host.service for host in hosts)
    return InboundHttpPort(
        target=served[0].target,
        chains=tuple(InboundHttp(service=s, server_name=s.fqdn()) for s in served),
        hosts=hosts,
        normalize_paths=any(r.match.path != ".*" for host in hosts for r in host.rules),
    )


def inbound_tcp(served: MeshService, *permissions: TcpPermission) -> InboundTcp:
    return InboundTcp(service=served, server_name=served.fqdn(), permissions=permissions or None)


def anyone() -> InboundRule:
    return InboundRule(match=ANY_REQUEST, principals=None)


def policy(
    identity: ServiceIdentity,
    *,
    inbound: Inbound = NOTHING_IN,
    outbound: Outbound = NOTHING_OUT,
    scrape: bool = False,
) -> ProxyPolicy:
    return ProxyPolicy(
        identity=identity,
        workload=workload(identity),
        inbound=inbound,
        outbound=outbound,
        tls=TlsParameters(),
        scrape=scrape,
        request_metrics=True,
    )


def workload(identity: ServiceIdentity) -> Workload:
    return Workload(namespace=identity.namespace, kind="Deployment", name=identity.service_account)


def endpoint(
    identity: ServiceIdentity, number: int, port: int, *, draining: bool = False
) -> Endpoint:
    return Endpoint(
        address=f"10.1.0.{number}",
        port=port,
        draining=draining,
        pod=f"{identity.service_account}-{number}",
        workload=workload(identity),
        identity=identity,
    )


def case(
    who: ProxyPolicy, endpoints: FixedEndpoints | None = None, secrets: SecretTable | None = None
) -> Case:
    pairs = {who.identity: xds_certificates.PAIR}
    return Case(
        policy=who,
        endpoints=endpoints or FixedEndpoints(by_name={}),
        secrets=secrets or SecretTable(trust=xds_certificates.TRUST, workloads=pairs),
    )


def resources(of: Case) -> tuple[Resource, ...]:
    """All that the case's proxy is sent."""
    built = assemble(of.policy, of.endpoints, of.secrets, BuildCache())
    assert built is not None
    return tuple(r for kind in ResourceKind for r in built.resources(kind))


def _case(who: ProxyPolicy, **endpoints: tuple[Endpoint, ...]) -> Case:
    by_name = {name.replace("__", "/").replace("_", "."): e for name, e in endpoints.items()}
    return case(who, FixedEndpoints(by_name=by_name))


def permissive_http() -> Case:
    """Anyone may call the store; it calls itself and the warehouse, and counts requests."""
    store, warehouse = (
        service("bookstore/bookstore", 80, target=8080),
        service("bookwarehouse/bookwarehouse", 14001),
    )
    grpc = service("bookstore/prices", 9000, Protocol.GRPC)
    out = Outbound(
        upstreams=(
            upstream(store, STORE, permissive=True),
            upstream(grpc, STORE, permissive=True),
            upstream(warehouse, WAREHOUSE, permissive=True),
        ),
        http=(
            _port(80, "10.2.0.1", outbound_host(rule(store), local=True)),
            _port(9000, "10.2.0.4", outbound_host(rule(grpc), local=True)),
            _port(14001, "10.2.0.2", outbound_host(rule(warehouse))),
        ),
        tcp=(),
        passthrough=False,
        denied=(),
    )
    served = Inbound(
        http=(
            inbound_port(inbound_host(store, anyone())),
            inbound_port(inbound_host(grpc, anyone())),
        ),
        tcp=(),
    )
    return _case(
        policy(STORE, inbound=served, outbound=out),
        bookstore__bookstore=(
            endpoint(STORE, 3, 8080),
            endpoint(STORE, 4, 8080, draining=True),
        ),
        bookwarehouse__bookwarehouse=(endpoint(WAREHOUSE, 9, 14001),),
    )


def smi_http_two_callers() -> Case:
    """Two callers with different routes; one route for nobody else; a header; both issuers."""
    store = service("bookstore/bookstore", 80, target=8080)
    issuers = Issuers(validating=replace(Issuers().signing, trust_domain="new.mesh", spiffe=True))
    buys = HttpMatch(
        path="/books-bought",
        methods=("GET", "POST"),
        headers=(HeaderMatch(name="client-app", pattern="bookbuyer.*"),),
    )
    lists = HttpMatch(path="/books/[0-9]+", methods=("GET",))
    rules = (
        InboundRule(match=buys, principals=peers(BUYER, issuers=issuers)),
        InboundRule(match=lists, principals=peers(BUYER, THIEF, issuers=issuers)),
    )
    served = Inbound(
        http=(
            inbound_port(inbound_host(store, *rules)),
            inbound_port(inbound_host(service("bookstore/closed", 9090))),
        ),
        tcp=(),
    )
    return _case(policy(STORE, inbound=served))


def tcp_smi() -> Case:
    """A warehouse whose two TCP ports have different callers; it calls a TCP service itself."""
    redis = service("bookwarehouse/redis", 6379, Protocol.TCP)
    admin = service("bookwarehouse/admin", 7000, Protocol.TCP, target=7001)
    store = service("bookstore/feed", 5000, Protocol.TCP)
    served = Inbound(
        http=(),
        tcp=(
            inbound_tcp(admin, TcpPermission(name="bookwarehouse/ops", principals=peers(THIEF))),
            inbound_tcp(
                redis,
                TcpPermission(name="bookwarehouse/buyer", principals=peers(BUYER)),
                TcpPermission(name="bookwarehouse/store", principals=peers(BUYER, STORE)),
            ),
        ),
    )
    out = replace(
        NOTHING_OUT,
        upstreams=(upstream(store, STORE),),
        tcp=(OutboundTcp(rule=rule(store), addresses=("10.2.0.7", "fd00::7")),),
    )
    return _case(
        policy(WAREHOUSE, inbound=served, outbound=out),
        bookstore__feed=(endpoint(STORE, 3, 5000), endpoint(THIEF, 4, 5000)),
    )


def tcp_server_first() -> Case:
    """A server that talks first, in permissive mode."""
    mysql = service("db/mysql", 3306, Protocol.TCP_SERVER_FIRST)
    out = replace(
        NOTHING_OUT,
        upstreams=(upstream(mysql, WAREHOUSE, permissive=True),),
        tcp=(OutboundTcp(rule=rule(mysql), addresses=("10.2.0.8",)),),
    )
    served = Inbound(http=(), tcp=(inbound_tcp(mysql),))
    return _case(policy(WAREHOUSE, inbound=served, outbound=out))


def split_http() -> Case:
    """Root among the backends, called by a buyer who serves nothing."""
    root, v1, v2 = (service(f"bookstore/{n}", 14001) for n in ("bookstore", "store-v1", "store-v2"))
    spread = rule(root, (root, 10), (v1, 60), (v2, 30))
    hosts = (outbound_host(spread), outbound_host(rule(v1)), outbound_host(rule(v2)))
    out = replace(
        NOTHING_OUT,
        upstreams=tuple(upstream(s, STORE) for s in (root, v1, v2)),
        http=(
            OutboundHttpPort(
                port=14001, addresses=("10.2.0.1", "10.2.0.2", "10.2.0.3"), hosts=hosts
            ),
        ),
    )
    return _case(policy(BUYER, outbound=out), bookstore__store_v1=())


def limited_server() -> Case:
    """Two stores of one Pod, one of which is limited in all ways; a limited feed; all are asked."""
    store, other = service("bookstore/bookstore", 80), service("bookstore/other", 80)
    buys = HttpMatch(path="/buy", methods=("GET", "POST"))
    rules = tuple(InboundRule(match=match, principals=None) for match in (buys, ANY_REQUEST))
    limited = replace(
        inbound_host(store, *rules),
        limits=xds_limits.SOUND,
        route_limits=(("/buy", xds_limits.OF_A_ROUTE),),
    )
    port = inbound_port(limited, inbound_host(other, *rules))
    chain = replace(port.chains[0], connections=xds_limits.CONNECTIONS)
    feed = replace(
        inbound_tcp(service("bookstore/feed", 5000, Protocol.TCP)),
        connections=xds_limits.CONNECTIONS,
    )
    served = Inbound(
        http=(replace(port, chains=(chain, *port.chains[1:])),),
        tcp=(feed,),
        authorization=xds_limits.ASKED,
    )
    return _case(policy(STORE, inbound=served))


def called_with_settings() -> Case:
    """Bounds, ejection, hashing, times, retries and copies; a canary; a TCP service, checked."""
    root, canary = service("bookstore/bookstore", 14001), service("bookstore/canary", 14001)
    redis = service("bookwarehouse/redis", 6379, Protocol.TCP)
    settings = ClusterSettings(
        connections=Connections(
            connect_timeout_seconds=0.25,
            max_connections=1,
            max_pending_requests=2,
            max_requests=3,
            max_retries=4,
            max_requests_per_connection=5,
        ),
        outliers=OutlierDetection(
            consecutive_errors=3,
            interval_seconds=1,
            base_ejection_seconds=30,
            max_ejection_percent=50,
        ),
        balancing=Balancing.RING_HASH,
        health_check=True,
    )
    retry = RetryPolicy(
        retry_on="5xx", num_retries=3, per_try_seconds=1, base_interval_seconds=0.05
    )
    route = RoutePolicy(
        timeouts=Timeouts(request_seconds=15, idle_seconds=60),
        retry=retry,
        hash_keys=(
            HashKey(header="x-user"),
            HashKey(cookie="session", cookie_ttl_seconds=60),
            HashKey(source_address=True),
        ),
        mirror=Mirror(service=canary, percent=12.5),
    )
    tests = HttpMatch(methods=("GET", "PUT"), headers=(HeaderMatch(name="x-test", pattern="yes"),))
    spread = replace(
        rule(root, (canary, 100)),
        matches=(HttpMatch(path="/beta/.*"), tests),
        others=rule(root).upstreams,
    )
    checked = ClusterSettings(health_check=True)
    out = replace(
        NOTHING_OUT,
        upstreams=(
            replace(upstream(root, STORE), settings=settings),
            upstream(canary, STORE),
            replace(upstream(redis, WAREHOUSE), settings=checked),
        ),
        http=(_port(14001, "10.2.0.1", replace(outbound_host(spread), policy=route)),),
        tcp=(OutboundTcp(rule=rule(redis), addresses=("10.2.0.5",)),),
    )
    return _case(policy(BUYER, outbound=out))


def split_server() -> Case:
    """A server of a backend: a host and a local cluster for the root, no chain for it."""
    root, v1 = service("bookstore/bookstore", 14001), service("bookstore/store-v1", 14001)
    allowed = InboundRule(match=HttpMatch(path="/buy.*"), principals=peers(BUYER))
    host = replace(
        inbound_host(v1, allowed),
        timeouts=(("/buy.*", Timeouts(request_seconds=2, idle_seconds=1)),),
    )
    served = Inbound(
        http=(inbound_port(inbound_host(root, allowed), host, chains=(v1,)),),
        tcp=(),
    )
    return _case(policy(STORE, inbound=served))


def split_tcp() -> Case:
    """TCP with the root among its backends."""
    root, v2 = (service(f"bookwarehouse/{n}", 6379, Protocol.TCP) for n in ("redis", "redis-v2"))
    out = replace(
        NOTHING_OUT,
        upstreams=(upstream(root, WAREHOUSE), upstream(v2, WAREHOUSE)),
        tcp=(
            OutboundTcp(rule=rule(root, (root, 25), (v2, 75)), addresses=("10.2.0.5",)),
            OutboundTcp(rule=rule(v2), addresses=("10.2.0.6",)),
        ),
    )
    return _case(policy(STORE, outbound=out))


def passthrough_denied() -> Case:
    """Mesh-wide egress: what no chain claims passes, what is the mesh's but not allowed closes."""
    store = service("bookstore/bookstore", 80, target=8080)
    out = replace(
        NOTHING_OUT,
        upstreams=(upstream(store, STORE),),
        http=(_port(80, "10.2.0.1", outbound_host(rule(store))),),
        passthrough=True,
        denied=(
            DeniedPort(port=80, addresses=("10.2.0.9", "10.2.0.10")),
            DeniedPort(port=6379, addresses=("10.2.0.5",)),
        ),
    )
    return _case(policy(THIEF, outbound=out), bookstore__bookstore=(endpoint(STORE, 3, 8080),))


def passthrough_only() -> Case:
    """Nothing of the mesh to call or serve, all of the outside."""
    return _case(policy(THIEF, outbound=replace(NOTHING_OUT, passthrough=True)))


def ingress() -> Case:
    """A service that gateways reach in plain HTTP and over TLS, by source and by certificate."""
    web = service("bookstore/bookstore", 80, target=8080)
    plain = IngressPort(
        target=8080,
        tls=False,
        client_certificate=False,
        service=web,
        chains=(IngressChain(service=web, own_names=(web.fqdn(),)),),
        rules=(
            IngressRule(
                match=HttpMatch(path="/open/.*", methods=("GET",)),
                addresses=("10.0.0.0/8", "192.0.2.1/32"),
                principals=None,
            ),
        ),
        normalize_paths=True,
    )
    secure = replace(
        plain,
        tls=True,
        client_certificate=True,
        rules=(
            IngressRule(match=ANY_REQUEST, addresses=("10.0.0.0/8",), principals=peers(BUYER)),
            IngressRule(match=ANY_REQUEST, addresses=None, principals=peers(THIEF)),
        ),
        normalize_paths=False,
    )
    served = inbound_port(inbound_host(web))
    inbound = Inbound(http=(served,), tcp=(), ingress=(plain, secure))
    return case(policy(STORE, inbound=inbound))


def egress() -> Case:
    """Requests by host, TLS by server name, connections by network, beside a mesh service."""
    cluster = EgressCluster(name="api.test:80", host="api.test", port=80)
    route = EgressRoute(
        match=HttpMatch(path="/open/.*", methods=("GET",)),
        cluster="api.test:80",
        granted_by=("bookbuyer/out",),
    )
    host = EgressHost(name="api.test", domains=("api.test", "api.test:80"), routes=(route,))
    anything = replace(route, match=ANY_REQUEST, cluster="80|bookbuyer/net")
    any_host = EgressHost(name="*", domains=("*",), routes=(anything,))
    bound = EgressCluster(name="80|bookbuyer/net", port=80, connections=Connections(max_requests=9))
    leaving = Egress(
        clusters=(EgressCluster(name="443", port=443), bound, cluster),
        http=(
            EgressHttp(
                port=80,
                granted_by="bookbuyer/net",
                ranges=("10.0.0.0/8",),
                hosts=(any_host, host),
                normalize_paths=True,
            ),
            EgressHttp(port=80, hosts=(host,), normalize_paths=True),
        ),
        streams=(
            EgressStream(
                port=443,
                protocol=EgressProtocol.HTTPS,
                server_names=("api.test", "*.test"),
                cluster="443",
                granted_by="bookbuyer/out",
            ),
            EgressStream(
                port=443,
                protocol=EgressProtocol.TCP,
                ranges=("192.0.2.0/24", "198.51.100.0/24"),
                cluster="443",
                granted_by="bookbuyer/net",
            ),
        ),
    )
    store = service("bookstore/bookstore", 8080)
    called = outbound_host(rule(store))
    outbound = replace(
        NOTHING_OUT,
        upstreams=(upstream(store, STORE),),
        http=(OutboundHttpPort(port=store.port, addresses=("10.1.0.1",), hosts=(called,)),),
        egress=leaving,
    )
    return case(policy(BUYER, outbound=outbound))


def statefulset() -> Case:
    """Two replicas by host name, and the base name for both."""
    base = service("bookstore/queue", 8080)
    first, second = (
        service("bookstore/queue-0.queue", 8080),
        service("bookstore/queue-1.queue", 8080),
    )
    hosts = tuple(outbound_host(rule(s), local=True) for s in (base, first, second))
    out = replace(
        NOTHING_OUT,
        upstreams=tuple(upstream(s, STORE) for s in (base, first, second)),
        http=(OutboundHttpPort(port=8080, addresses=("10.1.0.3", "10.1.0.4"), hosts=hosts),),
    )
    allowed = InboundRule(match=ANY_REQUEST, principals=peers(STORE))
    served = Inbound(
        http=(inbound_port(inbound_host(base, allowed), inbound_host(first, allowed)),), tcp=()
    )
    pods = (endpoint(STORE, 3, 8080), endpoint(STORE, 4, 8080))
    return _case(
        policy(STORE, inbound=served, outbound=out),
        bookstore__queue=pods,
        **{"bookstore__queue-0_queue": pods[:1], "bookstore__queue-1_queue": pods[1:]},
    )


def prometheus() -> Case:
    """A proxy that may be scraped, and has nothing else."""
    return _case(policy(BUYER, scrape=True))


def _port(port: int, address: str, *hosts: OutboundHost) -> OutboundHttpPort:
    return OutboundHttpPort(port=port, addresses=(address,), hosts=hosts)


CASES: Mapping[str, Callable[[], Case]] = {
    "permissive-http": permissive_http,
    "smi-http-two-callers": smi_http_two_callers,
    "tcp-smi": tcp_smi,
    "tcp-server-first": tcp_server_first,
    "split-http": split_http,
    "called-with-settings": called_with_settings,
    "limited-server": limited_server,
    "split-server": split_server,
    "split-tcp": split_tcp,
    "passthrough-denied": passthrough_denied,
    "passthrough-only": passthrough_only,
    "egress": egress,
    "ingress": ingress,
    "statefulset": statefulset,
    "prometheus": prometheus,
}
