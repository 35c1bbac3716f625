"""How a client's calls leave: mTLS to the right names only, splits, counters, the tap.

One real Envoy; the servers' sidecars are Python with mesh certificates. data-plane 5.8 to 5.12.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import xds_cases
import xds_certificates
from envoy_harness.pod import Pod, everything, pod
from envoy_harness.tls import read_request, server_context

from xds.builders.telemetry import LOG_FIELDS
from xds.policy.identity import ServiceIdentity
from xds.policy.service import Endpoint, MeshService, Protocol
from xds.policy.traffic import Outbound, OutboundTcp

pytestmark = [pytest.mark.envoy, pytest.mark.root]

STORE, THIEF, BUYER = xds_cases.STORE, xds_cases.THIEF, xds_cases.BUYER
V1, V2 = "10.77.0.51", "10.77.0.52"
DIALLED = "10.77.0.5"
ROOT = xds_cases.service("bookstore/bookstore", 80, target=8080)
FIRST, SECOND = (xds_cases.service(f"bookstore/v{n}", 80, target=8080) for n in (1, 2))
MAIL = xds_cases.service("bookstore/mail", 2525, Protocol.TCP_SERVER_FIRST, target=8080)


@dataclass
class Sidecar:
    """A server's sidecar and application in one: answers HTTP over mesh TLS with its name."""

    name: str
    identity: ServiceIdentity
    seen: list[tuple[str | None, str]] = field(default_factory=list)
    """SNI and the client's DNS name, per connection."""

    def answer(self, raw: socket.socket) -> None:
        context = server_context(xds_certificates.issue(self.identity))
        asked: list[str | None] = []
        context.sni_callback = lambda _connection, name, _context: asked.append(name)
        with context.wrap_socket(raw, server_side=True) as connection:
            certificate = connection.getpeercert() or {}
            self.seen.append((asked[0], str(certificate["subjectAltName"][0][1])))
            assert connection.selected_alpn_protocol() == "osm"
            reader = connection.makefile("rb")
            while read_request(reader):
                body = self.name.encode()
                head = f"HTTP/1.1 200 OK\r\nserver: app\r\ncontent-length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)


@pytest.fixture
def client() -> Iterator[Pod]:
    with pod(captured_by=15001) as running:
        for address in (V1, V2):
            running.own_address(address)
        yield running


def endpoint(address: str, *, draining: bool = False) -> Endpoint:
    found = xds_cases.endpoint(STORE, 1, 8080, draining=draining)
    return replace(found, address=address, pod=f"pod-{address}")


def feed(client: Pod, outbound: Outbound, **endpoints: tuple[Endpoint, ...]) -> None:
    who = xds_cases.policy(BUYER, outbound=outbound)
    secrets = xds_cases.SecretTable(
        trust=xds_certificates.TRUST, workloads={BUYER: xds_certificates.issue(BUYER)}
    )
    reader = xds_cases.FixedEndpoints(
        by_name={f"bookstore/{name}": found for name, found in endpoints.items()}
    )
    client.feed(xds_cases.resources(xds_cases.case(who, reader, secrets)))


def http_to(*shares: tuple[MeshService, int]) -> Outbound:
    host = xds_cases.outbound_host(xds_cases.rule(ROOT, *shares))
    port = xds_cases.OutboundHttpPort(port=80, addresses=(DIALLED,), hosts=(host,))
    upstreams = tuple(xds_cases.upstream(s, STORE) for s, _ in shares or ((ROOT, 1),))
    return replace(xds_cases.NOTHING_OUT, upstreams=upstreams, http=(port,))


def get(client: Pod, path: str = "/") -> bytes:
    with client.dial(DIALLED, 80) as connection:
        head = f"GET {path} HTTP/1.1\r\nhost: bookstore.bookstore\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode())
        return everything(connection)


def test_call_carries_identity_and_names(client: Pod) -> None:
    store = Sidecar("one", STORE)
    client.serve(V1, 8080, store.answer)
    feed(client, http_to(), bookstore=(endpoint(V1),))
    answer = get(client)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"server: app" in answer
    assert store.seen == [
        ("bookstore.bookstore.svc.cluster.local", "bookbuyer.bookbuyer.cluster.local")
    ]


def test_server_of_another_identity_is_not_believed(client: Pod) -> None:
    impostor = Sidecar("impostor", THIEF)
    client.serve(V1, 8080, impostor.answer)
    feed(client, http_to(), bookstore=(endpoint(V1),))
    assert get(client).startswith(b"HTTP/1.1 503")


