from __future__ import annotations

import pytest

from app.metrics import Metrics, Sample, parse_samples


def test_counter_has_exactly_its_name() -> None:
    metrics = Metrics()
    metrics.reconnects.inc()
    page = metrics.render().decode()
    assert (
        "# HELP osm_proxy_reconnect_count Connections of proxies that were connected before.\n"
        "# TYPE osm_proxy_reconnect_count counter\n"
        "osm_proxy_reconnect_count 1.0\n"
    ) in page


def test_counter_that_ends_in_total_keeps_its_name() -> None:
    metrics = Metrics()
    metrics.http_responses.inc("200", "GET", "/version")
    page = metrics.render().decode()
    assert (
        "# TYPE osm_http_response_total counter\n"
        'osm_http_response_total{code="200",method="GET",path="/version"} 1.0\n'
    ) in page


def test_counter_tells_what_it_counted() -> None:
    metrics = Metrics()
    metrics.errors.inc("E1")
    metrics.errors.inc("E1", by=2)
    assert (metrics.errors.get("E1"), metrics.errors.get("E2")) == (3, 0)


def test_series_of_a_gone_proxy_are_dropped_and_no_others() -> None:
    metrics = Metrics()
    for uuid in ("one", "two"):
        metrics.xds_requests.inc(uuid, "a.b", "CDS")
        metrics.responses_sent.inc(uuid, "a.b", "CDS")
    metrics.drop_proxy("one")
    page = metrics.render().decode()
    assert 'proxy_uuid="one"' not in page
    assert page.count('proxy_uuid="two"') == 2


def test_page_has_no_creation_times() -> None:
    assert b"_created" not in Metrics().render()


def test_samples_of_a_page_keep_their_names() -> None:
    page = (
        "# TYPE requests counter\n"
        'requests{code="200",path="a \\"b\\""} 3\n'
        "\n"
        "# TYPE time histogram\n"
        'time_bucket{le="1"} 2\n'
        "time_sum 1.5\n"
    )
    assert parse_samples(page) == (
        Sample(name="requests", labels={"code": "200", "path": 'a "b"'}, value=3),
        Sample(name="time_bucket", labels={"le": "1"}, value=2),
        Sample(name="time_sum", labels={}, value=1.5),
    )


def test_our_own_page_can_be_read() -> None:
    metrics = Metrics()
    metrics.reconnects.inc()
    (found,) = [
        sample
        for sample in parse_samples(metrics.render().decode())
        if sample.name == "osm_proxy_reconnect_count"
    ]
    assert found == Sample(name="osm_proxy_reconnect_count", labels={}, value=1)


def test_what_is_no_metrics_page_is_refused() -> None:
    with pytest.raises(ValueError, match="html"):
        parse_samples("<html>not metrics</html>")
