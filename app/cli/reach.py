"""Which mesh a command asks, and how it gets there: this machine, or a cluster.

The rule, in this order, and the same for every command:

1. ``--api URL`` or ``OSM_API``: that admin API (with ``OSM_API_TOKEN``, where it asks for one);
2. ``--kubeconfig``, ``--context`` or ``--osm-namespace``: the mesh of that cluster;
3. a standalone mesh is up on this machine: its admin API on loopback;
4. the cluster of the kubeconfig.

In a cluster a ready controller's Pod is asked, through a tunnel that the user's own credentials
open, with a bearer token: the kubeconfig's, else one of a ServiceAccount for ten minutes.
Specification: kubernetes-surface 7.1 and 8.2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import typer

from app.cli.client import AdminClient, TunnelTransport
from app.cli.cluster import (
    ClusterOptions,
    has_cluster,
    open_cluster,
    options_of,
)
from app.cli.output import errors
from app.cli.portforward import PodHttp, PodPort, Tunnels
from app.errors import (
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    SettingError,
    UnreachableError,
)
from app.objects.meta import RawObject, is_label, is_name

ADMIN_PORT: Final = 9091
TOKEN_SECONDS: Final = 600
"""The shortest lifetime that the API server gives out."""
CLI_ACCOUNT: Final = "osm-cli"
_CONTROLLERS = "app=osm-controller"
_TOKEN_VARIABLE = "OSM_API_TOKEN"  # noqa: S105 a name, not a token

Api = Annotated[
    str | None,
    typer.Option(
        "--api",
        envvar="OSM_API",
        help="URL of an admin API; without it that of the standalone mesh on this machine, "
        "else the cluster of the kubeconfig",
    ),
]
AsServiceAccount = Annotated[
    str | None,
    typer.Option(
        "--as-service-account",
        metavar="NAMESPACE/NAME",
        help="in a cluster: ask as this ServiceAccount instead of yourself",
    ),
]


class Access(Tunnels, Protocol):
    """The part of ``KubeClient`` that leads to a control plane."""

    def list(
        self, api_version: str, kind: str, *, namespace: str = "", labels: str = ""
    ) -> list[RawObject]:
        """As ``Cluster.list``."""
        ...

    def bearer_token(self) -> str | None:
        """The token of the kubeconfig; None with client certificates."""
        ...

    def create_token(self, namespace: str, service_account: str, seconds: int) -> str:
        """A new token of the account; raise ``ForbiddenError``, ``NotFoundError``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Loopback:
    """An admin API that is reached by its URL."""

    url: str
    token: str = ""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InCluster:
    """The controllers of a cluster."""

    why: str


