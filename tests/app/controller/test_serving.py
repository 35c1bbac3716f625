from __future__ import annotations

from datetime import timedelta

from fakes.clock import FakeClock
from fakes.provider import FakeProvider

from app.certs.manager import INTERNAL_LIFETIME, Certificates
from app.controller.serving import ServingCertificates, Webhook
from app.errors import UnreachableError
from app.metrics import Metrics
from app.settings import Settings

NAME = "osm-injector.osm-system.svc"


class Desk:
    """Certificates of both webhooks; ``seen`` is what happens at a renewal, in order."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.seen: list[object] = []
        self.failing = False
        self.certificates = Certificates(
            FakeProvider(self.clock), self.clock, post=lambda _: None, metrics=Metrics()
        )
        self.serving = ServingCertificates(self.certificates, Settings(), announce=self.announce)
        self.serving.subscribe(self.hear)

    def announce(self) -> None:
        self.seen.append(("announced", self.serving.webhook_identity(Webhook.INJECTOR).version))
        if self.failing:
            raise UnreachableError("no API server")

    def hear(self, webhook: Webhook) -> None:
        identity = self.serving.webhook_identity(webhook)
        self.seen.append((str(webhook), identity.version))

    def renew(self) -> None:
        self.clock.advance(INTERNAL_LIFETIME * 2 / 3 + timedelta(minutes=5))
        self.certificates.step()


def test_roots_are_announced_before_a_new_certificate_is_shown() -> None:
    desk = Desk()
    before = desk.serving.webhook_identity(Webhook.INJECTOR)
    desk.renew()
    after = desk.serving.webhook_identity(Webhook.INJECTOR)
    assert desk.seen == [("announced", 1), ("injector", 2), ("announced", 2), ("validator", 2)]
    assert (before.version, after.version) == (1, 2)
    assert before.certificate_chain == f"chain {NAME} 2\n".encode()
    assert after.certificate_chain == f"chain {NAME} 5\n".encode()
    assert after.private_key == f"key {NAME} 5\n".encode()


def test_new_certificate_is_shown_even_if_nobody_could_be_told() -> None:
    desk = Desk()
    desk.failing = True
    desk.renew()
    assert desk.seen == [("announced", 1), ("injector", 2), ("announced", 2), ("validator", 2)]


def test_keys_are_in_no_text() -> None:
    desk = Desk()
    assert repr(desk.serving.webhook_identity(Webhook.INJECTOR)) == "WebhookIdentity(version=1)"


def test_ads_shows_its_newest_certificate() -> None:
    desk = Desk()
    desk.renew()
    identity = desk.serving.server_identity()
    assert identity.certificate_chain == b"chain ads.cluster.local 4\n"
    assert identity.roots == b"roots-1\n"
