"""A law: the Python model decides what leaves the mesh as a real Envoy does.

data-plane 4.6 and 5.4.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace

import pytest
import snapshots
import xds_cases
from e2e.caller import eventually
from envoy_harness.pod import Pod, everything, pod
from envoy_harness.tls import read_request, self_signed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.mesh.catalog.compile import compile_policy
from app.mesh.egress import Departure, Leaving, decide_egress
from app.mesh.policies.part import EgressGrant, Policies
from xds.policy.egress import EgressProtocol
from xds.policy.http import HttpMatch, RequestSeen
from xds.policy.settings import Connections

pytestmark = [pytest.mark.envoy, pytest.mark.root]

PATIENCE_SECONDS = 2.0
ADDRESSES = ("10.77.0.50", "10.77.0.51", "10.77.0.66")
PORTS = (8080, 9000)
BUYER = snapshots.identity("bookbuyer/bookbuyer")
MATCHES = st.builds(
    HttpMatch,
    path=st.sampled_from((".*", "/open/.*", "/a", "/.*")),
    methods=st.sampled_from(((), ("GET",), ("GET", "POST"))),
)
HOSTS = ("10.77.0.50", "10.77.0.51", "*.77.0.51", "*.test", "a.test")
GRANTS = st.builds(
    lambda name, ports, hosts, ranges, matches, bound: EgressGrant(
        name=f"shop/{name}",
        sources=frozenset([BUYER]),
        ports=tuple(sorted(ports)),
        hosts=tuple(hosts),
        ranges=tuple(ranges),
        matches=matches,
        connections=Connections(max_connections=bound),
    ),
    name=st.sampled_from("abc"),
    ports=st.sets(
        st.tuples(st.sampled_from(PORTS), st.sampled_from(list(EgressProtocol))),
        min_size=1,
        max_size=2,
    ),
    hosts=st.lists(st.sampled_from(HOSTS), max_size=2, unique=True),
    ranges=st.lists(
        st.sampled_from(("10.77.0.50/32", "10.77.0.48/30", "10.77.0.0/26")), max_size=2, unique=True
    ),
    matches=st.none() | st.lists(MATCHES, max_size=2, unique=True).map(tuple),
    bound=st.none() | st.just(50),
)
WORLDS = st.lists(GRANTS, max_size=3, unique_by=lambda grant: grant.name)
REQUESTS = st.builds(
    lambda method, path, host: RequestSeen(method=method, path=path, headers=(("host", host),)),
    method=st.sampled_from(("GET", "POST")),
    path=st.sampled_from(("/", "/a", "/open/x", "/open/../a", "//a", "/open%2Fx")),
    host=st.sampled_from(("10.77.0.50", "10.77.0.51:8080", "A.test", "x.test", "else", "a.test.")),
)
TRAFFIC = st.builds(
    lambda address, port, first: Leaving(address=address, port=port, **first),
    address=st.sampled_from(ADDRESSES),
    port=st.sampled_from(PORTS),
    first=st.just({})
    | REQUESTS.map(lambda request: {"request": request})
    | st.sampled_from(("", "a.test", "A.test", "x.test", "else")).map(
        lambda name: {"server_name": name}
    ),
)


def outside(raw: socket.socket) -> None:
    """Greets who says nothing of HTTP, and answers requests."""
    first = raw.recv(4, socket.MSG_PEEK)
    if first[:1] == b"\x16":
        with TLS.wrap_socket(raw, server_side=True) as secure:
            secure.sendall(b"fed")
    elif first == b"feed":
        raw.sendall(b"fed")
    elif read_request(raw.makefile("rb")):
        raw.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def client() -> Iterator[Pod]:
    with pod(captured_by=15001) as running:
        for address in ADDRESSES:
            running.own_address(address)
            for port in PORTS:
                running.serve(address, port, outside)
        yield running


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.fixture(scope="module", autouse=True)
def certificate(tmp_path_factory: pytest.TempPathFactory) -> None:
    TLS.load_cert_chain(self_signed(tmp_path_factory.mktemp("tls")))


def secure(connection: socket.socket, name: str) -> Departure:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with context.wrap_socket(connection, server_hostname=name or None) as found:
            return Departure.ALLOWED if found.recv(100) == b"fed" else Departure.CLOSED
    except OSError:
        return Departure.CLOSED


def ask(client: Pod, seen: Leaving) -> Departure:
    with client.dial(seen.address, seen.port) as connection:
        if seen.server_name is not None:
            return secure(connection, seen.server_name)
        if seen.request is None:
            connection.sendall(b"feed\n")
            return Departure.ALLOWED if everything(connection) == b"fed" else Departure.CLOSED
        host = dict(seen.request.headers)["host"]
        head = f"{seen.request.method} {seen.request.path} HTTP/1.1\r\nhost: {host}\r\n"
        connection.sendall(f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode())
        status = everything(connection).partition(b" ")[2][:3]
    return {
        # A host that DNS does not know was let out all the same.
        b"200": Departure.ALLOWED,
        b"503": Departure.ALLOWED,
        b"404": Departure.NOT_FOUND,
        b"400": Departure.MALFORMED,
        b"": Departure.CLOSED,
    }[status]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(grants=WORLDS, traffic=st.lists(TRAFFIC, min_size=4, max_size=12))
def test_model_decides_as_envoy(
    client: Pod, grants: list[EgressGrant], traffic: list[Leaving]
) -> None:
    mesh = replace(snapshots.mesh(), policies=Policies(egress=tuple(grants)))
    policy = compile_policy(mesh, snapshots.profile("bookbuyer/bookbuyer"))
    case = xds_cases.case(replace(policy, request_metrics=False))
    client.feed(xds_cases.resources(case))
    if not grants:
        return
    for seen in traffic:
        decided = decide_egress(policy.outbound.egress, seen)
        # Workers take up a new listener a moment after Envoy has acknowledged it.
        eventually(
            lambda seen=seen, decided=decided: ask(client, seen) == decided.departure,
            PATIENCE_SECONDS,
            lambda seen=seen, decided=decided: f"{seen} {decided} {policy.outbound.egress}",
        )
