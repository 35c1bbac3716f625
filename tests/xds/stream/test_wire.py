"""Bytes on the wire are those that protobuf would have made."""

from __future__ import annotations

import pytest

from xds.protos import (
    Any,
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResource,
    DiscoveryResponse,
    Node,
    Status,
)
from xds.resource import Resource, ResourceKind
from xds.stream import wire
from xds.stream.wire import Encoder, Protocol, ProtocolError, Push, Request, decode

CDS = ResourceKind.CDS
RESOURCES = (
    Resource.of(CDS, "shop/v1|80", b"one"),
    Resource.of(CDS, "shop/v2|80", b"x" * 200),
    Resource.of(CDS, "shop/ü|80", b""),
)


def packed(resource: Resource) -> Any:
    return Any(type_url=CDS.type_url, value=resource.body)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_delta_response_is_what_protobuf_writes(count: int) -> None:
    push = Push(kind=CDS, version="v", nonce="7", resources=RESOURCES[:count], removed=("a", "b"))
    expected = DeltaDiscoveryResponse(
        system_version_info="v",
        resources=[
            DiscoveryResource(name=r.name, version=r.version, resource=packed(r))
            for r in push.resources
        ],
        type_url=CDS.type_url,
        nonce="7",
        removed_resources=["a", "b"],
    )
    encoded = Encoder().encode(Protocol.DELTA, push)
    assert DeltaDiscoveryResponse.FromString(encoded) == expected


@pytest.mark.parametrize("count", [0, 1, 3])
def test_sotw_response_is_what_protobuf_writes(count: int) -> None:
    push = Push(kind=CDS, version="v", nonce="7", resources=RESOURCES[:count])
    expected = DiscoveryResponse(
        version_info="v",
        resources=[packed(r) for r in push.resources],
        type_url=CDS.type_url,
        nonce="7",
    )
    assert DiscoveryResponse.FromString(Encoder().encode(Protocol.SOTW, push)) == expected


def test_a_body_is_encoded_once_for_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: list[Resource] = []
    wrap = wire._wrap

    def counting(protocol: Protocol, resource: Resource) -> bytes:
        wrapped.append(resource)
        return wrap(protocol, resource)

    monkeypatch.setattr(wire, "_wrap", counting)
    encoder = Encoder()
    for nonce in "123":
        encoder.encode(
            Protocol.DELTA, Push(kind=CDS, version="v", nonce=nonce, resources=RESOURCES)
        )
    assert wrapped == list(RESOURCES)


def test_the_encoder_forgets_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_SHARED_BYTES", 1000)
    encoder = Encoder()
    for n in range(50):
        resource = Resource.of(CDS, str(n), b"x" * (300 if n else 2000))
        push = Push(kind=CDS, version="v", nonce="1", resources=(resource,))
        first, again = (encoder.encode(Protocol.SOTW, push) for _ in range(2))
        assert first == again
    assert len(encoder._young) + len(encoder._old) <= 6


def test_a_delta_request_is_read() -> None:
    message = DeltaDiscoveryRequest(
        node=Node(id="me"),
        type_url=CDS.type_url,
        resource_names_subscribe=["a", "b"],
        resource_names_unsubscribe=["c"],
        initial_resource_versions={"a": "1"},
        response_nonce="7",
        error_detail=Status(code=13, message="no"),
    )
    assert decode(Protocol.DELTA, message.SerializeToString()) == Request(
        type_url=CDS.type_url,
        node_id="me",
        nonce="7",
        error="no",
        names=frozenset({"a", "b"}),
        unsubscribe=frozenset({"c"}),
        initial_versions={"a": "1"},
    )


def test_a_sotw_request_is_read() -> None:
    message = DiscoveryRequest(
        node=Node(id="me"), type_url=CDS.type_url, resource_names=["a"], response_nonce="7"
    )
    assert decode(Protocol.SOTW, message.SerializeToString()) == Request(
        type_url=CDS.type_url, node_id="me", nonce="7", error=None, names=frozenset({"a"})
    )


@pytest.mark.parametrize("protocol", list(Protocol), ids=lambda p: p.name)
def test_bytes_that_are_no_request_are_an_error(protocol: Protocol) -> None:
    with pytest.raises(ProtocolError, match="not a discovery request"):
        decode(protocol, b"\xff\xff\xff")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(DeltaDiscoveryRequest(resource_names_subscribe=["a", "b", "c"]), id="names"),
        pytest.param(
            DeltaDiscoveryRequest(initial_resource_versions=dict.fromkeys("abc", "1")), id="held"
        ),
    ],
)
def test_too_many_names_are_an_error(
    message: DeltaDiscoveryRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_NAMES", 2)
    with pytest.raises(ProtocolError, match="names 3 resources"):
        decode(Protocol.DELTA, message.SerializeToString())


def test_a_refusal_is_kept_at_a_bounded_length() -> None:
    message = DiscoveryRequest(error_detail=Status(code=13, message="x" * 100_000))
    assert decode(Protocol.SOTW, message.SerializeToString()).error == "x" * 4096
