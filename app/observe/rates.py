"""Request counters of sidecars, as edges between workloads, and proof of the mesh's TLS.

In comes the Prometheus text of a client's Envoy (the stats access logger of data-plane 5.8, and its
TLS counters); out go totals per edge and answer. Pure: reading the text from Envoy is the caller's
task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.metrics import Sample, parse_samples

_READ = "osm.request_total|ssl.handshake|ssl.no_certificate|upstream_cx_(total|connect_fail)$"
STATS_PATH = f"/stats/prometheus?usedonly&filter={_READ}"
"""Admin path that answers with just the counters this page reads."""

_REQUESTS = "envoy_osm_request_total"
_CONNECTIONS = "envoy_cluster_upstream_cx_total"
_FAILED_CONNECTIONS = "envoy_cluster_upstream_cx_connect_fail"
_HANDSHAKES = "envoy_cluster_ssl_handshake"
_STRANGERS = "envoy_listener_ssl_no_certificate"
_CLUSTER_LABEL = "envoy_cluster_name"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Edge:
    """Calls of one workload to another that had one status."""

    source: str
    """``<namespace>/<name>`` of the workload; ``unknown`` where there is none."""
    destination: str
    response_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyCounters:
    """Totals of one proxy since it started."""

    requests: Mapping[Edge, int]
    handshakes: int
    """TLS handshakes this proxy made with mesh services."""
    plain_clusters: tuple[str, ...]
    """Mesh services it has connected to without ever a handshake; empty in a mesh that works."""
    strangers: int
    """Connections it took from peers without a certificate; 0 in a mesh that works."""


def counters(prometheus_text: str) -> ProxyCounters:
    """The counters in one proxy's answer to ``STATS_PATH``."""
    samples = parse_samples(prometheus_text)
    requests: Counter[Edge] = Counter()
    for sample in samples:
        if sample.name == _REQUESTS:
            requests[_edge(sample)] += int(sample.value)
    opened, failed = _per_service(samples, _CONNECTIONS), _per_service(samples, _FAILED_CONNECTIONS)
    handshakes = _per_service(samples, _HANDSHAKES)
    plain = {c for c, count in opened.items() if count > failed[c] and not handshakes[c]}
    return ProxyCounters(
        requests=dict(requests),
        handshakes=handshakes.total(),
        plain_clusters=tuple(sorted(plain)),
        strangers=sum(int(s.value) for s in samples if s.name == _STRANGERS),
    )


def encrypted(proxies: Iterable[ProxyCounters]) -> bool:
    """True when the proxies have talked, and only over TLS with certificates on both sides."""
    seen = list(proxies)
    clean = all(not proxy.plain_clusters and not proxy.strangers for proxy in seen)
    return clean and any(proxy.handshakes for proxy in seen)


def added(before: Mapping[Edge, int], after: Mapping[Edge, int]) -> dict[Edge, int]:
    """What each edge gained, sorted; a proxy that restarted counts from zero."""
    gained = {
        edge: total - before.get(edge, 0) if total >= before.get(edge, 0) else total
        for edge, total in sorted(after.items())
    }
    return {edge: count for edge, count in gained.items() if count}


def total(parts: Iterable[Mapping[Edge, int]]) -> dict[Edge, int]:
    """The sum over proxies."""
    summed: Counter[Edge] = Counter()
    for part in parts:
        summed.update(part)
    return dict(summed)


def _edge(sample: Sample) -> Edge:
    labels = sample.labels
    return Edge(
        source=_workload(labels, "source"),
        destination=_workload(labels, "destination"),
        response_code=labels.get("response_code", "0"),
    )


def _workload(labels: Mapping[str, str], side: str) -> str:
    namespace, name = labels.get(f"{side}_namespace", "-"), labels.get(f"{side}_name", "-")
    return "unknown" if name in ("-", "unknown", "") else f"{namespace}/{name}"


def _per_service(samples: Iterable[Sample], name: str) -> Counter[str]:
    """Values by cluster of a mesh service: those whose name has a ``|`` and is not local."""
    values: Counter[str] = Counter()
    for sample in samples:
        cluster = sample.labels.get(_CLUSTER_LABEL, "")
        if sample.name == name and "|" in cluster and not cluster.endswith("|local"):
            values[cluster] += int(sample.value)
    return values
