"""Both webhooks behind their TLS listeners: all is answered soon, and in bounded memory."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factory
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webhook_listeners import ROOTS, port_of, serving

from app.listeners import HttpServer
from app.webhooks.review import MAX_BODY_BYTES

PATHS = {"injector": "/mutate-pod-creation", "validator": "/validate"}
PATIENCE = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """Both webhooks of a real runtime without objects, as a controller opens them."""
    folder = tmp_path_factory.mktemp("objects")
    with serving([folder], folder / "state") as running:
        yield running


def connection(server: HttpServer, name: str) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cadata=ROOTS.decode())
    port = port_of(server, name)
    return http.client.HTTPSConnection("localhost", port, context=context, timeout=PATIENCE)


def post(
    server: HttpServer, name: str, body: bytes, path: str = "", **headers: str
) -> tuple[int, bytes]:
    asking = connection(server, name)
    sent = {"content-type": "application/json", **headers}
    try:
        asking.request("POST", path or PATHS[name], body=body, headers=sent)
        answer = asking.getresponse()
        return answer.status, answer.read()
    finally:
        asking.close()


def review(raw: Any, **request: Any) -> Any:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "operation": "CREATE",
            "namespace": "shop",
            "object": raw,
            **request,
        },
    }


POD = factory.pod("shop/web")
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


@pytest.mark.serial
@pytest.mark.parametrize("name", sorted(PATHS))
@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 400, id="empty"),
        pytest.param(b"{", 200, id="not-json"),
        pytest.param(b"\xff\xfe", 200, id="not-utf-8"),
        pytest.param(b"null", 200, id="null"),
        pytest.param(DEEP, 200, id="deep"),
        pytest.param(b"[" + b"[]," * 900_000 + b"1]", 200, id="many-lists"),
        pytest.param(b" " * (MAX_BODY_BYTES + 1), 413, id="huge"),
        pytest.param(json.dumps({**review(POD), "kind": "Review"}).encode(), 200, id="kind"),
        pytest.param(
            json.dumps({**review(POD), "apiVersion": "admission.k8s.io/v1beta1"}).encode(),
            200,
            id="version",
        ),
        pytest.param(json.dumps(review(POD, uid="")).encode(), 200, id="no-uid"),
        pytest.param(json.dumps(review(None)).encode(), 200, id="no-object"),
        pytest.param(json.dumps(review({"kind": "Nothing"})).encode(), 200, id="other-kind"),
    ],
)
def test_malformed_review_is_denied_soon(
    server: HttpServer, name: str, body: bytes, status: int
) -> None:
    began = time.monotonic()
    found, text = post(server, name, body)
    took = time.monotonic() - began
    assert (found, took < 1) == (status, True), (found, took)
    if status == 200:
        response = json.loads(text)["response"]
        assert (response["allowed"], bool(response["status"]["message"])) == (False, True)


@pytest.mark.parametrize("name", sorted(PATHS))
@pytest.mark.parametrize(
    "path", ["/", "/openapi.json", "/docs", "/metrics", "/api/v1/mesh", "/debug", "other"]
)
def test_listener_serves_its_one_route(server: HttpServer, name: str, path: str) -> None:
    other = {"injector": "validator", "validator": "injector"}[name]
    path = PATHS[other] if path == "other" else path
    status, _ = post(server, name, b"{}", path)
    assert status == 404


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
KINDS = (
    ("v1", "Pod"),
    ("policy.openservicemesh.io/v1alpha1", "Egress"),
    ("policy.openservicemesh.io/v1alpha1", "IngressBackend"),
    ("policy.openservicemesh.io/v1alpha1", "UpstreamTrafficSetting"),
    ("config.openservicemesh.io/v1alpha2", "MeshRootCertificate"),
    ("config.openservicemesh.io/v1alpha2", "MeshConfig"),
    ("access.smi-spec.io/v1alpha3", "TrafficTarget"),
    ("split.smi-spec.io/v1alpha2", "TrafficSplit"),
)
objects = st.builds(
    lambda kind, spec, metadata: {
        "apiVersion": kind[0],
        "kind": kind[1],
        "metadata": metadata,
        "spec": spec,
    },
    st.sampled_from(KINDS),
    json_values,
    json_values | st.just({"name": "a", "namespace": "shop"}),
)
reviews = st.builds(
    lambda raw, request: review(raw, **request),
    json_values | objects,
    st.dictionaries(
        st.sampled_from(["uid", "operation", "namespace", "oldObject", "dryRun", "kind"]),
        json_values | objects,
        max_size=3,
    ),
)
bodies = st.binary(max_size=200) | (json_values | reviews).map(lambda v: json.dumps(v).encode())


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(PATHS)),
    body=bodies,
    content_type=st.sampled_from(
        ["application/json", "application/json; charset=utf-8", "text/plain", ""]
    ),
)
def test_whatever_is_sent_is_answered(
    server: HttpServer, name: str, body: bytes, content_type: str
) -> None:
    status, text = post(server, name, body, **{"content-type": content_type})
    assert status in {200, 400, 415}
    if status == 200:
        assert isinstance(json.loads(text)["response"]["allowed"], bool)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / FTP/1.1\r\n\r\n", id="version"),
        pytest.param(b"\x00" * 100 + b"\r\n\r\n", id="zeros"),
        pytest.param(b"POST /validate HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n", id="len"),
        pytest.param(
            b"POST /validate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            id="chunk",
        ),
        pytest.param(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", id="long-line"),
    ],
)
def test_what_is_not_http_ends_its_connection_only(server: HttpServer, garbage: bytes) -> None:
    context = ssl.create_default_context(cadata=ROOTS.decode())
    port = port_of(server, "validator")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
        contextlib.suppress(ConnectionError, ssl.SSLError),
    ):
        tls.sendall(garbage)
        answer = b"".join(iter(lambda: tls.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")
    assert post(server, "validator", b"")[0] == 400


def peak_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.serial
def test_memory_is_bounded_under_many_huge_bodies(server: HttpServer) -> None:
    """Just below every bound, so that each is decoded: all at once they would take gigabytes."""
    most = b"[" + b'{"a":1},' * 249_000 + b'"' + b"a" * 1_000_000 + b'"]'
    assert len(most) < MAX_BODY_BYTES
    statuses: Counter[int] = Counter()

    def ask(name: str) -> None:
        try:
            statuses[post(server, name, most)[0]] += 1
        except (OSError, http.client.HTTPException):
            statuses[0] += 1

    names = sorted(PATHS)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes()
    threads = [threading.Thread(target=ask, args=(names[n % 2],)) for n in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    grown = peak_bytes() - before
    assert grown < 700 * 2**20, (grown, statuses)
    assert statuses.keys() <= {200, 408, 0}
    assert statuses[200] >= 2
    assert post(server, "injector", b"")[0] == 400
