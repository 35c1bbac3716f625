"""One running control plane: all parts built and started in order, stopped in the opposite one.

The CLI gives it settings and a ``Compute``; API and kubelet read its properties. Objects are read
first, then the root is opened, then sidecars are let in: no Envoy is ever sent an empty mesh.
Specification: HOUSE 4.9, 4.10 and 5; kubernetes-surface 6.5.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from app import logs
from app.certs.builtin import BuiltinCa, ca_secret_key, open_builtin_ca
from app.certs.manager import CertificateRecord, Certificates, IssuePolicy
from app.controller.injector import InjectionScope, Injector
from app.controller.loop import WATCHED_KINDS, MeshLoop, Pace
from app.controller.observer import StreamObserver
from app.controller.publish import CurrentConfig, Publisher
from app.controller.report import SnapshotReport
from app.controller.upkeep import Upkeep
from app.errors import CaError, UnreachableError
from app.events import Event
from app.inject.plan import InjectionOptions
from app.mesh.refresh import LiveMesh, MeshScope
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.ports import Clock, Compute
from app.settings import Settings
from xds.policy.bootstrap import AdsServer as AdsAddress
from xds.policy.identity import Issuer, Issuers, ProxyId
from xds.resource import ResourceSet
from xds.server.hub import Hub
from xds.server.ports import ServerIdentity, StreamInfo
from xds.server.serve import AdsServer
from xds.stream.ledger import KindStatus, Ledger

_DISTRIBUTION = "openservicemesh"
_LAG = timedelta(seconds=30)
_ADS = "ads"
"""Name of the ADS server's certificate among those in use."""
_OLD_ROOT = 0.1
"""A root with less of its life left should be replaced."""


