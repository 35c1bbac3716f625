"""Traffic out of the mesh on a real Envoy, behind a real iptables REDIRECT: who gets where.

data-plane 4.6 and 5.4: mesh addresses first, then requests by host, TLS by server name, the rest by
address; nothing else leaves, and a server that talks first is heard at once.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import xds_cases
from envoy_harness.pod import Pod, everything, greet, pod
from envoy_harness.tls import read_request, self_signed

from xds.policy.egress import (
    Egress,
    EgressCluster,
    EgressHost,
    EgressHttp,
    EgressProtocol,
    EgressRoute,
    EgressStream,
)
from xds.policy.http import ANY_REQUEST, HttpMatch
from xds.policy.traffic import Outbound, OutboundHost, OutboundHttpPort

pytestmark = [pytest.mark.envoy, pytest.mark.root]

MESH, ONE, TWO = "10.77.0.5", "10.77.0.50", "10.77.0.51"
STORE = xds_cases.service("bookstore/bookstore", 8080)
GRANT = "shop/out"


def http(port: int, *hosts: EgressHost, **more: object) -> EgressHttp:
    return EgressHttp(port=port, hosts=hosts, normalize_paths=True, **more)  # type: ignore[arg-type]


def host(name: str, cluster: str, *paths: str) -> EgressHost:
    matches = [HttpMatch(path=path) for path in paths] or [ANY_REQUEST]
    routes = tuple(EgressRoute(match=m, cluster=cluster, granted_by=(GRANT,)) for m in matches)
    port = cluster.rpartition(":")[2]
    return EgressHost(name=name, domains=(name, f"{name}:{port}"), routes=routes)


def stream(port: int, protocol: str = "tcp", **more: object) -> EgressStream:
    return EgressStream(
        port=port,
        protocol=EgressProtocol(protocol),
        cluster=str(port),
        granted_by=GRANT,
        **more,  # type: ignore[arg-type]
    )


EGRESS = Egress(
    clusters=(
        EgressCluster(name="8080", port=8080),
        EgressCluster(name="9000", port=9000),
        EgressCluster(name="9100", port=9100),
        EgressCluster(name="10.77.0.50:8080", host="10.77.0.50", port=8080),
    ),
    http=(http(8080, host("out.test", "10.77.0.50:8080", "/open/.*")),),
    streams=(
        stream(8080, "https", server_names=("a.test", "*.b.test")),
        stream(9000, ranges=("10.77.0.50/32",)),
        stream(9100, "tcp-server-first", ranges=("10.77.0.48/31", "10.77.0.50/32")),
    ),
)


def outbound(egress: Egress) -> Outbound:
    served = OutboundHost(rule=xds_cases.rule(STORE), domains=("bookstore.bookstore",))
    return Outbound(
        upstreams=(xds_cases.upstream(STORE),),
        http=(OutboundHttpPort(port=8080, addresses=(MESH,), hosts=(served,)),),
        tcp=(),
        passthrough=False,
        denied=(),
        egress=egress,
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def client(certificate: Path) -> Iterator[Pod]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def web(raw: socket.socket) -> None:
        if raw.recv(1, socket.MSG_PEEK) == b"\x16":
            with context.wrap_socket(raw, server_side=True) as secure:
                secure.sendall(b"over TLS")
            return
        request = read_request(raw.makefile("rb"))
        if request:
            raw.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + repr(request).encode())

    with pod(captured_by=15001) as running:
        for address in (ONE, TWO):
            running.own_address(address)
            running.serve(address, 8080, web)
            running.serve(address, 9000, greet(b"feed"))
            running.serve(address, 9100, greet(b"welcome"))
        who = replace(
            xds_cases.policy(xds_cases.BUYER, outbound=outbound(EGRESS)), request_metrics=False
        )
        running.feed(xds_cases.resources(xds_cases.case(who)))
        yield running


def get(client: Pod, address: str, name: str, path: str = "/open/x") -> bytes:
    with client.dial(address, 8080) as connection:
        head = f"GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode())
        return everything(connection)


def secure(client: Pod, address: str, name: str, port: int = 8080) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with client.dial(address, port) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=name) as found:
                return found.recv(100)
        except OSError:
            return b""


@pytest.mark.parametrize(
    ("address", "name", "path", "status"),
    [
        pytest.param(ONE, "out.test", "/open/x", 200, id="host-and-path"),
        pytest.param(TWO, "OUT.test:8080", "/open/x", 200, id="the-address-does-not-matter"),
        pytest.param(ONE, "out.test", "/open/../shut", 404, id="path-is-resolved-first"),
        pytest.param(ONE, "else.test", "/open/x", 404, id="another-host"),
        pytest.param(MESH, "bookstore.bookstore", "/", 503, id="mesh-address-stays-in-the-mesh"),
        pytest.param(MESH, "out.test", "/open/x", 404, id="mesh-address-with-a-host-outside"),
    ],
)
def test_request_leaves_by_host_and_path(
    client: Pod, address: str, name: str, path: str, status: int
) -> None:
    assert get(client, address, name, path).startswith(f"HTTP/1.1 {status}".encode())


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        pytest.param("a.test", b"over TLS", id="named"),
        pytest.param("A.TEST", b"over TLS", id="case-does-not-matter"),
        pytest.param("x.b.test", b"over TLS", id="below-a-wildcard"),
        pytest.param("b.test", b"", id="the-wildcard-itself"),
        pytest.param("c.test", b"", id="not-named"),
    ],
)
def test_tls_leaves_by_server_name(client: Pod, name: str, answer: bytes) -> None:
    assert secure(client, TWO, name) == answer


@pytest.mark.parametrize(
    ("address", "port", "answer"),
    [
        pytest.param(ONE, 9000, b"feed", id="in-range"),
        pytest.param(TWO, 9000, b"", id="not-in-range"),
        pytest.param(ONE, 9100, b"welcome", id="server-first-in-range"),
        pytest.param(TWO, 9100, b"", id="server-first-not-in-range"),
        pytest.param(ONE, 9200, b"", id="no-egress-on-the-port"),
    ],
)
def test_connection_leaves_by_address(client: Pod, address: str, port: int, answer: bytes) -> None:
    began = time.monotonic()
    with client.dial(address, port) as connection:
        assert everything(connection) == answer
    assert time.monotonic() - began < 10, "waited for an inspector's timeout"


def test_refused_connections_are_counted(client: Pod) -> None:
    name = "listener.0.0.0.0_15001.no_filter_chain_match"
    before = client.envoy.stats("no_filter_chain_match")[name]
    with client.dial(TWO, 9000) as connection:
        assert everything(connection) == b""
    client.envoy.await_stats("no_filter_chain_match", {name: before + 1})


def test_configuration_is_taken_without_a_warning(client: Pod) -> None:
    assert client.envoy.stats("wip_protos") == {"server.wip_protos": 0}
