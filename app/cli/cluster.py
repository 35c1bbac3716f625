"""The way to a cluster: options that every command shares, the config file, the user's kubeconfig.

The root command reads them once; a command that needs the cluster calls ``open_cluster`` with its
context. The Kubernetes client library is loaded then and not before: commands of one machine must
answer at once. Specification: kubernetes-surface 7.1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.errors import SettingError

if TYPE_CHECKING:
    from app.compute.kube_client import KubeClient

DEFAULT_NAMESPACE: Final = "osm-system"
DEFAULT_MESH: Final = "osm"
CONFIG_VARIABLE: Final = "OSM_CONFIG"
IN_CLUSTER_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"
MANAGED: Final = "managed"
_KINDS: Final = (MANAGED, "self-hosted")
_PANEL = "Cluster"

OsmNamespace = Annotated[
    str | None,
    typer.Option(
        "--osm-namespace",
        help="namespace of the control plane (default: that of the config file, else osm-system)",
        rich_help_panel=_PANEL,
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        help="kubeconfig file (default: $KUBECONFIG, else ~/.kube/config)",
        rich_help_panel=_PANEL,
    ),
]
KubeContext = Annotated[
    str | None,
    typer.Option(
        "--context",
        help="context of the kubeconfig (default: its current one)",
        rich_help_panel=_PANEL,
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="say more of what is done, on standard error")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CliConfig:
    """The CLI's config file; ``kind`` managed: somebody else installs and upgrades the mesh."""

    kind: str = _KINDS[1]
    distribution: str = ""
    namespace: str = DEFAULT_NAMESPACE

    @property
    def is_managed(self) -> bool:
        """True when installing is not this command's task."""
        return self.kind == MANAGED


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What the root command was told of the cluster."""

    osm_namespace: str = DEFAULT_NAMESPACE
    kubeconfig: Path | None = None
    context: str | None = None
    verbose: bool = False
    named: bool = False
    """True when the user named a cluster, its context or the control plane's namespace."""
    config: CliConfig = CliConfig()


def read_options(
    *,
    osm_namespace: str | None = None,
    kubeconfig: Path | None = None,
    context: str | None = None,
    verbose: bool = False,
) -> ClusterOptions:
    """The options, completed from the config file; raise ``SettingError`` naming what is wrong."""
    config = read_config()
    return ClusterOptions(
        osm_namespace=osm_namespace or config.namespace,
        kubeconfig=kubeconfig,
        context=context,
        verbose=verbose,
        named=any(value is not None for value in (osm_namespace, kubeconfig, context)),
        config=config,
    )


def options_of(context: typer.Context) -> ClusterOptions:
    """What the root command read; the defaults where a command runs without it."""
    return context.find_object(ClusterOptions) or read_options()


def open_cluster(context: typer.Context) -> KubeClient:
    """The cluster of the options, as the user's kubeconfig allows; nothing is asked yet.

    Inside a Pod without a kubeconfig: the Pod's own cluster, as its ServiceAccount.
    """
    from app.compute.kube_client import KubeClient  # noqa: PLC0415 half a second, for some only

    options = options_of(context)
    unnamed = options.kubeconfig is None and options.context is None
    if (
        unnamed
        and IN_CLUSTER_VARIABLE in os.environ
        and not has_kubeconfig(os.environ, home_folder())
    ):
        return KubeClient.in_cluster()
    return KubeClient.from_kubeconfig(options.kubeconfig, options.context)


def has_cluster(options: ClusterOptions) -> bool:
    """True when the options or this machine show a cluster; it may be unreachable still."""
    return (
        options.named
        or has_kubeconfig(os.environ, home_folder())
        or IN_CLUSTER_VARIABLE in os.environ
    )


def has_kubeconfig(environment: Mapping[str, str], home: Path) -> bool:
    """True when a file is there where $KUBECONFIG says, else at ~/.kube/config."""
    named = environment.get("KUBECONFIG", "")
    paths = [Path(path) for path in named.split(os.pathsep) if path] or [home / ".kube" / "config"]
    return any(path.is_file() for path in paths)


def home_folder() -> Path:
    """The user's own folder; the root where the user has none, as in a container."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def config_path() -> Path:
    """Where the config file is, if there is one."""
    return Path(os.environ.get(CONFIG_VARIABLE) or home_folder() / ".osm" / "config.yaml")


def read_config() -> CliConfig:
    """The config file, or the defaults where there is none.

    Raise ``SettingError`` for one that cannot be read, or that was named and does not exist.
    """
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if os.environ.get(CONFIG_VARIABLE):
            raise SettingError(f"{CONFIG_VARIABLE}: there is no file {path}") from None
        return CliConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"config file {path} cannot be read: {error}") from error
    return parse_config(text, str(path))


def parse_config(text: str, where: str) -> CliConfig:
    """The config file's content; unknown fields are ignored, as the original did."""
    import yaml  # noqa: PLC0415 few have a config file

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingError(f"{where} is not YAML: {error}") from error
    install = _mapping(_mapping(document, where).get("install"), f"{where}: install")
    kind = _text(install, "kind", where) or _KINDS[1]
    if kind not in _KINDS:
        raise SettingError(f"{where}: install.kind: write {' or '.join(_KINDS)}, not {kind!r}")
    return CliConfig(
        kind=kind,
        distribution=_text(install, "distribution", where),
        namespace=_text(install, "namespace", where) or DEFAULT_NAMESPACE,
    )


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SettingError(f"{where}: must be an object with fields, not {value!r}")
    return value


def _text(install: Mapping[str, Any], field: str, where: str) -> str:
    value = install.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SettingError(f"{where}: install.{field}: must be a text, not {value!r}")
    return value
