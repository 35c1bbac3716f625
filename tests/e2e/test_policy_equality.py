"""Laws: the Python policy model decides as a real Envoy does, and reads paths as it does.

Random rules are compiled and built as in production and pushed to one running Envoy; random
requests of callers with real certificates are answered by it and by ``authorize``. data-plane 4.2
to 4.4, 9.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import pytest
import snapshots
import xds_cases
import xds_certificates
from envoy_harness.pod import Pod, everything, pod, say
from envoy_harness.tls import client_context, read_request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.mesh.authorize import Verdict, authorize
from app.mesh.catalog.compile import compile_policy
from app.mesh.paths import normalized
from app.mesh.policies.part import Denial
from app.mesh.snapshot import AccessRule
from xds.policy.http import HeaderMatch, HttpMatch, RequestSeen
from xds.policy.identity import Issuer, Issuers, SubjectName
from xds.policy.proxy import ProxyPolicy
from xds.policy.service import MeshService

pytestmark = [pytest.mark.envoy, pytest.mark.root]

POD = "10.77.0.5"
CART = snapshots.service("shop/cart", 80, 8080)
OFFICE = snapshots.service("shop/cart", 81, 8081, "grpc")
FEED = snapshots.service("shop/cart", 90, 9090, "tcp")
SERVED = (CART, OFFICE, FEED)
ROOT = snapshots.service("shop/root", 80, 8000)
CALLERS = ("shop/ann", "shop/bob")
PLAIN = Issuer()
SPIFFE = Issuer(trust_domain="new.mesh", spiffe=True)
ISSUERS = (Issuers(), Issuers(signing=SPIFFE, validating=SPIFFE), Issuers(validating=SPIFFE))

PATTERNS = (
    ".*", "/.*", "/open", "/open/.*", "/admin/.*", "/a|/b/.*", "/(a|b)/c?", "/books/[0-9]+",
    "/x\\.y", "(?i)/up", "/open/[^/]+", "/.*/c", "//.*", ".*%2F.*", "/a/?", "/b\\|c",
)  # fmt: skip
SEGMENTS = (
    "/", "/open", "/admin", "/a", "/b", "/c", "/books", "/12", "/x.y", "/xzy", "/UP", "/.", "/..",
    "/%2e%2e", "%2F", "%2f..%2F", "%5c", "\\", "/..;p", "%61", "|c", "%7C", "%25", "%",
)  # fmt: skip
PATHS = st.lists(st.sampled_from(SEGMENTS), max_size=4).map(lambda parts: "/" + "".join(parts)[1:])
HEADERS = st.sampled_from(("x-user", "x-user", "x-role", "accept", "te"))
VALUES = st.sampled_from(("ann", "bob", "12", "ann,bob", "", "abc", "é"))
PIECES = st.sampled_from(
    (*"/////...%2eEfF5cC4;a|", "..", "%2e", "%2F", "%5c", "%25", "%32", "%65", "%41", "%00", "\x7f")
) | st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?")
HOSTS = st.sampled_from(
    ("cart", "cart.shop", "CART.shop:80", "cart:81", "cart.shop.svc.cluster.local.", "root",
     "root.shop.:80", "root:8080", "other")
)  # fmt: skip

MATCHES = st.builds(
    HttpMatch,
    path=st.sampled_from(PATTERNS),
    methods=st.sets(st.sampled_from(("GET", "POST", "DELETE")), max_size=2).map(
        lambda found: tuple(sorted(found))
    ),
    headers=st.sets(
        st.builds(
            HeaderMatch,
            name=HEADERS,
            pattern=st.sampled_from(("ann|bob", "ann", ".*", "[0-9]{2}", "ann,bob", "a.c", "..")),
        )
        | st.builds(
            HeaderMatch, name=st.just(":authority"), pattern=st.sampled_from(("cart.*", "root"))
        ),
        max_size=2,
    ).map(lambda found: tuple(sorted(found))),
)
RULES = st.builds(
    lambda to, sources, matches, ports, any_port: snapshots.access(
        to, *sources, matches=matches, ports=ports, any_port=any_port
    ),
    to=st.sampled_from(("shop/cart", "shop/cart", "shop/cart", "shop/other")),
    sources=st.sets(st.sampled_from((*CALLERS, "shop/eve")), max_size=2),
    matches=st.sets(MATCHES, max_size=3),
    ports=st.none() | st.none() | st.sets(st.sampled_from((8080, 8081, 9090)), max_size=2),
    any_port=st.sampled_from((False, False, True)),
)
DENIALS = st.builds(
    snapshots.denial,
    source=st.sampled_from((*CALLERS, "shop/eve", None)),
    matches=st.sets(MATCHES, max_size=2),
    ports=st.sampled_from(((), (), (), (8081,), (9090,), None)),
)
REQUESTS = st.builds(
    lambda method, path, host, headers: RequestSeen(
        method=method, path=path, headers=(("host", host), *headers)
    ),
    method=st.sampled_from(("GET", "POST", "DELETE", "PATCH", "HEAD")),
    path=PATHS,
    host=st.just("cart.shop") | HOSTS,
    headers=st.lists(st.tuples(HEADERS, VALUES), max_size=4),
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, or for TCP one connection, of a caller."""

    caller: str
    issuer: Issuer
    service: MeshService
    request: RequestSeen
    query: str


