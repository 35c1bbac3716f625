"""A law: the Python model answers gateways as a real Envoy does. data-plane 4.7, 5.5, 6.2."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace

import pytest
import snapshots
import xds_cases
import xds_certificates
from e2e.caller import eventually
from envoy_harness.pod import Pod, everything, pod
from envoy_harness.tls import client_context, read_request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.mesh.authorize import Verdict
from app.mesh.catalog.compile import compile_policy
from app.mesh.ingress import Arrival, authorize_ingress
from app.mesh.policies.part import IngressGrant, Policies
from xds.policy.http import HttpMatch, RequestSeen
from xds.policy.identity import Issuer

pytestmark = [pytest.mark.envoy, pytest.mark.root]

PATIENCE_SECONDS = 2.0
POD = "10.77.0.5"
SOURCES = ("10.77.0.20", "10.77.0.21")
WEB = snapshots.service("bookstore/web", 80, 8080)
ALIAS = snapshots.service("bookstore/alias", 81, 8080)
OTHER = snapshots.service("bookstore/other", 90, 9090, "tcp")
PEERS = {"ann": snapshots.identity("edge/ann"), "bob": snapshots.identity("edge/bob")}
NAMES = {name: (Issuer().subject_name(who),) for name, who in PEERS.items()}
MATCHES = st.builds(
    HttpMatch,
    path=st.sampled_from((".*", "/open/.*", "/a")),
    methods=st.sampled_from(((), ("GET",))),
)


def grant(place: tuple[str, int], **values: object) -> IngressGrant:
    checked = bool(values["tls"]) and values.pop("checked")
    values.pop("checked", None)
    names = tuple(sorted(n for who in values.pop("who") for n in NAMES[who]))  # type: ignore[attr-defined]
    hosts = values.pop("hosts")
    return IngressGrant(
        name=f"{place[0]}-in",
        service=place[0],
        target=place[1],
        client_certificate=checked,
        principals=names if checked else None,
        server_names=tuple(hosts) if values["tls"] else (),  # type: ignore[arg-type]
        **values,  # type: ignore[arg-type]
    )


GRANTS = st.builds(
    grant,
    place=st.sampled_from(
        (("bookstore/web", 8080), ("bookstore/alias", 8080), ("bookstore/other", 9090))
    ),
    tls=st.booleans(),
    checked=st.booleans(),
    who=st.sets(st.sampled_from(("ann", "bob")), max_size=2),
    hosts=st.lists(st.sampled_from(("a.test", "*.b.test")), max_size=2, unique=True),
    addresses=st.none()
    | st.lists(st.sampled_from(("10.77.0.20/32", "10.77.0.0/24")), max_size=1).map(tuple),
    matches=st.none() | st.lists(MATCHES, max_size=2, unique=True).map(tuple),
)
WORLDS = st.lists(
    GRANTS, min_size=1, max_size=3, unique_by=lambda found: (found.service, found.target)
)


def arrival(name: str | None, asked: str, **values: object) -> Arrival:
    secure = bool(values["tls"])
    return Arrival(
        certificate=NAMES[name] if secure and name else None,
        server_name=asked if secure else "",
        **values,  # type: ignore[arg-type]
    )


ARRIVALS = st.builds(
    arrival,
    target=st.sampled_from((8080, 8080, 9090)),
    address=st.sampled_from(SOURCES),
    request=st.builds(
        RequestSeen,
        method=st.sampled_from(("GET", "POST")),
        path=st.sampled_from(("/", "/a", "/open/x", "/open/../a", "//a")),
        headers=st.just((("host", "shop.example"),)),
    ),
    tls=st.booleans(),
    asked=st.sampled_from(("a.test", "x.b.test", "b.test", "web.bookstore.svc.cluster.local")),
    name=st.sampled_from(("ann", "bob", None)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Pod]:
    def answer(connection: socket.socket) -> None:
        if read_request(connection.makefile("rb")):
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    with pod(captured_by=15003) as running:
        for target in (8080, 9090):
            running.serve("127.0.0.1", target, answer)
        for address in SOURCES:
            running.inner.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        yield running


def dial(server: Pod, seen: Arrival) -> socket.socket:
    def connect() -> socket.socket:
        source = (seen.address, 0)
        return socket.create_connection((POD, seen.target), timeout=5, source_address=source)

    return server.inner.call(connect)


def ask(server: Pod, seen: Arrival) -> Verdict:
    pairs = {names: who for who, names in NAMES.items()}
    plain = dial(server, seen)
    try:
        if seen.tls:
            who = pairs.get(tuple(seen.certificate or ()))
            pair = xds_certificates.issue(PEERS[who]) if who else None
            context = client_context(pair, alpn=None)
            plain = context.wrap_socket(plain, server_hostname=seen.server_name)
        request = f"{seen.request.method} {seen.request.path} HTTP/1.1\r\nhost: shop.example\r\n"
        plain.sendall(f"{request}content-length: 0\r\nconnection: close\r\n\r\n".encode())
        status = everything(plain).partition(b" ")[2][:3]
    except (ssl.SSLError, ConnectionError):
        status = b""
    finally:
        plain.close()
    return {
        b"200": Verdict.ALLOWED,
        b"403": Verdict.FORBIDDEN,
        b"404": Verdict.NOT_FOUND,
        b"400": Verdict.MALFORMED,
        b"": Verdict.CLOSED,
    }[status]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(grants=WORLDS, arrivals=st.lists(ARRIVALS, min_size=4, max_size=10))
def test_model_answers_as_envoy(
    server: Pod, grants: list[IngressGrant], arrivals: list[Arrival]
) -> None:
    views = [snapshots.view(one, "10.0.0.1", accounts=("bookstore/bookstore",)) for one in (WEB,)]
    by_place = {(one.service, one.target): one for one in grants}
    mesh = replace(snapshots.mesh(*views), policies=Policies(ingress=by_place))
    profile = snapshots.profile("bookstore/bookstore", WEB, ALIAS, OTHER)
    policy = replace(compile_policy(mesh, profile), request_metrics=False)
    server.feed(xds_cases.resources(xds_cases.case(policy)))
    for seen in arrivals:
        expected = authorize_ingress(policy.inbound, seen)
        # Workers take up a new listener a moment after Envoy has acknowledged it.
        eventually(
            lambda seen=seen, expected=expected: ask(server, seen) == expected,
            PATIENCE_SECONDS,
            lambda seen=seen, expected=expected: f"{seen} {expected} {policy.inbound.ingress}",
        )