Reach = Loopback | InCluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides, as this machine shows it."""

    mesh_is_up: bool
    """True when a standalone mesh runs here (or its state directory is closed to us)."""
    state_dir: Path
    api_url: str
    has_kubeconfig: bool
    token: str = ""


def choose(api: str | None, options: ClusterOptions, machine: Machine) -> Reach:
    """Whom to ask, by the rule of this page; raise ``UnreachableError`` when there is nobody."""
    if api:
        return Loopback(url=api, token=machine.token, why="--api or OSM_API names it")
    if options.named:
        return InCluster(why="an option names the cluster")
    if machine.mesh_is_up:
        return Loopback(url=machine.api_url, why=f"a standalone mesh is up in {machine.state_dir}")
    if machine.has_kubeconfig:
        return InCluster(why="no standalone mesh is up on this machine")
    raise UnreachableError(
        f"there is no mesh to ask: none is up in {machine.state_dir}, and there is no kubeconfig; "
        "start one with `osm standalone up`, name its admin API with --api URL, "
        "or name a cluster with --kubeconfig FILE"
    )


def reach_of(context: typer.Context, api: str | None) -> Reach:
    """Whom this command asks; told on standard error with ``--verbose``."""
    options = options_of(context)
    found = choose(api, options, _machine())
    if options.verbose:
        place = found.url if isinstance(found, Loopback) else "the cluster of the kubeconfig"
        errors.print(f"asking {place}: {found.why}", highlight=False, soft_wrap=True)
    return found


def open_admin(
    context: typer.Context, api: str | None = None, account: str | None = None
) -> AdminClient:
    """One control plane that knows the mesh; any replica will do. Close it after use."""
    return open_admins(context, api, account)[0]


def open_admins(
    context: typer.Context, api: str | None = None, account: str | None = None
) -> tuple[AdminClient, ...]:
    """Every ready replica, for what only one of them knows; at least one. Close them after use."""
    reach = reach_of(context, api)
    if isinstance(reach, Loopback):
        if account is not None:
            raise SettingError(
                f"--as-service-account: only a cluster has ServiceAccounts, but {reach.url} is "
                f"asked, since {reach.why}; name the cluster with --context or --kubeconfig"
            )
        return (AdminClient(reach.url, token=reach.token),)
    return cluster_admins(open_cluster(context), options_of(context).osm_namespace, account)


def cluster_admins(
    access: Access, osm_namespace: str, account: str | None = None
) -> tuple[AdminClient, ...]:
    """A client per ready controller, sorted by Pod; tunnels open at the first request."""
    pods = _controllers(access, osm_namespace)
    token = choose_token(access, osm_namespace, account)
    return tuple(_client(access, osm_namespace, pod, token) for pod in pods)


def public_admin(access: Access, osm_namespace: str) -> AdminClient:
    """A ready controller, asked without a token: for versions and health, which are open to all."""
    return _client(access, osm_namespace, _controllers(access, osm_namespace)[0], "")


def ready_controllers(pods: Iterable[RawObject], osm_namespace: str) -> list[str]:
    """Names of the Pods that serve, sorted; raise ``UnreachableError`` when there is none."""
    found = list(pods)
    ready = sorted(pod["metadata"]["name"] for pod in found if _is_ready(pod))
    if ready:
        return ready
    states = ", ".join(f"{pod['metadata']['name']} is {_state(pod)}" for pod in found)
    raise UnreachableError(
        f"no controller is ready in namespace {osm_namespace} of the cluster: "
        f"{states or 'there is no Pod with label ' + _CONTROLLERS}; "
        "is the mesh installed (`osm install`), and is --osm-namespace right? "
        "A mesh on this machine is asked with --api URL"
    )


def choose_token(access: Access, osm_namespace: str, account: str | None) -> str:
    """The bearer token to show: of the account that was named, of the kubeconfig, of ``osm-cli``.

    Raise ``ForbiddenError`` or ``NotFoundError`` saying what is missing and what else would do.
    """
    if account is None:
        own = access.bearer_token()
        if own:
            return own
    namespace, name = (osm_namespace, CLI_ACCOUNT) if account is None else split_account(account)
    try:
        return access.create_token(namespace, name, TOKEN_SECONDS)
    except ForbiddenError as error:
        raise ForbiddenError(
            f"{_reason_for(account)}, and you may not ask for one of {namespace}/{name}: your role "
            f"there needs the verb create of serviceaccounts/token named {name}; "
            "or choose another with --as-service-account NAMESPACE/NAME"
        ) from error
    except (NotFoundError, KubernetesError) as error:
        raise NotFoundError(
            f"{_reason_for(account)}, but there is none of {namespace}/{name} ({error}); "
            "choose another with --as-service-account NAMESPACE/NAME"
        ) from error


def split_account(account: str) -> tuple[str, str]:
    """Namespace and name; raise ``SettingError`` for another form."""
    namespace, _, name = account.partition("/")
    if not (is_label(namespace) and is_name(name)):
        raise SettingError(f"--as-service-account: write NAMESPACE/NAME, not {account!r}")
    return namespace, name


def _controllers(access: Access, osm_namespace: str) -> list[str]:
    pods = access.list("v1", "Pod", namespace=osm_namespace, labels=_CONTROLLERS)
    return ready_controllers(pods, osm_namespace)


def _reason_for(account: str | None) -> str:
    if account is None:
        return "your kubeconfig has no token to show, so one of a ServiceAccount is needed"
    return "a token of the ServiceAccount is needed"


def _client(access: Access, namespace: str, pod: str, token: str) -> AdminClient:
    target = PodPort(namespace=namespace, pod=pod, port=ADMIN_PORT)
    return AdminClient(
        f"http://localhost:{ADMIN_PORT}",
        token=token,
        transport=TunnelTransport(PodHttp(access, target)),
        name=f"Pod {namespace}/{pod}",
    )


def _is_ready(pod: RawObject) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in _status(pod).get("conditions") or ()
    )


def _state(pod: RawObject) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "ending"
    phase = str(_status(pod).get("phase") or "Unknown")
    return "running but not ready" if phase == "Running" else phase.lower()


def _status(pod: RawObject) -> dict[str, Any]:
    return pod.get("status") or {}


def _machine() -> Machine:
    from app.settings import read_settings  # noqa: PLC0415 only who asks a mesh needs them
    from app.standalone.state import holder  # noqa: PLC0415

    settings = read_settings()
    try:
        up = holder(settings.state_dir) is not None
    except PermissionError:
        # It is another user's, who removes it when the mesh ends: it tells as much as the lock.
        up = settings.state_dir.exists()
    return Machine(
        mesh_is_up=up,
        state_dir=settings.state_dir,
        api_url=f"http://127.0.0.1:{settings.api_port}",
        has_kubeconfig=has_cluster(ClusterOptions()),
        token=os.environ.get(_TOKEN_VARIABLE, ""),
    )