QUESTIONS = st.builds(
    Question,
    caller=st.sampled_from(CALLERS),
    issuer=st.sampled_from((PLAIN, SPIFFE)),
    service=st.sampled_from((CART, CART, CART, OFFICE, OFFICE, FEED)),
    request=REQUESTS,
    query=st.sampled_from(("", "", "?x=/../open")),
)
LEAST_OF_EACH = 5
"""How often what is drawn must lead to each verdict, or the law says little."""
VERDICTS = {
    200: Verdict.ALLOWED,
    400: Verdict.MALFORMED,
    403: Verdict.FORBIDDEN,
    404: Verdict.NOT_FOUND,
}


def answer_http(connection: socket.socket) -> None:
    """Every request that arrives is fine; the answer tells which path arrived."""
    reader = connection.makefile("rb")
    while head := read_request(reader):
        path = head.split(b" ")[1]
        connection.sendall(b"HTTP/1.1 200 OK\r\nx-path: " + path + b"\r\ncontent-length: 0\r\n\r\n")


def answer_tcp(connection: socket.socket) -> None:
    say(connection, b"hello")


@pytest.fixture(scope="module")
def server() -> Iterator[Pod]:
    with pod(captured_by=15003) as running:
        for served in (CART, OFFICE):
            running.serve("127.0.0.1", served.target, answer_http)
        running.serve("127.0.0.1", FEED.target, answer_tcp)
        yield running


