"""The metrics port shows metrics, filtered if asked, and nothing else of the admin interface."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import xds_cases
from envoy_harness.pod import Pod, everything, pod
from envoy_harness.tls import read_request

pytestmark = [pytest.mark.envoy, pytest.mark.root]


def admin(connection: socket.socket) -> None:
    """Answers with the path it was asked for."""
    head = read_request(connection.makefile("rb"))
    path = head.split()[1]
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(path), path))


@pytest.fixture
def scraped() -> Iterator[Pod]:
    with pod(captured_by=15003) as running:
        running.serve("127.0.0.1", 15000, admin)
        running.feed(xds_cases.resources(xds_cases.prometheus()))
        yield running


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        pytest.param("/stats/prometheus", b"200", b"/stats/prometheus", id="metrics"),
        pytest.param(
            "/stats/prometheus?usedonly&filter=osm",
            b"200",
            b"/stats/prometheus?usedonly&filter=osm",
            id="query-is-kept",
        ),
        pytest.param("/stats/prometheus/../config_dump", b"404", b"", id="no-way-around"),
        pytest.param("/stats/prometheus2", b"404", b"", id="exact-path"),
        pytest.param("/quitquitquit", b"404", b"", id="nothing-else"),
    ],
)
def test_only_metrics_are_served(scraped: Pod, path: str, status: bytes, body: bytes) -> None:
    with scraped.dial("127.0.0.1", 15010) as connection:
        request = f"GET {path} HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = everything(connection)
    assert answer.split()[1] == status
    assert answer.partition(b"\r\n\r\n")[2] == body
