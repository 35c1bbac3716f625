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

STATS_PATH = "/stats/prometheus?usedonly&filter=osm.request_total|ssl.handshake|upstream_cx_total"
"""Admin path that answers with just the counters this page reads."""

_REQUESTS = "envoy_osm_request_total"
_UPSTREAM_CONNECTIONS = "envoy_cluster_upstream_cx_total"
_UPSTREAM_HANDSHAKES = "envoy_cluster_ssl_handshake"
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

    requests: dict[Edge, int]
    mesh_connections: int
    """Connections to mesh services, opened by this proxy."""
    mesh_handshakes: int
    """TLS handshakes on them; the mesh is encrypted when there are as many."""


def counters(prometheus_text: str) -> ProxyCounters:
    """The counters in one proxy's answer to ``STATS_PATH``."""
    samples = parse_samples(prometheus_text)
    requests: Counter[Edge] = Counter()
    for sample in samples:
        if sample.name == _REQUESTS:
            requests[_edge(sample)] += int(sample.value)
    return ProxyCounters(
        requests=dict(requests),
        mesh_connections=_mesh_total(samples, _UPSTREAM_CONNECTIONS),
        mesh_handshakes=_mesh_total(samples, _UPSTREAM_HANDSHAKES),
    )


def added(before: dict[Edge, int], after: dict[Edge, int]) -> dict[Edge, int]:
    """What each edge gained, sorted; a proxy that restarted counts from zero."""
    gained = {
        edge: total - before.get(edge, 0) if total >= before.get(edge, 0) else total
        for edge, total in sorted(after.items())
    }
    return {edge: count for edge, count in gained.items() if count}


def total(parts: Iterable[dict[Edge, int]]) -> dict[Edge, int]:
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


def _mesh_total(samples: Iterable[Sample], name: str) -> int:
    """The sum over clusters of mesh services: those with a ``|`` that are not local."""
    clusters = ((s, s.labels.get(_CLUSTER_LABEL, "")) for s in samples if s.name == name)
    return sum(int(s.value) for s, c in clusters if "|" in c and not c.endswith("|local"))
