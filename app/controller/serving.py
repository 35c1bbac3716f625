"""The certificates that the control plane itself shows: to sidecars (ADS) and to the API server.

``Runtime`` builds it on the mesh's :class:`Certificates`; the ADS server and the TLS listeners of
the webhooks read the newest material from here. A webhook's new certificate is shown only after the
API server was told of the roots behind it. Specification: kubernetes-surface 2.5; data-plane 2.8.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from app import logs
from app.certs.manager import Certificates
from app.errors import UnreachableError
from app.settings import Settings
from xds.policy.proxy import KeyPair, TrustBundle
from xds.server.ports import ServerIdentity

_ADS = "ads"
"""Name of the ADS server's certificate among those in use."""


class Webhook(StrEnum):
    """A TLS listener that the API server calls; the value is part of its Service's name."""

    INJECTOR = "injector"
    VALIDATOR = "validator"


class ServingCertificates:
    """The newest certificate of each server; readers may be called from any thread."""

    def __init__(
        self,
        certificates: Certificates,
        settings: Settings,
        *,
        announce: Callable[[], None] | None = None,
    ) -> None:
        """Each server has a certificate, renewed from now on; raise ``CertificateError``.

        ``announce`` tells the API server which roots webhooks show from now on; None where no
        webhooks are served, so that they need no certificates.
        """
        self._certificates = certificates
        self._announce = announce
        self._log = logs.logger("certs")
        self._webhooks: dict[Webhook, KeyPair] = {}
        certificates.hold(_ADS, dns_names=(ads_name(settings), service_name(settings)))
        if announce is not None:
            for webhook in Webhook:
                self._hold(webhook, webhook_names(webhook, settings))

    def server_identity(self) -> ServerIdentity:
        """The material the ADS server offers to the next connection."""
        pair = self._certificates.held(_ADS)
        return ServerIdentity(
            certificate_chain=pair.certificate_chain,
            private_key=pair.private_key,
            roots=self._certificates.trust.roots,
        )

    def webhook_identity(self, webhook: Webhook) -> KeyPair:
        """What the webhook shows from now on; raise ``UnreachableError`` where there is none."""
        found = self._webhooks.get(webhook)
        if found is None:
            raise UnreachableError(f"the {webhook} has no certificate: there is no API server")
        return found

    def _hold(self, webhook: Webhook, dns_names: tuple[str, ...]) -> None:
        def changed(pair: KeyPair, _: TrustBundle) -> None:
            self._renew(webhook, pair)

        name = f"osm-{webhook}"
        self._certificates.hold(name, dns_names=dns_names, changed=changed)
        self._webhooks[webhook] = self._certificates.held(name)

    def _renew(self, webhook: Webhook, pair: KeyPair) -> None:
        try:
            if self._announce is not None:
                self._announce()
        except Exception as error:  # the reconciler announces again; the listener must not lag
            code = getattr(error, "code", UnreachableError.code)
            self._log.exception("roots of webhooks not announced", error_code=code)
        self._webhooks[webhook] = pair


def ads_name(settings: Settings) -> str:
    """The name that sidecars expect in the ADS server's certificate."""
    return f"ads.{settings.trust_domain}"


def service_name(settings: Settings) -> str:
    """The DNS name of the control plane's Service."""
    return f"osm-controller.{settings.osm_namespace}.svc.{settings.dns_suffix}"


def webhook_names(webhook: Webhook, settings: Settings) -> tuple[str, ...]:
    """Names of a webhook: first that of its Service by which the API server knows it.

    Last the host of ``webhook_url``, where the API server asks a control plane outside the cluster.
    """
    name = f"osm-{webhook}.{settings.osm_namespace}"
    service = (f"{name}.svc", f"{name}.svc.{settings.dns_suffix}", name, f"osm-{webhook}")
    return (*service, *settings.webhook_names)