def test_service_without_identities_is_not_believed(client: Pod) -> None:
    client.serve(V1, 8080, Sidecar("anybody", STORE).answer)
    nobody = (xds_cases.upstream(ROOT, permissive=True),)
    feed(client, replace(http_to(), upstreams=nobody), bookstore=(endpoint(V1),))
    assert get(client).startswith(b"HTTP/1.1 503")


def test_split_sends_each_share_to_its_cluster(client: Pod) -> None:
    client.serve(V1, 8080, Sidecar("one", STORE).answer)
    client.serve(V2, 8080, Sidecar("two", STORE).answer)
    feed(client, http_to((FIRST, 1), (SECOND, 3)), v1=(endpoint(V1),), v2=(endpoint(V2),))
    answers = [get(client)[-3:] for _ in range(80)]
    assert answers.count(b"one") + answers.count(b"two") == 80
    assert 5 <= answers.count(b"one") <= 40  # 20 expected, 4 standard deviations are 15


def test_draining_endpoints_serve_only_when_nothing_else_does(client: Pod) -> None:
    client.serve(V1, 8080, Sidecar("one", STORE).answer)
    client.serve(V2, 8080, Sidecar("two", STORE).answer)
    leaving = tuple(replace(endpoint(V1, draining=True), port=8080 + n) for n in range(3))
    feed(client, http_to(), bookstore=(*leaving, endpoint(V2)))
    assert {get(client)[-3:] for _ in range(12)} == {b"two"}
    feed(client, http_to(), bookstore=(leaving[0],))
    cluster = "cluster.bookstore/bookstore|8080"
    healthy = {f"{cluster}.membership_total": 1, f"{cluster}.membership_healthy": 0}
    client.envoy.await_stats("bookstore.bookstore", healthy)
    assert get(client)[-3:] == b"one"


def test_server_that_talks_first_is_heard(client: Pod) -> None:
    def answer(raw: socket.socket) -> None:
        context = server_context(xds_certificates.issue(STORE))
        with context.wrap_socket(raw, server_side=True) as connection:
            connection.sendall(b"220 welcome")

    client.serve(V1, 8080, answer)
    outbound = replace(
        xds_cases.NOTHING_OUT,
        upstreams=(xds_cases.upstream(MAIL, STORE),),
        tcp=(OutboundTcp(rule=xds_cases.rule(MAIL), addresses=(DIALLED,)),),
    )
    feed(client, outbound, mail=(endpoint(V1),))
    with client.dial(DIALLED, 2525) as connection:
        assert everything(connection) == b"220 welcome"


def test_requests_are_counted_with_both_workloads(client: Pod) -> None:
    client.serve(V1, 8080, Sidecar("one", STORE).answer)
    feed(client, http_to(), bookstore=(endpoint(V1),))
    get(client)
    metrics = client.envoy.admin("/stats/prometheus?filter=osm")
    (counter,) = re.findall(r"^envoy_osm_request_total\{(.*)\} 1$", metrics, re.MULTILINE)
    assert dict(re.findall(r'(\w+)="([^"]*)"', counter)) == {
        "response_code": "200",
        "source_pod": "-",  # POD_NAME is the bootstrap's matter
        "source_namespace": "bookbuyer",
        "source_kind": "Deployment",
        "source_name": "bookbuyer",
        "destination_pod": f"pod-{V1}",
        "destination_namespace": "bookstore",
        "destination_kind": "Deployment",
        "destination_name": "bookstore",
    }
    assert "envoy_osm_request_duration_ms_count" in metrics


def test_tap_reports_requests_while_its_switch_is_on(client: Pod) -> None:
    client.serve(V1, 8080, Sidecar("one", STORE).answer)
    feed(client, http_to(), bookstore=(endpoint(V1),))
    get(client, "/before")
    client.envoy.admin("/runtime_modify?osm.tap=1000000", "POST")
    get(client, "/tapped")
    assert client.feeder.tapped(1) == ["/tapped"]


def test_access_log_is_one_json_line_per_request(client: Pod) -> None:
    feed(client, http_to())
    get(client, "/nobody-serves")
    (line,) = client.envoy.logged(1)
    assert (line["path"], line["response_flags"]) == ("/nobody-serves", "UH")
    assert set(line) == set(LOG_FIELDS)
