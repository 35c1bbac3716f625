from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from fakes.clock import START, FakeClock
from fakes.writer import FakeWriter

from app.certs.builtin import ca_secret_key, open_builtin_ca
from app.certs.x509 import new_root
from app.errors import CaError
from app.objects.meta import RawObject
from app.ports import CertificateRequest

KEY = ca_secret_key("osm-system", "osm-ca-bundle")


def secret(**contents: bytes) -> RawObject:
    data = {name.replace("_", "."): base64.b64encode(c).decode() for name, c in contents.items()}
    metadata = {"namespace": KEY.namespace, "name": KEY.name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def full_secret() -> RawObject:
    root = new_root(now=START)
    return secret(ca_crt=root.certificate_chain, private_key=root.private_key)


def test_missing_root_is_made_and_kept() -> None:
    writer, clock = FakeWriter(), FakeClock()
    ca = open_builtin_ca(writer, clock, secret=KEY, version="2.0")
    stored = writer.objects[KEY]
    assert stored["type"] == "Opaque"
    assert stored["metadata"]["labels"] == {
        "app.kubernetes.io/name": "openservicemesh.io",
        "app.kubernetes.io/version": "2.0",
    }
    assert base64.b64decode(stored["data"]["ca.crt"]) == ca.trust_bundle().roots
    again = open_builtin_ca(writer, clock, secret=KEY)
    assert again.trust_bundle() == ca.trust_bundle()
    assert writer.calls == [("create", str(KEY))]


def test_replica_that_comes_second_uses_the_first_ones_root() -> None:
    writer = FakeWriter()
    writer.rival = full_secret()
    theirs = base64.b64decode(writer.rival["data"]["ca.crt"])
    ca = open_builtin_ca(writer, FakeClock(), secret=KEY)
    assert ca.trust_bundle().roots == theirs
    assert writer.calls == [("create", str(KEY))]


def test_issues_until_asked_for() -> None:
    clock = FakeClock()
    ca = open_builtin_ca(FakeWriter(), clock, secret=KEY)
    wanted = CertificateRequest(common_name="a", dns_names=("a",), lifetime=timedelta(hours=1))
    clock.advance(timedelta(hours=2))
    assert ca.issue(wanted).not_after == START + timedelta(hours=3)


def test_remaining_life_shrinks_to_nothing() -> None:
    clock = FakeClock()
    ca = open_builtin_ca(FakeWriter(), clock, secret=KEY)
    assert ca.remaining_life() > 0.99
    clock.advance(timedelta(hours=87600))
    assert ca.remaining_life() == 0


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(secret(ca_crt=b"x"), "has no private.key", id="no-key"),
        pytest.param(secret(private_key=b"x"), "has no ca.crt", id="no-certificate"),
        pytest.param(secret(ca_crt=b"x", private_key=b"y"), "is not a PEM cert", id="damaged"),
        pytest.param(
            full_secret() | {"data": {"ca.crt": "*", "private.key": "*"}},
            "ca.crt is not base64",
            id="not-base64",
        ),
        pytest.param(full_secret() | {"data": None}, "has no ca.crt", id="empty"),
    ],
)
def test_damaged_secret_is_named(raw: RawObject, message: str) -> None:
    with pytest.raises(CaError, match=f"Secret osm-system/osm-ca-bundle: .*{message}|{message}"):
        open_builtin_ca(FakeWriter(raw), FakeClock(), secret=KEY)


def test_secret_that_vanishes_is_an_error() -> None:
    class Forgetful(FakeWriter):
        def create(self, raw: RawObject) -> None:
            self.calls.append(("create", raw["kind"]))

    with pytest.raises(CaError, match="cannot be read back"):
        open_builtin_ca(Forgetful(), FakeClock(), secret=KEY)
