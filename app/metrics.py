"""All Prometheus metrics of the control plane, named in one place; the only door to the library.

Parts get the one :class:`Metrics` of their process and count; ``render`` gives the page of
``/metrics``. Series labelled by proxy go when the proxy goes. docs/metrics.md is generated from
this page. Specification: kubernetes-surface 8.4, data-plane 7.11.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BUILD_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 90)
_PROXY_LABELS = ("proxy_uuid", "identity", "type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of a metrics page."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse_samples(page: str) -> tuple[Sample, ...]:
    """The samples of a page in Prometheus text format, in its order; ``ValueError`` for another."""
    # Without their types, since the library renames counters that do not end in _total.
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    return tuple(
        Sample(name=sample.name, labels=sample.labels, value=sample.value)
        for family in text_string_to_metric_families("\n".join(lines) + "\n")
        for sample in family.samples
    )


class ExactCounter:
    """Counts by label values under exactly its name: the library would add ``_total``."""

    def __init__(
        self, name: str, documentation: str, labels: tuple[str, ...], registry: CollectorRegistry
    ) -> None:
        self.name = name
        self._documentation = documentation
        self._labels = labels
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        registry.register(self)

    def inc(self, *values: str, by: float = 1) -> None:
        """One more for these label values, in the order of the labels."""
        with self._lock:
            self._counts[values] = self._counts.get(values, 0.0) + by

    def get(self, *values: str) -> float:
        """The count for these label values."""
        with self._lock:
            return self._counts.get(values, 0.0)

    def drop(self, first: str) -> None:
        """No series has this value of the first label any more."""
        with self._lock:
            for values in [known for known in self._counts if known[0] == first]:
                del self._counts[values]

    def collect(self) -> Iterator[Metric]:
        """The library's view of it, at one moment."""
        family = CounterMetricFamily(self.name, self._documentation)
        with self._lock:
            counts = sorted(self._counts.items())
        for values, count in counts:
            family.add_sample(self.name, dict(zip(self._labels, values, strict=True)), count)
        yield family


class Metrics:
    """The metrics of one control-plane process; safe across threads."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._counters: list[ExactCounter] = []
        self._of_objects()
        self._of_proxies()
        self._of_certificates()
        self._of_http()

    def render(self) -> bytes:
        """The metrics page, Prometheus text format 0.0.4."""
        page = generate_latest(self.registry).decode()
        for counter in self._counters:
            for word in ("HELP", "TYPE"):
                name = counter.name.removesuffix("_total")
                page = page.replace(f"# {word} {name}_total ", f"# {word} {counter.name} ")
        return page.encode()

    def drop_proxy(self, uuid: str) -> None:
        """The series of a proxy that is gone are gone."""
        for counter in (self.responses_sent, self.responses_failed, self.xds_requests):
            counter.drop(uuid)

    def _of_objects(self) -> None:
        self.object_events = self._counter(
            "osm_k8s_api_event_count", "Object events received.", "type", "namespace"
        )
        self.namespaces = self._gauge("osm_resource_namespace_count", "Monitored namespaces.")
        self.source_staleness = Gauge(
            "osm_source_staleness_seconds",
            "Seconds since the API server was last heard of a kind.",
            ["kind"],
            registry=self.registry,
        )
        self.rejected_objects = self._gauge(
            "osm_rejected_objects", "Objects, or parts of them, that are not in force."
        )
        self.broadcasts = self._counter(
            "osm_proxy_broadcast_event_count", "Batches of object changes that were applied."
        )
        self.events_queued = self._gauge("osm_events_queued", "Events that wait for the loop.")
        self.errors = self._counter(
            "osm_error_err_code_count", "Errors logged, by error code.", "err_code"
        )
        self.feature_flags = Gauge(
            "osm_feature_flag_enabled",
            "1 where the feature flag is on.",
            ["feature_flag"],
            registry=self.registry,
        )
        self.version = Gauge(
            "osm_version_info",
            "Version of the control plane; always 1.",
            ["version", "build_date", "git_commit"],
            registry=self.registry,
        )

    def _of_proxies(self) -> None:
        self.proxies = self._gauge("osm_proxy_connect_count", "Proxies connected now.")
        self.reconnects = self._counter(
            "osm_proxy_reconnect_count", "Connections of proxies that were connected before."
        )
        self.max_connections_rejected = self._counter(
            "osm_proxy_max_connections_rejected", "Streams refused by maxDataPlaneConnections."
        )
        self.responses_sent = self._counter(
            "osm_proxy_response_send_success_count", "xDS responses sent.", *_PROXY_LABELS
        )
        self.responses_failed = self._counter(
            "osm_proxy_response_send_error_count",
            "xDS responses that the proxy rejected or that could not be sent.",
            *_PROXY_LABELS,
        )
        self.xds_requests = self._counter(
            "osm_proxy_xds_request_count", "xDS requests received.", *_PROXY_LABELS
        )
        self.config_update_time = self._histogram(
            "osm_proxy_config_update_time",
            "Seconds to build the configuration of one profile.",
            ("resource_type", "success"),
            _BUILD_BUCKETS,
        )
        self.rejecting_proxies = self._gauge(
            "osm_proxies_rejecting", "Proxies that rejected what they were sent last."
        )
        self.lagging_proxies = self._gauge(
            "osm_proxies_lagging", "Proxies that have not acknowledged a push for 30 seconds."
        )
        self.failing_profiles = self._gauge(
            "osm_profiles_failing", "Profiles that keep an old configuration: building failed."
        )

    def _of_certificates(self) -> None:
        self.certificates_issued = self._counter("osm_cert_issued_count", "Certificates issued.")
        self.certificate_issue_time = self._histogram(
            "osm_cert_issued_time", "Seconds to issue a certificate.", (), _BUILD_BUCKETS
        )
        self.certificates_overdue = self._gauge(
            "osm_certs_overdue", "Certificates past half of their time for renewal."
        )
        self.root_remaining = self._gauge(
            "osm_root_cert_remaining_ratio", "Share of the root's life that is left, 0 to 1."
        )

    def _of_http(self) -> None:
        self.admissions = self._counter(
            "osm_admission_webhook_response_total", "Admission answers.", "kind", "success"
        )
        self.injections = self._counter(
            "osm_injection_count", "Pods that were asked about, by outcome.", "outcome"
        )
        self.http_responses = self._counter(
            "osm_http_response_total", "HTTP answers.", "code", "method", "path"
        )
        self.reconciliations = self._counter(
            "osm_reconciliation_total",
            "Webhook configurations and definitions that were restored.",
            "kind",
        )
        self.http_duration = self._histogram(
            "osm_http_response_duration",
            "Seconds to answer an HTTP request.",
            ("code", "method", "path"),
            Histogram.DEFAULT_BUCKETS,
        )

    def _counter(self, name: str, documentation: str, *labels: str) -> ExactCounter:
        counter = ExactCounter(name, documentation, labels, self.registry)
        self._counters.append(counter)
        return counter

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self.registry)

    def _histogram(
        self, name: str, documentation: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, documentation, labels, buckets=buckets, registry=self.registry)
