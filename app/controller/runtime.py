"""One running control plane: all parts built and started in order, stopped in the opposite one.

The CLI gives it settings and a ``Compute``; API and kubelet read its properties. Objects are read
first, then the root is opened, then sidecars are let in: no Envoy is ever sent an empty mesh. In a
cluster the mesh's own kinds come before all that, and the webhook configurations after it, once the
listeners answer. Specification: kubernetes-surface 6.5.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from app import logs
from app.certs.manager import CertificateRecord, Certificates
from app.controller.certification import Certification
from app.controller.decisions import DecisionLog
from app.controller.injector import InjectionScope, Injector
from app.controller.jobs import PeriodicJobs
from app.controller.loop import WATCHED_KINDS, MeshLoop, Pace
from app.controller.observer import StreamObserver, watch_proxies
from app.controller.publish import CurrentConfig, Publisher
from app.controller.readiness import Readiness, Registration, Step
from app.controller.report import SnapshotReport
from app.controller.secrets import BootstrapSecrets
from app.controller.serving import (
    ServingCertificates,
    Webhook,
    ads_name,
    service_name,
)
from app.controller.warnings import PodWarnings, Reason, own_pod
from app.errors import UnreachableError
from app.events import Event, ObjectChanged, ObjectDeleted, ObjectEvent
from app.inject.plan import InjectionOptions
from app.mesh.refresh import LiveMesh, MeshScope
from app.mesh.snapshot import MeshSnapshot
from app.mesh.store import ObjectStore
from app.metrics import Metrics
from app.objects.meta import ObjectKind
from app.ports import Clock, Compute
from app.settings import Settings
from xds.policy.bootstrap import AdsServer as AdsAddress
from xds.policy.identity import Issuer, Issuers, ProxyId
from xds.policy.proxy import KeyPair
from xds.resource import ResourceSet
from xds.server.hub import Hub
from xds.server.ports import StreamInfo
from xds.server.serve import AdsServer
from xds.stream.ledger import Ledger

_DISTRIBUTION = "openservicemesh"


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
    pod_name: str = ""
    """Name of the control plane's own Pod; empty where it is none."""


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
        registration: Registration | None = None,
    ) -> None:
        """``registration`` is None on one machine: there is no API server to register with."""
        self.settings = settings
        self.product_version = settings.osm_version or version(_DISTRIBUTION)
        self.compute = compute
        self.metrics = metrics or Metrics()
        self._platform = platform or SidecarPlatform()
        self._registration = registration
        self._clock = clock or SystemClock()
        self._log = logs.logger("runtime")
        self._report = SnapshotReport(self.metrics)
        self._current = CurrentConfig()
        self._warnings = self._own_warnings()
        self.hub = self._new_hub()
        self.publisher = Publisher(self._current, self.hub, metrics=self.metrics)
        self._certification = Certification(
            settings, compute.writer, self._clock, post=self._post, metrics=self.metrics
        )
        self._mesh, self._loop = self._new_loop()
        self._server: AdsServer | None = None
        self._secrets = BootstrapSecrets(self.metrics)
        pod_name = self._platform.pod_name
        self._jobs = PeriodicJobs(
            settings, compute, self._clock, secrets=self._secrets, pod_name=pod_name
        )
        self._injector: Injector | None = None
        self._ads_port: int | None = None
        self._ready = Readiness()
        build = (self.settings.build_date, self.settings.git_commit)
        self.metrics.version.labels(self.product_version, *build).set(1)
        watch_proxies(self.hub.ledger, self.metrics, self._clock)

    # Reading

    @property
    def snapshot(self) -> MeshSnapshot | None:
        """The newest snapshot; None until all objects are read."""
        return self._loop.snapshot

    @property
    def objects(self) -> ObjectStore:
        """Every object the mesh has heard of, in the mesh or not, and where it was read."""
        return self._mesh.objects

    @property
    def ledger(self) -> Ledger:
        """What each proxy was sent, took and refused."""
        return self.hub.ledger

    @property
    def injector(self) -> Injector:
        """Who gives Pods their sidecars; raise ``UnreachableError`` while starting."""
        if self._injector is None:
            raise UnreachableError(f"no sidecar can be injected now: {self.not_ready()[0]}")
        return self._injector

    @property
    def ads_port(self) -> int:
        """The port sidecars connect to; raise ``UnreachableError`` while starting."""
        if self._ads_port is None:
            raise UnreachableError(f"sidecars cannot connect now: {self.not_ready()[0]}")
        return self._ads_port

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out of configurations, not built, or not registered; sorted sentences."""
        registration = self._registration
        unwritten = () if registration is None else registration.problems()
        return tuple(sorted((*self.publisher.problems, *unwritten)))

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

    def hear_news(self, seconds: float) -> None:
        """The snapshot holds what was written before, unless the API server tells it late."""
        threading.Event().wait(seconds)
        self._loop.catch_up(seconds)

    def certificates(self) -> tuple[CertificateRecord, ...]:
        """The certificates in use, sorted by name; no keys."""
        return self._certification.records()

    def not_ready(self) -> tuple[str, ...]:
        """Why proxies and webhooks are not served yet; empty when they are."""
        return self._ready.missing()

    def webhook_identity(self, webhook: Webhook) -> KeyPair:
        """What the webhook's TLS listener shows from now on; ``UnreachableError`` without one."""
        return self._started_serving().webhook_identity(webhook)

    def trusted_roots(self) -> bytes:
        """The roots behind the webhooks' certificates, PEM; ``UnreachableError`` while starting."""
        certificates = self._certification.certificates
        if certificates is None:
            raise UnreachableError(f"the mesh has no root yet: {self.not_ready()[0]}")
        return certificates.trust.roots

    # Life

    def start(self, *, timeout_seconds: float = 60.0) -> None:
        """Objects are read, the root is open, and sidecars are let in.

        With a registration, ``register`` must follow once the webhooks' listeners answer. Raises
        ``UnreachableError`` when objects cannot be read in time, ``CaError``, and ``ListenError``
        when the port is taken. After a failure call ``stop``.
        """
        steps = (Step.OBJECTS, Step.CERTIFICATES, Step.ADS)
        if self._registration is not None:
            self._ready.begin((Step.CLUSTER, *steps, Step.WEBHOOKS))
            # A source asks for kinds that the API server may not have before this.
            self._registration.prepare()
            self._ready.done(Step.CLUSTER)
        else:
            self._ready.begin(steps)
        self._read_objects(timeout_seconds)
        self._ready.done(Step.OBJECTS)
        certificates = self._open_certificates()
        self._ready.done(Step.CERTIFICATES)
        self._ads_port = self._serve_ads(self._started_serving())
        self._injector = self._new_injector(certificates, self._ads_port)
        self._jobs.start(certificates, lambda: self.snapshot)
        self._ready.done(Step.ADS)
        self._log.info("control plane started", ads_port=self._ads_port)

    def register(self) -> None:
        """The API server asks the webhooks, whose listeners answer already; all is ready.

        Raises what the registration raises; may be called again then.
        """
        registration = self._registration
        if registration is None:
            return
        registration.register()
        registration.start()
        self._ready.done(Step.WEBHOOKS)
        # Last: from here on, what nobody validates is refused.
        registration.set_ready()

    def leave(self) -> None:
        """It is not ready any more, and serves on until ``stop``."""
        self._ready.end("the control plane is stopping")

    def stop(self) -> None:
        """Nothing of it runs any more; proxies keep what they have. May be called twice."""
        self.leave()
        if self._registration is not None:
            self._registration.stop()
        if self._server is not None:
            self._server.stop()
        self.compute.source.stop()
        self._loop.stop()
        self._certification.stop()
        self._jobs.stop()
        self._ready.end("the control plane has stopped")

    def _post(self, event: Event) -> None:
        self._loop.post(event)

    def _receive(self, event: ObjectEvent) -> None:
        if self.settings.log_kubernetes_events and isinstance(event, ObjectChanged | ObjectDeleted):
            change = "changed" if isinstance(event, ObjectChanged) else "deleted"
            self._log.debug(f"object {change}", object=str(event.key))
        if not self._secrets.take(event):
            self._loop.post(event)

    def _read_objects(self, timeout_seconds: float) -> None:
        self._loop.start()
        self.compute.source.start(self._receive, WATCHED_KINDS | {ObjectKind.SECRET})
        if not self._loop.synced.wait(timeout_seconds):
            missing = ", ".join(self._loop.waiting_for())
            raise UnreachableError(f"objects not read after {timeout_seconds:g} s: {missing}")

    def _serve_ads(self, serving: ServingCertificates) -> int:
        settings = self.settings
        self._server = AdsServer(
            self.hub,
            serving,
            host=settings.ads_host,
            port=settings.ads_port,
            pool_size=settings.stream_pool_size,
        )
        return self._server.start()

    def _started_serving(self) -> ServingCertificates:
        serving = self._certification.serving
        if serving is None:
            raise UnreachableError(f"no certificate is issued yet: {self.not_ready()[0]}")
        return serving

    def _new_hub(self) -> Hub:
        observer = StreamObserver(
            self._post,
            self.metrics,
            most=self._current.max_connections,
            on_full=self._tell_full,
        )
        return Hub(self._current, observer, now=self._clock.now)

    def _new_loop(self) -> tuple[LiveMesh, MeshLoop]:
        settings = self.settings
        issuer = Issuer(trust_domain=settings.trust_domain)
        mesh = LiveMesh(_scope(settings), Issuers(signing=issuer, validating=issuer))
        return mesh, MeshLoop(
            mesh,
            self.publisher,
            metrics=self.metrics,
            pace=Pace(
                quiet_seconds=settings.quiet_time.total_seconds(),
                longest_seconds=settings.longest_wait.total_seconds(),
            ),
            on_snapshot=self._follow,
            resync_seconds=self._resync_seconds,
        )

    def _resync_seconds(self) -> float:
        snapshot = self.snapshot
        if snapshot is None:
            return 0.0
        return snapshot.config.sidecar.config_resync_interval.total_seconds()

    def _open_certificates(self) -> Certificates:
        snapshot, registration = self._loop.snapshot, self._registration
        assert snapshot is not None  # noqa: S101 start() waited for it
        certificates = self._certification.open(
            snapshot,
            product_version=self.product_version,
            announce=None if registration is None else registration.refresh,
        )
        certificates.on_failure(self._tell_failed)
        return certificates

    def _own_warnings(self) -> PodWarnings | None:
        cluster, name = self.compute.cluster, self._platform.pod_name
        if cluster is None or not name:
            return None
        pod = own_pod(self.settings.osm_namespace, name)
        return PodWarnings(cluster, self._clock, pod=pod)

    def _tell_full(self, most: int) -> None:
        text = f"{most} proxies are connected, which is sidecar.maxDataPlaneConnections; no more"
        self._warn(Reason.TOO_MANY_PROXIES, f"{text} are configured by this replica")

    def _tell_failed(self, name: str, error: Exception) -> None:
        self._warn(Reason.ROTATION_FAILED, f"certificate of {name} not issued: {error}")

    def _warn(self, reason: Reason, message: str) -> None:
        if self._warnings is not None:
            self._warnings.tell(reason, message)

    def _follow(self, snapshot: MeshSnapshot) -> None:
        """The loop has a new snapshot: what runs beside it follows."""
        self._report.tell(snapshot)
        self._certification.follow(snapshot)

    def _new_injector(self, certificates: Certificates, ads_port: int) -> Injector:
        settings = self.settings
        name = service_name(settings)
        address = AdsAddress(
            host=self._platform.ads_host or name,
            port=ads_port,
            server_name=name,
            certificate_names=(ads_name(settings),),
        )
        options = InjectionOptions(
            mesh_name=settings.mesh_name,
            product_version=self.product_version,
            ads=address,
            envoy_image=settings.envoy_image,
            init_container_image=settings.init_container_image,
            pull_policy=settings.osm_container_pull_policy,
            native=self._platform.native,
        )
        return Injector(
            certificates,
            self.compute.writer,
            snapshot=lambda: self.snapshot,
            scope=InjectionScope(
                osm_namespace=settings.osm_namespace,
                config_name=settings.osm_config_name,
                options=options,
            ),
            decisions=DecisionLog(self._clock, self.metrics),
        )


def _scope(settings: Settings) -> MeshScope:
    return MeshScope(
        mesh_name=settings.mesh_name,
        osm_namespace=settings.osm_namespace,
        config_name=settings.osm_config_name,
        dns_suffix=settings.dns_suffix,
    )
