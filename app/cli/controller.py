"""``osm controller run``: the control plane of a cluster, as the Deployment starts it.

Flags and variables become settings, the API server becomes objects, and then everything starts in
the one order of kubernetes-surface 6.5: health answers first, webhooks before the API server is
told of them. SIGTERM ends it in the opposite order: not ready, a moment in which nobody sends more,
what was asked is answered, proxies are let go. Flags have the original's names (6.2).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Annotated, Any, Never

import typer
from typer.core import TyperCommand

from app import logs
from app.cli.cluster import open_cluster
from app.cli.standalone import configure_logs
from app.errors import SettingError
from app.settings import Settings, read_settings
from xds.resource import MeshError

app = typer.Typer(help="The control plane of a cluster.", no_args_is_help=True)

_LOOK_SECONDS = 1.0
_REQUIRED = ("mesh_name", "osm_namespace")
_LATER = {"vault": "HashiCorp Vault", "cert-manager": "cert-manager"}
_IMAGES = {
    "envoy_image": "OSM_DEFAULT_ENVOY_IMAGE",
    "init_container_image": "OSM_DEFAULT_INIT_CONTAINER_IMAGE",
}
"""The original's names of variables, which its manifests set."""
_SWITCHES = frozenset({"--enable-reconciler", "--validate-traffic-target"})
_BUILT_IN = "tresor"
_POD_NAME = "CONTROLLER_POD_NAME"
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104 a Pod's own network

Text = str | None
Later = Annotated[Text, typer.Option(hidden=True)]


def _flag(setting: str, *names: str) -> Any:
    """The option of a setting; without it the variable counts, then the default."""
    option = f"--{setting.replace('_', '-')}"
    meaning = Settings.model_fields[setting].description
    return typer.Option(option, *names, help=meaning, show_default=False)


class Ended(Exception):  # noqa: N818 no error: it was asked for
    """The process was told to end while it was starting."""


class EndSignals:
    """SIGTERM and Ctrl-C: they break the start off, and later end the wait."""

    def __init__(self) -> None:
        self._is_starting = True
        self._first = threading.Event()
        self.again = threading.Event()
        """Set at the second signal: whoever sends it does not want to wait."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def wait(self) -> None:
        """Returns once the process is told to end."""
        self._is_starting = False
        # The kernel may hand a signal to any thread; Python acts on it when the main one runs next.
        while not self._first.wait(_LOOK_SECONDS):
            pass

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        (self.again if self._first.is_set() else self._first).set()
        if self._is_starting:
            self._is_starting = False
            raise Ended


class _GoFlags(TyperCommand):
    """Switches may stand alone or have a value, as in Go: ``--enable-reconciler=false``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A switch that stands alone is on."""
        return super().parse_args(ctx, [f"{a}=true" if a in _SWITCHES else a for a in args])


@app.callback()
def controller() -> None:
    """The control plane of a cluster."""


@app.command(cls=_GoFlags)
def run(
    context: typer.Context,
    verbosity: Annotated[Text, _flag("verbosity", "-v")] = None,
    mesh_name: Annotated[Text, _flag("mesh_name")] = None,
    osm_namespace: Annotated[Text, _flag("osm_namespace")] = None,
    osm_service_account: Annotated[Text, _flag("osm_service_account")] = None,
    osm_config_name: Annotated[Text, _flag("osm_config_name")] = None,
    osm_version: Annotated[Text, _flag("osm_version")] = None,
    validator_webhook_config: Annotated[Text, _flag("validator_webhook_config")] = None,
    webhook_config_name: Annotated[Text, _flag("webhook_config_name")] = None,
    webhook_timeout: Annotated[Text, _flag("webhook_timeout")] = None,
    osm_container_pull_policy: Annotated[Text, _flag("osm_container_pull_policy")] = None,
    certificate_manager: Annotated[Text, _flag("certificate_manager")] = None,
    ca_bundle_secret_name: Annotated[Text, _flag("ca_bundle_secret_name")] = None,
    trust_domain: Annotated[Text, _flag("trust_domain")] = None,
    enable_reconciler: Annotated[Text, _flag("enable_reconciler")] = None,
    validate_traffic_target: Annotated[Text, _flag("validate_traffic_target")] = None,
    vault_protocol: Later = None,
    vault_host: Later = None,
    vault_port: Later = None,
    vault_role: Later = None,
    vault_token: Later = None,
    vault_token_secret_name: Later = None,
    vault_token_secret_key: Later = None,
    cert_manager_issuer_name: Later = None,
    cert_manager_issuer_kind: Later = None,
    cert_manager_issuer_group: Later = None,
) -> None:
    """Serve sidecars, webhooks and the admin API until SIGTERM."""
    logs.configure()
    signals = EndSignals()
    try:
        _serve(context, signals)
    except Ended:
        logs.logger("controller").info("ended while starting")
    except MeshError as error:
        _tell_failure(context, error)
        raise


def _serve(context: typer.Context, signals: EndSignals) -> None:
    # The control plane takes a second to load, for which no other command has to wait.
    from app.cli.control_plane import ControlPlane  # noqa: PLC0415

    settings = controller_settings(context.params, os.environ)
    metrics = configure_logs(settings, sys.stdout, human=settings.human_debug_log)
    plane = ControlPlane(settings, open_cluster(context), metrics)
    try:
        plane.start()
        signals.wait()
        plane.leave(signals.again)
    finally:
        plane.stop()


def _tell_failure(context: typer.Context, error: MeshError) -> None:
    """Why the process does not start is in its log, and an event of its Pod where it is one."""
    from app.controller.runtime import SystemClock  # noqa: PLC0415 as above
    from app.controller.warnings import PodWarnings, fatal_reason, own_pod  # noqa: PLC0415

    log = logs.logger("controller")
    log.error("the control plane does not start", error=str(error), error_code=error.code)
    pod = os.environ.get(_POD_NAME, "")
    if not pod:
        return
    try:
        cluster = open_cluster(context)
    except MeshError as refused:
        log.warning("no event was written", error=str(refused), error_code=refused.code)
        return
    warnings = PodWarnings(cluster, SystemClock(), pod=own_pod(cluster.namespace, pod))
    warnings.tell_and_wait(fatal_reason(error), f"{error} ({error.code})")


def controller_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Settings of a controller; raise ``SettingError`` naming what is missing or not possible."""
    given = {name: value for name, value in flags.items() if name in Settings.model_fields}
    for name, variable in _IMAGES.items():
        given.setdefault(name, environment.get(variable) or None)
    settings = read_settings(**given)
    missing = [name for name in _REQUIRED if not _is_given(settings, name)]
    if missing:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise SettingError(f"a controller needs {options} (or {_variable(missing[0])} and so on)")
    if settings.certificate_manager != _BUILT_IN:
        _refuse(settings.certificate_manager)
    # Loopback is for one machine; here the kubelet, Prometheus and port-forwards ask.
    everywhere = {} if _is_given(settings, "api_host") else {"api_host": _ANY_ADDRESS}
    return settings.model_copy(update=everywhere)


def _is_given(settings: Settings, name: str) -> bool:
    return name in settings.model_fields_set and bool(getattr(settings, name))


def _variable(setting: str) -> str:
    return f"OSM_{setting.upper()}"


def _refuse(manager: str) -> Never:
    if manager in _LATER:
        raise SettingError(
            f"--certificate-manager {manager}: certificates of {_LATER[manager]} are planned, but "
            f"not in this release; use {_BUILT_IN}, the mesh's own root"
        )
    raise SettingError(f"--certificate-manager: write {_BUILT_IN}, not {manager!r}")
