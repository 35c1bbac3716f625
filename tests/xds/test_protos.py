"""Bytes are deterministic, and people never see a private key."""

from __future__ import annotations

import pytest
import xds_certificates

from xds import protos
from xds.builders import tls
from xds.protos import Metadata, RouteConfiguration, StringValue
from xds.resource import ResourceKind


def labelled(*keys: str) -> Metadata:
    found = Metadata()
    for key in keys:
        found.filter_metadata[key].update({key: "value"})
    return found


def test_maps_are_serialized_in_order_of_keys() -> None:
    keys = [f"key-{number}" for number in range(50)]
    forward, backward = labelled(*keys), labelled(*reversed(keys))
    assert protos.serialize(forward) == protos.serialize(backward)
    assert protos.pack(forward).value == protos.pack(backward).value


def test_packed_message_carries_its_type() -> None:
    packed = protos.pack(StringValue(value="x"))
    assert packed.type_url == "type.googleapis.com/google.protobuf.StringValue"
    assert StringValue.FromString(packed.value).value == "x"


@pytest.mark.parametrize(
    ("seconds", "whole", "nanos"),
    [
        pytest.param(0, 0, 0, id="zero"),
        pytest.param(5, 5, 0, id="whole"),
        pytest.param(0.025, 0, 25_000_000, id="milliseconds"),
        pytest.param(2.1, 2, 100_000_000, id="inexact-in-binary"),
    ],
)
def test_duration_is_exact(seconds: float, whole: int, nanos: int) -> None:
    found = protos.duration(seconds)
    assert (found.seconds, found.nanos) == (whole, nanos)


def test_resource_holds_its_message() -> None:
    resource = protos.resource_of(ResourceKind.RDS, "routes", RouteConfiguration(name="routes"))
    assert protos.message_of(resource) == RouteConfiguration(name="routes")
    assert protos.to_json(resource) == {"name": "routes"}


def test_private_key_is_hidden() -> None:
    secret = tls.build_service_certificate(xds_certificates.PAIR)
    assert protos.to_json(secret) == {
        "name": "service-cert",
        "tls_certificate": {
            "certificate_chain": {"inline_string": xds_certificates.CERTIFICATE.decode()},
            "private_key": {"inline_string": protos.REDACTED},
        },
    }
    assert xds_certificates.PRIVATE_KEY not in repr(secret).encode()


def test_roots_are_shown_as_text() -> None:
    trust = protos.to_json(tls.build_inbound_trust(xds_certificates.TRUST))
    assert trust["validation_context"] == {
        "trusted_ca": {"inline_string": xds_certificates.ROOT.decode()}
    }
