from __future__ import annotations

from datetime import timedelta

from fakes.clock import FakeClock
from fakes.provider import FakeProvider

from app.certs.manager import INTERNAL_LIFETIME, Certificates
from app.controller.serving import ServingCertificates, Webhook
from app.errors import UnreachableError
from app.metrics import Metrics
from app.settings import Settings

INJECTOR, VALIDATOR = "osm-injector.osm-system.svc", "osm-validator.osm-system.svc"


def chain(name: str, number: int) -> bytes:
    return f"chain {name} {number}\n".encode()


class Desk:
    """Certificates of both webhooks; ``shown`` is what each shows when roots are announced."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.shown: list[tuple[bytes, ...]] = []
        self.failing = False
        self.certificates = Certificates(
            FakeProvider(self.clock), self.clock, post=lambda _: None, metrics=Metrics()
        )
        self.serving = ServingCertificates(self.certificates, Settings(), announce=self.announce)

    def announce(self) -> None:
        self.shown.append(self.chains())
        if self.failing:
            raise UnreachableError("no API server")

    def chains(self) -> tuple[bytes, ...]:
        """The certificates that injector and validator show now."""
        return tuple(self.serving.webhook_identity(one).certificate_chain for one in Webhook)

    def renew(self) -> None:
        self.clock.advance(INTERNAL_LIFETIME * 2 / 3 + timedelta(minutes=5))
        self.certificates.step()


def test_roots_are_announced_before_a_new_certificate_is_shown() -> None:
    desk = Desk()
    old = (chain(INJECTOR, 2), chain(VALIDATOR, 3))
    new = (chain(INJECTOR, 5), chain(VALIDATOR, 6))
    assert desk.chains() == old
    desk.renew()
    assert desk.shown == [old, (new[0], old[1])]
    assert desk.chains() == new
    key = desk.serving.webhook_identity(Webhook.INJECTOR).private_key
    assert key == f"key {INJECTOR} 5\n".encode()


def test_new_certificate_is_shown_even_if_nobody_could_be_told() -> None:
    desk = Desk()
    desk.failing = True
    desk.renew()
    assert len(desk.shown) == 2
    assert desk.chains() == (chain(INJECTOR, 5), chain(VALIDATOR, 6))


def test_keys_are_in_no_text() -> None:
    desk = Desk()
    identity = desk.serving.webhook_identity(Webhook.INJECTOR)
    assert repr(identity) == f"KeyPair(certificate_chain={identity.certificate_chain!r})"


def test_ads_shows_its_newest_certificate() -> None:
    desk = Desk()
    desk.renew()
    identity = desk.serving.server_identity()
    assert identity.certificate_chain == b"chain ads.cluster.local 4\n"
    assert identity.roots == b"roots-1\n"
