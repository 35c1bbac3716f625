"""Counters of sidecars as edges, and the proof of TLS: from text as Envoy writes it."""

import pytest

from app.observe.rates import Edge, ProxyCounters, added, counters, encrypted, total

BUYER, STORE = "bookbuyer/bookbuyer", "bookstore/bookstore-v1"
LABELS = (
    'response_code="{code}",source_namespace="bookbuyer",source_kind="Deployment",'
    'source_name="bookbuyer",source_pod="bookbuyer-1",destination_namespace="{namespace}",'
    'destination_kind="Deployment",destination_name="{name}",destination_pod="{pod}"'
)


def requests(count: int, *, code: int = 200, name: str = "bookstore-v1", pod: str = "a") -> str:
    namespace = "-" if name == "-" else "bookstore"
    labels = LABELS.format(code=code, namespace=namespace, name=name, pod=pod)
    return f"envoy_osm_request_total{{{labels}}} {count}\n"


def cluster(metric: str, name: str, value: int) -> str:
    return f'envoy_cluster_{metric}{{envoy_cluster_name="{name}"}} {value}\n'


def edge(code: str = "200", destination: str = STORE) -> Edge:
    return Edge(source=BUYER, destination=destination, response_code=code)


def proxy(*, handshakes: int = 1, plain: tuple[str, ...] = (), strangers: int = 0) -> ProxyCounters:
    return ProxyCounters(
        requests={}, handshakes=handshakes, plain_clusters=plain, strangers=strangers
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="nothing-yet"),
        pytest.param(requests(3), {edge(): 3}, id="one-edge"),
        pytest.param(requests(3) + requests(4, pod="b"), {edge(): 7}, id="pods-are-summed"),
        pytest.param(
            requests(3) + requests(1, code=503), {edge(): 3, edge("503"): 1}, id="by-answer"
        ),
        pytest.param(requests(2, name="-"), {edge(destination="unknown"): 2}, id="no-upstream"),
    ],
)
def test_requests_become_edges_between_workloads(text: str, expected: dict[Edge, int]) -> None:
    assert counters(text).requests == expected


STORE_CLUSTER = "bookstore/bookstore-v1|14001"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            cluster("upstream_cx_total", STORE_CLUSTER, 2)
            + cluster("ssl_handshake", STORE_CLUSTER, 2),
            proxy(handshakes=2),
            id="encrypted",
        ),
        pytest.param(
            cluster("upstream_cx_total", STORE_CLUSTER, 2),
            proxy(handshakes=0, plain=(STORE_CLUSTER,)),
            id="plain",
        ),
        pytest.param(
            cluster("upstream_cx_total", STORE_CLUSTER, 2)
            + cluster("upstream_cx_connect_fail", STORE_CLUSTER, 2),
            proxy(handshakes=0),
            id="never-connected",
        ),
        pytest.param(
            cluster("upstream_cx_total", f"{STORE_CLUSTER}|local", 9)
            + cluster("upstream_cx_total", "osm-controller", 1)
            + cluster("ssl_handshake", "osm-controller", 1),
            proxy(handshakes=0),
            id="only-mesh-services-count",
        ),
        pytest.param(
            'envoy_listener_ssl_no_certificate{envoy_listener_address="0.0.0.0_15003"} 1\n',
            proxy(handshakes=0, strangers=1),
            id="peer-without-certificate",
        ),
    ],
)
def test_tls_is_told_from_clusters_and_listeners(text: str, expected: ProxyCounters) -> None:
    assert counters(text) == expected


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        pytest.param([], False, id="nobody"),
        pytest.param([proxy(handshakes=0)], False, id="nobody-has-talked"),
        pytest.param([proxy(), proxy(handshakes=0)], True, id="whoever-talked-was-encrypted"),
        pytest.param([proxy(), proxy(plain=("a|1",))], False, id="one-plain-cluster"),
        pytest.param([proxy(), proxy(strangers=1)], False, id="one-stranger"),
    ],
)
def test_mesh_is_encrypted(proxies: list[ProxyCounters], expected: bool) -> None:
    assert encrypted(proxies) is expected


def test_gain_is_what_was_added_and_a_restart_counts_from_zero() -> None:
    before = {edge(): 5, edge("503"): 9, edge("404"): 1}
    after = {edge(): 7, edge("503"): 2, edge("404"): 1, edge("403"): 1}
    assert added(before, after) == {edge(): 2, edge("503"): 2, edge("403"): 1}


def test_total_is_the_sum_over_proxies() -> None:
    assert total([{edge(): 1}, {edge(): 2, edge("404"): 1}]) == {edge(): 3, edge("404"): 1}
