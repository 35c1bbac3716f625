"""Who gets in: inbound policy as a real Envoy enforces it, seen by peers with real certificates.

data-plane 4.2, 4.4, 5.5, 6 and 9.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import xds_cases
import xds_certificates
from envoy_harness.pod import Pod, everything, pod, say
from envoy_harness.tls import client_context, http_request, read_request

from xds.policy.http import ANY_REQUEST, HeaderMatch, HttpMatch
from xds.policy.identity import Issuer, Issuers, ServiceIdentity
from xds.policy.traffic import Inbound, InboundRule, TcpPermission

pytestmark = [pytest.mark.envoy, pytest.mark.root]

POD = "10.77.0.5"
BUYER, THIEF, STORE = xds_cases.BUYER, xds_cases.THIEF, xds_cases.STORE
HTTP = xds_cases.service("bookstore/bookstore", 80, target=8080)
TCP = xds_cases.service("bookstore/mail", 2525, xds_cases.Protocol.TCP_SERVER_FIRST)
SPIFFE = Issuer(trust_domain="new.mesh", spiffe=True)


@dataclass
class App:
    """The application behind the sidecar; it counts what reaches it."""

    paths: list[str] = field(default_factory=list)
    greetings: int = 0

    def answer_http(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        while head := read_request(reader):
            self.paths.append(head.split()[1].decode())
            connection.sendall(b"HTTP/1.1 200 OK\r\nserver: app\r\ncontent-length: 2\r\n\r\nok")

    def answer_tcp(self, connection: socket.socket) -> None:
        self.greetings += 1
        say(connection, b"220 welcome")


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App) -> Iterator[Pod]:
    with pod(captured_by=15003) as running:
        running.serve("127.0.0.1", 8080, app.answer_http)
        running.serve("127.0.0.1", 2525, app.answer_tcp)
        yield running


def serve_http(server: Pod, *rules: InboundRule) -> None:
    port = xds_cases.inbound_port(xds_cases.inbound_host(HTTP, *rules))
    feed(server, Inbound(http=(port,), tcp=()))


def serve_tcp(server: Pod, *permissions: TcpPermission) -> None:
    feed(server, Inbound(http=(), tcp=(xds_cases.inbound_tcp(TCP, *permissions),)))


def feed(server: Pod, inbound: Inbound) -> None:
    server.feed(xds_cases.resources(xds_cases.case(xds_cases.policy(STORE, inbound=inbound))))


def peer(
    server: Pod, who: ServiceIdentity | None, port: int = 8080, issuer: Issuer | None = None
) -> ssl.SSLSocket:
    """A connection as the sidecar of that identity opens it; None: without a certificate."""
    pair = None if who is None else xds_certificates.issue(who, issuer)
    name = HTTP.fqdn() if port == 8080 else TCP.fqdn()
    return client_context(pair).wrap_socket(server.dial(POD, port), server_hostname=name)


def ask(connection: ssl.SSLSocket, request_line: str, header: str = "x: y") -> int:
    text = f"{request_line} HTTP/1.1\r\nhost: bookstore.bookstore\r\n{header}\r\n\r\n"
    return http_request(connection, text.encode()).status


BUY = InboundRule(
    match=HttpMatch(
        path="/buy", methods=("POST",), headers=(HeaderMatch(name="app", pattern="b.*"),)
    ),
    principals=xds_cases.peers(BUYER),
)
READ = InboundRule(
    match=HttpMatch(path="/books/[0-9]+", methods=("GET",)),
    principals=xds_cases.peers(BUYER, THIEF),
)
SECRET = InboundRule(match=HttpMatch(path="/secret/.*"), principals=xds_cases.peers(BUYER))


@pytest.mark.parametrize(
    ("who", "request_line", "header", "status"),
    [
        pytest.param(BUYER, "POST /buy", "app: buyer", 200, id="all-conditions-hold"),
        pytest.param(BUYER, "POST /buy?n=1", "app: buyer", 200, id="query-does-not-count"),
        pytest.param(THIEF, "POST /buy", "app: buyer", 403, id="not-for-this-caller"),
        pytest.param(BUYER, "POST /buy", "app: thief", 404, id="header-differs"),
        pytest.param(BUYER, "GET /buy", "app: buyer", 404, id="method-differs"),
        pytest.param(BUYER, "POST /buy2", "app: buyer", 404, id="path-matches-in-full-only"),
        pytest.param(THIEF, "GET /books/12", "x: y", 200, id="second-rule"),
        pytest.param(THIEF, "GET /nothing", "x: y", 404, id="no-route"),
        pytest.param(THIEF, "GET /books/../secret/1", "x: y", 403, id="dots-are-resolved"),
        pytest.param(THIEF, "GET /books/%2e%2e/secret/1", "x: y", 403, id="escaped-dots"),
        pytest.param(THIEF, "GET /books/..%2fsecret/1", "x: y", 403, id="escaped-slash"),
        pytest.param(THIEF, "GET //secret//1", "x: y", 403, id="slashes-are-merged"),
    ],
)
def test_request_is_decided_by_the_rules(
    server: Pod, who: ServiceIdentity, request_line: str, header: str, status: int
) -> None:
    serve_http(server, BUY, READ, SECRET)
    with peer(server, who) as connection:
        assert ask(connection, request_line, header) == status


def test_revocation_reaches_open_connections_and_drains_nothing(server: Pod) -> None:
    serve_http(server, READ)
    with peer(server, THIEF) as connection:
        assert ask(connection, "GET /books/1") == 200
        serve_http(server, replace(READ, principals=xds_cases.peers(BUYER)))
        server.envoy.await_stats(
            "rds-inbound", {"http.rds-inbound.8080.rds.rds-inbound.8080.update_success": 2}
        )
        assert ask(connection, "GET /books/1") == 403
    stats = server.envoy.stats("listener_manager")
    assert stats["listener_manager.listener_modified"] == 0


def test_host_without_rules_answers_404(server: Pod) -> None:
    serve_http(server)
    with peer(server, BUYER) as connection:
        assert ask(connection, "GET /") == 404


def test_permissive_mode_admits_any_mesh_identity_untouched(server: Pod, app: App) -> None:
    serve_http(server, xds_cases.anyone())
    text = b"GET /a//b/../c HTTP/1.1\r\nhost: bookstore.bookstore.\r\n\r\n"
    with peer(server, THIEF) as connection:
        response = http_request(connection, text)
    assert (response.status, response.headers["server"]) == (200, "app")
    assert app.paths == ["/a//b/../c"]


@pytest.mark.parametrize(
    "issuer", [pytest.param(Issuer(), id="signing"), pytest.param(SPIFFE, id="validating")]
)
def test_both_issuers_names_are_principals(server: Pod, issuer: Issuer) -> None:
    allowed = Issuers(validating=SPIFFE).subject_names([BUYER])
    serve_http(server, InboundRule(match=ANY_REQUEST, principals=allowed))
    with peer(server, BUYER, issuer=issuer) as connection:
        assert ask(connection, "GET /") == 200
    with peer(server, THIEF, issuer=issuer) as connection:
        assert ask(connection, "GET /") == 403


def test_returning_client_proves_itself_again(server: Pod) -> None:
    serve_http(server, InboundRule(match=ANY_REQUEST, principals=xds_cases.peers(BUYER)))
    context, session = client_context(xds_certificates.issue(BUYER)), None
    for _ in range(3):  # a resumed session would carry no certificate and be answered 403
        dialled = server.dial(POD, 8080)
        wrapped = context.wrap_socket(dialled, server_hostname=HTTP.fqdn(), session=session)
        with wrapped as connection:
            assert ask(connection, "GET /") == 200
            assert not connection.session_reused
            session = connection.session


def test_peer_without_certificate_is_refused(server: Pod, app: App) -> None:
    serve_http(server, xds_cases.anyone())
    with peer(server, None) as connection, pytest.raises(OSError):  # noqa: PT011 alert or reset
        ask(connection, "GET /")
    assert app.paths == []


def test_plain_text_is_reset_and_logged_once(server: Pod, app: App) -> None:
    serve_http(server, xds_cases.anyone())
    with server.dial(POD, 8080) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: bookstore.bookstore\r\n\r\n")
        assert everything(connection) == b""
    assert app.paths == []
    assert [line["response_flags"] for line in server.envoy.logged(1)] == ["NR"]


def test_tcp_greets_the_allowed_only(server: Pod, app: App) -> None:
    serve_tcp(server, TcpPermission(name="bookstore/mail", principals=xds_cases.peers(BUYER)))
    with peer(server, BUYER, 2525) as connection:
        assert connection.recv(100) == b"220 welcome"
    with peer(server, THIEF, 2525) as connection:
        assert everything(connection) == b""
    assert app.greetings == 1


def test_tcp_in_permissive_mode_greets_any_mesh_identity(server: Pod) -> None:
    serve_tcp(server)
    with peer(server, THIEF, 2525) as connection:
        assert connection.recv(100) == b"220 welcome"


def test_application_does_not_greet_who_is_denied_in_permissive_mode(server: Pod, app: App) -> None:
    chain = replace(xds_cases.inbound_tcp(TCP), permissions=None, denied=xds_cases.peers(THIEF))
    feed(server, Inbound(http=(), tcp=(chain,)))
    with peer(server, THIEF, 2525) as connection:
        connection.sendall(b"EHLO")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert everything(connection) == b""
    assert app.greetings == 0
    with peer(server, BUYER, 2525) as connection:
        connection.sendall(b"EHLO")
        assert everything(connection) == b"220 welcome"