class SystemClock:
    """The time of this machine; implements ``Clock``."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarPlatform:
    """What sidecars find where they run."""

    ads_host: str | None = None
    """Address of the control plane as Pods see it; None: the DNS name of its Service."""
    native: bool = True
    """True: restartable init containers exist (Kubernetes 1.29, one machine)."""


class Runtime:
    """The parts of one control plane. Readers may be called from any thread at any time."""

    def __init__(
        self,
        settings: Settings,
        compute: Compute,
        *,
        platform: SidecarPlatform | None = None,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings
        self.compute = compute
        self.metrics = metrics or Metrics()
        self._platform = platform or SidecarPlatform()
        self._clock = clock or SystemClock()
        self._log = logs.logger("runtime")
        self._report = SnapshotReport(self.metrics)
        self._current = CurrentConfig()
        observer = StreamObserver(self._post, self.metrics, most=self._current.max_connections)
        self.hub = Hub(self._current, observer, now=self._clock.now)
        self.publisher = Publisher(self._current, self.hub, metrics=self.metrics)
        self._loop = self._new_loop()
        self._following = threading.Lock()
        self._newest: MeshSnapshot | None = None
        """The newest snapshot the loop made, perhaps not published yet; under the lock."""
        self._certificates: Certificates | None = None
        self._server: AdsServer | None = None
        self._upkeep: Upkeep | None = None
        self._injector: Injector | None = None
        self._ads_port: int | None = None
        self._stage = "the control plane has not been started"
        self._watch_metrics()

    # Reading

    @property
    def snapshot(self) -> MeshSnapshot | None:
        """The newest snapshot; None until all objects are read."""
        return self._loop.snapshot

    @property
    def ledger(self) -> Ledger:
        """What each proxy was sent, took and refused."""
        return self.hub.ledger

    @property
    def injector(self) -> Injector:
        """Who gives Pods their sidecars; raise ``UnreachableError`` while starting."""
        if self._injector is None:
            raise UnreachableError(f"no sidecar can be injected now: {self._stage}")
        return self._injector

    @property
    def ads_port(self) -> int:
        """The port sidecars connect to; raise ``UnreachableError`` while starting."""
        if self._ads_port is None:
            raise UnreachableError(f"sidecars cannot connect now: {self._stage}")
        return self._ads_port

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out of configurations, and which were not built; sorted sentences."""
        return self.publisher.problems

    def connected(self) -> tuple[StreamInfo, ...]:
        """The newest stream of each connected proxy, sorted by proxy."""
        return self.hub.connected()

    def current(self, proxy: ProxyId) -> ResourceSet | None:
        """What the proxy is configured with; None while that is not complete."""
        return self._current.current(proxy)

    def wait_until_settled(self, timeout_seconds: float) -> bool:
        """True once all that was posted before is published and every proxy has taken it."""
        deadline = time.monotonic() + timeout_seconds
        if not self._loop.catch_up(timeout_seconds):
            return False
        return self.hub.wait_until_settled(max(0.0, deadline - time.monotonic()))

    def certificates(self) -> tuple[CertificateRecord, ...]:
        """The certificates in use, sorted by name; no keys."""
        return () if self._certificates is None else self._certificates.records()

    def not_ready(self) -> tuple[str, ...]:
        """Why proxies are not served yet; empty when they are."""
        return (self._stage,) if self._stage else ()

    # Life

    def start(self, *, timeout_seconds: float = 60.0) -> None:
        """Objects are read, the root is open, and sidecars are let in.

        Raises ``UnreachableError`` when objects cannot be read in time, ``CaError``, and
        ``ListenError`` when the port is taken. After a failure call ``stop``.
        """
        self._stage = "objects are being read"
        self._loop.start()
        self.compute.source.start(self._post, WATCHED_KINDS)
        if not self._loop.synced.wait(timeout_seconds):
            missing = ", ".join(self._loop.waiting_for())
            raise UnreachableError(f"objects not read after {timeout_seconds:g} s: {missing}")
        self._stage = "the mesh's root is being opened"
        certificates = self._open_certificates()
        self._stage = "the ADS server is being started"
        self._server = AdsServer(
            self.hub,
            _AdsIdentity(certificates),
            host=self.settings.ads_host,
            port=self.settings.ads_port,
            pool_size=self.settings.stream_pool_size,
        )
        self._ads_port = self._server.start()
        self._injector = self._new_injector(certificates, self._ads_port)
        self._upkeep = self._start_upkeep(certificates)
        self._stage = ""
        self._log.info("control plane started", ads_port=self._ads_port)

    def stop(self) -> None:
        """Nothing of it runs any more; proxies keep what they have. May be called twice."""
        self._stage = "the control plane is stopping"
        if self._server is not None:
            self._server.stop()
        self.compute.source.stop()
        self._loop.stop()
        for part in (self._certificates, self._upkeep):
            if part is not None:
                part.stop()
        self._stage = "the control plane has stopped"

    def _post(self, event: Event) -> None:
        self._loop.post(event)

    def _new_loop(self) -> MeshLoop:
        settings = self.settings
        issuer = Issuer(trust_domain=settings.trust_domain)
        return MeshLoop(
            LiveMesh(_scope(settings), Issuers(signing=issuer, validating=issuer)),
            self.publisher,
            metrics=self.metrics,
            pace=Pace(
                quiet_seconds=settings.quiet_time.total_seconds(),
                longest_seconds=settings.longest_wait.total_seconds(),
            ),
            on_snapshot=self._follow,
        )

    def _open_certificates(self) -> Certificates:
        """The root is open, the server has a certificate, and workloads get theirs."""
        snapshot = self._loop.snapshot
        assert snapshot is not None  # noqa: S101 start() waited for it
        settings = self.settings
        ca = open_builtin_ca(
            self.compute.writer,
            self._clock,
            secret=ca_secret_key(settings.osm_namespace, settings.ca_bundle_secret_name),
            rsa_bits=snapshot.config.certificate.cert_key_bit_size,
            version=version(_DISTRIBUTION),
        )
        self._watch_root(ca)
        certificates = Certificates(
            ca,
            self._clock,
            post=self._post,
            metrics=self.metrics,
            policy=self._issue_policy(snapshot),
        )
        certificates.hold(_ADS, dns_names=(_ads_name(settings), _service_name(settings)))
        with self._following:
            self._certificates = certificates
            self._instruct(certificates, self._newest or snapshot)
        certificates.start()
        return certificates

    def _follow(self, snapshot: MeshSnapshot) -> None:
        """The loop has a new snapshot: certificates follow it."""
        self._report.tell(snapshot)
        with self._following:
            self._newest = snapshot
            if self._certificates is not None:
                self._instruct(self._certificates, snapshot)

    def _instruct(self, certificates: Certificates, snapshot: MeshSnapshot) -> None:
        certificates.follow(self._issue_policy(snapshot))
        certificates.want(frozenset(pod.identity for pod in snapshot.workloads.pods.values()))

    def _issue_policy(self, snapshot: MeshSnapshot) -> IssuePolicy:
        config = snapshot.config.certificate
        return IssuePolicy(
            issuer=snapshot.issuers.signing,
            service_lifetime=config.service_cert_validity_duration,
            rsa_bits=config.cert_key_bit_size,
        )

    def _new_injector(self, certificates: Certificates, ads_port: int) -> Injector:
        settings = self.settings
        name = _service_name(settings)
        address = AdsAddress(
            host=self._platform.ads_host or name,
            port=ads_port,
            server_name=name,
            certificate_names=(_ads_name(settings),),
        )
        return Injector(
            certificates,
            self.compute.writer,
            snapshot=lambda: self.snapshot,
            scope=InjectionScope(
                mesh_name=settings.mesh_name,
                osm_namespace=settings.osm_namespace,
                config_name=settings.osm_config_name,
            ),
            options=InjectionOptions(
                mesh_name=settings.mesh_name,
                product_version=version(_DISTRIBUTION),
                ads=address,
                envoy_image=settings.envoy_image,
                init_container_image=settings.init_container_image,
                pull_policy=settings.osm_container_pull_policy,
                native=self._platform.native,
            ),
        )

    def _start_upkeep(self, certificates: Certificates) -> Upkeep:
        upkeep = Upkeep(
            certificates, self.compute.writer, self._clock, snapshot=lambda: self.snapshot
        )
        upkeep.start()
        return upkeep

    def _watch_root(self, ca: BuiltinCa) -> None:
        self.metrics.root_remaining.set_function(ca.remaining_life)
        if ca.remaining_life() < _OLD_ROOT:
            self._log.warning("the mesh's root expires soon; replace it", error_code=CaError.code)

    def _watch_metrics(self) -> None:
        self.metrics.version.labels(version(_DISTRIBUTION), "", "").set(1)
        self.metrics.rejecting_proxies.set_function(self._count_proxies(_is_rejecting))
        self.metrics.lagging_proxies.set_function(self._count_proxies(self._is_lagging))

    def _count_proxies(self, fits: Callable[[KindStatus], bool]) -> Callable[[], float]:
        def count() -> float:
            statuses = self.hub.ledger.statuses()
            live = [status for status in statuses if status.gone_at is None]
            return float(sum(any(map(fits, status.kinds.values())) for status in live))

        return count

    def _is_lagging(self, status: KindStatus) -> bool:
        is_open = status.sent_version != status.acked_version and not status.is_rejected
        sent_at = status.sent_at
        return is_open and sent_at is not None and self._clock.now() - sent_at > _LAG


class _AdsIdentity:
    """The ADS server's certificate, always the newest; implements ``ServerIdentitySource``."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def server_identity(self) -> ServerIdentity:
        """The material to offer to the next connection."""
        pair = self._certificates.held(_ADS)
        return ServerIdentity(
            certificate_chain=pair.certificate_chain,
            private_key=pair.private_key,
            roots=self._certificates.trust.roots,
        )


def _is_rejecting(status: KindStatus) -> bool:
    return status.is_rejected


def _scope(settings: Settings) -> MeshScope:
    return MeshScope(
        mesh_name=settings.mesh_name,
        osm_namespace=settings.osm_namespace,
        config_name=settings.osm_config_name,
        dns_suffix=settings.dns_suffix,
    )


def _ads_name(settings: Settings) -> str:
    return f"{_ADS}.{settings.trust_domain}"


def _service_name(settings: Settings) -> str:
    return f"osm-controller.{settings.osm_namespace}.svc.{settings.dns_suffix}"