class Client:
    """Connections to the server, one per caller and port, for the rules in force."""

    def __init__(self, server: Pod) -> None:
        self._server = server
        self._open: dict[tuple[str, Issuer, int], ssl.SSLSocket] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open.values():
            connection.close()

    def verdict(self, question: Question) -> Verdict:
        """What Envoy answers, in the model's words."""
        if question.service == FEED:
            return self._connect(question)
        status, _ = self.ask(question)
        return VERDICTS[status]

    def _connect(self, question: Question) -> Verdict:
        """A refused certificate shows when reading, a missing chain in the handshake."""
        with contextlib.suppress(ConnectionError, ssl.SSLError), self._dial(question) as connection:
            connection.sendall(b"hello?")  # a denied client is known by its first byte
            if everything(connection) == b"hello":
                return Verdict.ALLOWED
        return Verdict.CLOSED

    def ask(self, question: Question) -> tuple[int, str]:
        """Envoy's status, and the path that the application saw."""
        key = (question.caller, question.issuer, question.service.target)
        connection = self._open.get(key) or self._dial(question)
        seen = question.request
        lines = [f"{seen.method} {seen.path}{question.query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in seen.headers]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        response = http.client.HTTPResponse(connection, method=seen.method)
        response.begin()
        response.read()
        if response.will_close:
            connection.close()
            self._open.pop(key, None)
        else:
            self._open[key] = connection
        return response.status, response.headers.get("x-path", "")

    def _dial(self, question: Question) -> ssl.SSLSocket:
        context = context_of(question.caller, question.issuer)
        raw = self._server.dial(POD, question.service.target)
        # The first request would wait 40 ms for the acknowledgement of the handshake's end.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(raw, server_hostname=question.service.fqdn())


@functools.cache
def context_of(caller: str, issuer: Issuer) -> ssl.SSLContext:
    return client_context(xds_certificates.issue(snapshots.identity(caller), issuer))


def names_of(caller: str, issuer: Issuer) -> tuple[SubjectName, ...]:
    """The names in the certificate: a SPIFFE one carries the DNS form as well."""
    who = snapshots.identity(caller)
    both = (issuer, Issuer(trust_domain=issuer.trust_domain))
    return tuple({one.subject_name(who) for one in both})


def policy_of(
    granted: list[AccessRule],
    issuers: Issuers,
    *,
    denials: tuple[Denial, ...] = (),
    permissive: bool = False,
) -> ProxyPolicy:
    views = [snapshots.view(served, "10.0.0.1") for served in SERVED]
    mesh = snapshots.mesh(
        *views,
        snapshots.view(ROOT, "10.0.0.2", accounts=()),
        granted=granted,
        splits=[snapshots.split("shop/root", {"cart": 100})],
        issuers=issuers,
        denials={"shop/cart": denials},
        permissive=permissive,
    )
    return compile_policy(mesh, snapshots.profile("shop/cart", *SERVED))


def feed(server: Pod, policy: ProxyPolicy) -> None:
    server.feed(xds_cases.resources(xds_cases.case(policy)))


def test_model_decides_as_envoy(server: Pod) -> None:
    seen: Counter[Verdict] = Counter()

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        granted=st.lists(RULES, min_size=1, max_size=5),
        issuers=st.sampled_from(ISSUERS),
        denials=st.lists(DENIALS, max_size=2).map(tuple),
        permissive=st.sampled_from((False, False, True)),
        questions=st.lists(QUESTIONS, min_size=10, max_size=20),
    )
    def law(
        granted: list[AccessRule],
        issuers: Issuers,
        denials: tuple[Denial, ...],
        permissive: bool,
        questions: list[Question],
    ) -> None:
        policy = policy_of(granted, issuers, denials=denials, permissive=permissive)
        feed(server, policy)
        with Client(server) as client:
            for question in questions:
                caller = names_of(question.caller, question.issuer)
                decided = authorize(policy.inbound, question.service, caller, question.request)
                assert (question, client.verdict(question)) == (question, decided)
                seen[decided] += 1

    law()
    assert {verdict for verdict, count in seen.items() if count >= LEAST_OF_EACH} >= {
        Verdict.ALLOWED,
        Verdict.FORBIDDEN,
        Verdict.NOT_FOUND,
        Verdict.CLOSED,
    }


def test_paths_are_read_as_envoy_reads_them(server: Pod) -> None:
    anything = HttpMatch(path="/.*")
    granted = snapshots.access("shop/cart", "shop/ann", matches=[anything])
    policy = policy_of([granted], Issuers())
    feed(server, policy)

    @settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(text=st.lists(PIECES, max_size=12).map("".join))
    def law(text: str) -> None:
        seen = RequestSeen(method="GET", path=f"/{text}", headers=(("host", "cart"),))
        question = Question(caller="shop/ann", issuer=PLAIN, service=CART, request=seen, query="")
        status, arrived = client.ask(question)
        decided = authorize(policy.inbound, CART, names_of("shop/ann", PLAIN), seen)
        assert VERDICTS[status] is decided
        assert arrived == (normalized(seen.path) if decided is Verdict.ALLOWED else "")

    with Client(server) as client:
        law()
