"""Traffic from gateways on a real Envoy, beside traffic from the mesh on the same ports.

data-plane 4.7, 5.5 and 6.2.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest
import xds_cases
import xds_certificates
from envoy_harness.pod import Pod, everything, pod
from envoy_harness.tls import client_context, read_request

from xds.policy.http import ANY_REQUEST, HttpMatch
from xds.policy.identity import ServiceIdentity
from xds.policy.ingress import IngressChain, IngressPort, IngressRule
from xds.policy.traffic import Inbound, InboundRule

pytestmark = [pytest.mark.envoy, pytest.mark.root]

POD, GATEWAY, OTHER = "10.77.0.5", "10.77.0.20", "10.77.0.21"
STORE, BUYER, THIEF = xds_cases.STORE, xds_cases.BUYER, xds_cases.THIEF
PLAIN = xds_cases.service("bookstore/bookstore", 80, target=8080)
SECURE = xds_cases.service("bookstore/secure", 443, target=8443)
SKIP = xds_cases.service("bookstore/skip", 444, target=8444)


def rule(
    path: str = ".*",
    addresses: tuple[str, ...] | None = (f"{GATEWAY}/32",),
    who: ServiceIdentity | None = None,
) -> IngressRule:
    names = None if who is None else xds_cases.peers(who)
    return IngressRule(match=HttpMatch(path=path), addresses=addresses, principals=names)


def port(
    service: xds_cases.MeshService, *rules: IngressRule, tls: bool, **more: object
) -> IngressPort:
    names = more.pop("server_names", ())
    chain = IngressChain(service=service, own_names=(service.fqdn(),), server_names=names)  # type: ignore[arg-type]
    values = {"client_certificate": tls, "normalize_paths": True, **more}
    return IngressPort(
        target=service.target,
        tls=tls,
        service=service,
        chains=(chain,),
        rules=rules,
        **values,  # type: ignore[arg-type]
    )


INGRESS = (
    port(PLAIN, rule("/open/.*"), rule("/any/.*", None), rule("/none/.*", ()), tls=False),
    port(SECURE, rule(who=BUYER), rule("/any/.*", None, BUYER), tls=True),
    port(SKIP, rule(), tls=True, client_certificate=False, server_names=("shop.test",)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Pod]:
    def answer(connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        while head := read_request(reader):
            body = head.split()[1]
            size = str(len(body)).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: " + size + b"\r\n\r\n" + body)

    everybody = InboundRule(match=ANY_REQUEST, principals=xds_cases.peers(BUYER))
    hosts = [
        xds_cases.inbound_port(xds_cases.inbound_host(service, everybody))
        for service in (PLAIN, SECURE, SKIP)
    ]
    with pod(captured_by=15003) as running:
        for target in (8080, 8443, 8444):
            running.serve("127.0.0.1", target, answer)
        for address in (GATEWAY, OTHER):
            running.inner.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        inbound = Inbound(http=tuple(hosts), tcp=(), ingress=INGRESS)
        policy = xds_cases.policy(STORE, inbound=inbound)
        running.feed(xds_cases.resources(xds_cases.case(policy)))
        yield running


def dial(server: Pod, target: int, source: str) -> socket.socket:
    def connect() -> socket.socket:
        return socket.create_connection((POD, target), timeout=5, source_address=(source, 0))

    return server.inner.call(connect)


def ask(connection: socket.socket, path: str) -> int:
    request = f"GET {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n"
    connection.sendall(request.encode())
    return int(everything(connection).split()[1] or 0)


@pytest.mark.parametrize(
    ("source", "path", "status"),
    [
        pytest.param(GATEWAY, "/open/x", 200, id="from-the-gateway"),
        pytest.param(OTHER, "/open/x", 403, id="from-elsewhere"),
        pytest.param(OTHER, "/any/x", 200, id="rule-without-sources"),
        pytest.param(GATEWAY, "/none/x", 403, id="rule-whose-sources-are-gone"),
        pytest.param(GATEWAY, "/shut", 404, id="no-rule-names-it"),
        pytest.param(GATEWAY, "/open/../shut", 404, id="path-is-resolved-first"),
    ],
)
def test_plain_request_is_judged_by_source_and_path(
    server: Pod, source: str, path: str, status: int
) -> None:
    with dial(server, 8080, source) as connection:
        assert ask(connection, path) == status


@pytest.mark.parametrize(
    ("who", "source", "path", "status"),
    [
        pytest.param(BUYER, GATEWAY, "/x", 200, id="name-and-source"),
        pytest.param(THIEF, GATEWAY, "/x", 403, id="another-name"),
        pytest.param(BUYER, OTHER, "/x", 403, id="another-source"),
        pytest.param(BUYER, OTHER, "/any/x", 200, id="rule-without-sources"),
        pytest.param(THIEF, OTHER, "/any/x", 403, id="rule-without-sources-has-names"),
    ],
)
@pytest.mark.parametrize("name", ["shop.example", SECURE.fqdn(), None])
def test_certificate_and_source_must_both_fit(
    server: Pod, who: ServiceIdentity, source: str, path: str, status: int, name: str | None
) -> None:
    context = client_context(xds_certificates.issue(who), alpn=None)
    with context.wrap_socket(dial(server, 8443, source), server_hostname=name) as connection:
        assert ask(connection, path) == status


def test_gateway_without_a_certificate_is_refused_where_one_is_asked(server: Pod) -> None:
    context = client_context(None, alpn=None)
    with context.wrap_socket(dial(server, 8443, GATEWAY), server_hostname="x.test") as connection:
        assert answer_or_nothing(connection) == b""


def answer_or_nothing(connection: ssl.SSLSocket) -> bytes:
    try:
        connection.sendall(b"GET /x HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        return connection.recv(100)
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("source", "name", "status"),
    [
        pytest.param(GATEWAY, "shop.test", 200, id="server-name"),
        pytest.param(OTHER, "shop.test", 403, id="another-source"),
    ],
)
def test_no_certificate_is_asked_where_the_check_is_skipped(
    server: Pod, source: str, name: str, status: int
) -> None:
    context = client_context(None, alpn=None)
    with context.wrap_socket(dial(server, 8444, source), server_hostname=name) as connection:
        assert ask(connection, "/x") == status


def test_another_server_name_has_no_chain(server: Pod) -> None:
    context = client_context(None, alpn=None)
    with dial(server, 8444, GATEWAY) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname="else.test")


@pytest.mark.parametrize("service", [PLAIN, SECURE, SKIP], ids=lambda service: service.name)
@pytest.mark.parametrize(("who", "status"), [(BUYER, 200), (THIEF, 403)], ids=["buyer", "thief"])
def test_mesh_clients_meet_their_own_rules(
    server: Pod, service: xds_cases.MeshService, who: ServiceIdentity, status: int
) -> None:
    context = client_context(xds_certificates.issue(who))
    plain = dial(server, service.target, OTHER)
    with context.wrap_socket(plain, server_hostname=service.fqdn()) as connection:
        host = f"{service.name}.bookstore"
        request = f"GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        connection.sendall(request.encode())
        assert int(everything(connection).split()[1]) == status
