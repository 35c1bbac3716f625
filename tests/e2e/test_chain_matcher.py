"""The outbound listener's matcher tree on a real Envoy, behind a real iptables REDIRECT.

data-plane 5.4 rests on it: port, then address, then chain; and new addresses drain nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import xds_cases
from envoy_harness.pod import Pod, everything, greet, pod

from xds.policy.traffic import DeniedPort, Outbound, OutboundHost, OutboundHttpPort
from xds.resource import Resource

pytestmark = [pytest.mark.envoy, pytest.mark.root]

MESH, LATER, DENIED, OUTSIDE = "10.77.0.5", "10.77.0.6", "10.77.0.9", "10.77.0.50"
STORE = xds_cases.service("bookstore/bookstore", 8080)
# Without endpoints the mesh answers 503 itself, which is enough to know the HTTP chain by.
FROM_HTTP_CHAIN = b"503 Service Unavailable"
REQUEST = b"GET / HTTP/1.1\r\nhost: bookstore.bookstore\r\n\r\n"


def resources(*addresses: str, passthrough: bool = True) -> list[Resource]:
    host = OutboundHost(rule=xds_cases.rule(STORE), domains=("bookstore.bookstore",))
    outbound = Outbound(
        upstreams=(xds_cases.upstream(STORE),),
        http=(OutboundHttpPort(port=8080, addresses=addresses, hosts=(host,)),),
        tcp=(),
        passthrough=passthrough,
        denied=(DeniedPort(port=8080, addresses=(DENIED,)),) if passthrough else (),
    )
    who = replace(xds_cases.policy(xds_cases.BUYER, outbound=outbound), request_metrics=False)
    return list(xds_cases.resources(xds_cases.case(who)))


@pytest.fixture
def client() -> Iterator[Pod]:
    with pod(captured_by=15001) as running:
        running.own_address(OUTSIDE)
        for port in (8080, 9000):
            running.serve(OUTSIDE, port, greet(b"from outside"))
        yield running


def answer(client: Pod, address: str, port: int) -> bytes:
    with client.dial(address, port) as connection:
        connection.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        return everything(connection)


def test_port_then_address_choose_the_chain(client: Pod) -> None:
    client.feed(resources(MESH))
    assert FROM_HTTP_CHAIN in answer(client, MESH, 8080)
    assert answer(client, DENIED, 8080) == b""
    assert answer(client, OUTSIDE, 8080) == b"from outside"
    assert answer(client, OUTSIDE, 9000) == b"from outside"


def test_without_passthrough_the_rest_is_reset(client: Pod) -> None:
    client.feed(resources(MESH, passthrough=False))
    assert FROM_HTTP_CHAIN in answer(client, MESH, 8080)
    assert answer(client, OUTSIDE, 8080) == b""
    assert answer(client, OUTSIDE, 9000) == b""


def test_new_addresses_drain_nothing(client: Pod) -> None:
    client.feed(resources(MESH))
    with client.dial(MESH, 8080) as kept:
        kept.sendall(REQUEST)
        assert FROM_HTTP_CHAIN in kept.recv(65536)
        client.feed(resources(LATER))
        assert FROM_HTTP_CHAIN in answer(client, LATER, 8080)
        stats = client.envoy.stats("listener_manager")
        assert stats["listener_manager.listener_in_place_updated"] == 1
        assert stats["listener_manager.total_filter_chains_draining"] == 0
        assert stats["listener_manager.total_listeners_draining"] == 0
        kept.sendall(REQUEST)
        second = kept.recv(65536)
        assert FROM_HTTP_CHAIN in second
        assert b"connection: close" not in second
