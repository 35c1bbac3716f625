"""The parts of one controller process, built from settings and started in their order.

``osm controller run`` calls ``start``, ``leave`` and ``stop``. Health answers from the first
moment; the webhooks listen before the API server hears of them; at the end they answer on for a
moment, until nobody sends more. Specification: kubernetes-surface 6.1, 6.5 and 9.1; HOUSE 4.10.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

from app import logs
from app.compute.kube_access import KubeAuthenticator
from app.compute.kube_client import KubeClient
from app.compute.kube_objects import READ_SECONDS, KubeWriter
from app.compute.kube_watch import KubeSource
from app.controller.crds import load_crds
from app.controller.registration import Registration
from app.controller.runtime import Runtime, SidecarPlatform
from app.controller.serving import Webhook
from app.listeners import (
    CLIENT_KEEP_ALIVE_SECONDS,
    Application,
    HttpServer,
    Listener,
)
from app.main import body_budget, create_api, create_debug, create_injection, create_validation
from app.metrics import Metrics
from app.ports import Compute, ServerVersion
from app.settings import Settings
from xds.policy.proxy import KeyPair

_NATIVE_SINCE = (1, 29)
"""Sidecars that are restartable init containers, on by default."""
_WEBHOOK_CONNECTIONS = 512
_POD_NAME = "CONTROLLER_POD_NAME"


class ControlPlane:
    """One controller process; its methods are called by one thread, each once."""

    def __init__(self, settings: Settings, cluster: KubeClient, metrics: Metrics) -> None:
        """Asks the API server for its version; raise ``UnreachableError`` when it is not there."""
        self._settings = settings
        self._log = logs.logger("controller")
        version = cluster.version()
        self._log.info("API server found", version=version.text, mesh=settings.mesh_name)
        registration = Registration(
            cluster,
            settings,
            crds=load_crds(settings.manifests_dir),
            trust=self._trusted_roots,
            metrics=metrics,
        )
        self.runtime = Runtime(
            settings,
            _compute(settings, cluster, metrics),
            platform=SidecarPlatform(
                native=is_native(version), pod_name=os.environ.get(_POD_NAME, "")
            ),
            metrics=metrics,
            registration=registration,
        )
        self.http = HttpServer()

    def start(self) -> None:
        """Everything serves, and the API server asks us; raise ``MeshError`` of many kinds."""
        self.http.start()
        self.http.open(self._api())
        self.runtime.start()
        budget = body_budget()
        self.http.open(
            self._webhook(Webhook.INJECTOR, create_injection(self.runtime, budget), port="injector")
        )
        self.http.open(
            self._webhook(
                Webhook.VALIDATOR, create_validation(self.runtime, budget), port="validator"
            )
        )
        self.http.open(self._debug())
        self.runtime.register()
        # What was made until now lives on: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        self._log.info("ready", api=self.http.url("api"))

    def leave(self, hurry: threading.Event) -> None:
        """Not ready any more; answers on until nobody asks, or until ``hurry`` is set."""
        self.runtime.leave()
        self.http.leave()
        seconds = self._settings.shutdown_delay.total_seconds()
        self._log.info("ending", answers_on_seconds=seconds)
        hurry.wait(seconds)
        self.http.close(Webhook.INJECTOR, Webhook.VALIDATOR)

    def stop(self) -> None:
        """Nothing of it runs any more, however far it had come."""
        self.runtime.stop()
        self.http.stop()
        self._log.info("ended")

    def _trusted_roots(self) -> bytes:
        return self.runtime.trusted_roots()

    def _api(self) -> Listener:
        settings = self._settings
        return Listener(
            name="api",
            app=create_api(self.runtime),
            host=settings.api_host,
            port=settings.api_port,
            option="OSM_API_PORT",
        )

    def _debug(self) -> Listener:
        settings = self._settings
        return Listener(
            name="debug",
            app=create_debug(self.runtime),
            host=settings.api_host,
            port=settings.debug_port,
            option="OSM_DEBUG_PORT",
            is_wanted=self._is_debugged,
        )

    def _webhook(self, webhook: Webhook, app: Application, port: str) -> Listener:
        settings = self._settings
        return Listener(
            name=webhook,
            app=app,
            host=settings.webhook_host,
            port=getattr(settings, f"{port}_port"),
            option=f"OSM_{port.upper()}_PORT",
            certificate=self._certificate_of(webhook),
            keep_alive_seconds=CLIENT_KEEP_ALIVE_SECONDS,
            most_connections=_WEBHOOK_CONNECTIONS,
        )

    def _certificate_of(self, webhook: Webhook) -> Callable[[], KeyPair]:
        return lambda: self.runtime.webhook_identity(webhook)

    def _is_debugged(self) -> bool:
        snapshot = self.runtime.snapshot
        return snapshot is not None and snapshot.config.observability.enable_debug_server


def is_native(version: ServerVersion) -> bool:
    """True when the API server takes sidecars as restartable init containers."""
    return (version.major, version.minor) >= _NATIVE_SINCE


def _compute(settings: Settings, cluster: KubeClient, metrics: Metrics) -> Compute:
    source = KubeSource(
        cluster,
        metrics,
        osm_namespace=settings.osm_namespace,
        config_name=settings.osm_config_name,
    )
    authenticator = KubeAuthenticator(
        cluster,
        osm_namespace=settings.osm_namespace,
        config_name=settings.osm_config_name,
        as_bearer=cluster.as_bearer,
    )
    return Compute(
        source=source,
        writer=KubeWriter(cluster, reads=cluster.within(READ_SECONDS)),
        envoy_admin=None,
        authenticator=authenticator,
        cluster=cluster,
    )
