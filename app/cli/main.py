"""The ``osm`` command tree.

Each command asks the admin API, talks to the cluster as the user's kubeconfig allows, works on
local files, or starts the process; none reaches into another process's state. Errors of the mesh
end a command with one line and exit status 1. A new command is one line in ``PARTS``.
"""

from __future__ import annotations

import typer

from app.cli.cluster import Kubeconfig, KubeContext, OsmNamespace, Verbose, read_options
from app.cli.lazy import Part, lazy_group
from app.cli.output import fail
from app.errors import AppError, RightsError
from xds.resource import MeshError

PARTS = {
    "standalone": Part("app.cli.standalone"),
    "demo": Part("app.cli.demo"),
    "proxy": Part("app.cli.inspect", "proxy_app"),
    "service": Part("app.cli.inspect", "service_app"),
    "policy": Part("app.cli.inspect", "policy_app"),
    "explain": Part("app.cli.explain_call", "explain"),
    "install": Part("app.cli.install", "install"),
    "uninstall": Part("app.cli.uninstall"),
    "mesh": Part("app.cli.mesh"),
    "namespace": Part("app.cli.namespace"),
    "ns": Part("app.cli.namespace", hidden=True),
    "controller": Part("app.cli.controller"),
    "inject": Part("app.cli.inject", "inject"),
    "env": Part("app.cli.version", "env"),
    "version": Part("app.cli.version", "version"),
}
"""Each sub-command: the module and the Typer application (or function) that it is."""

app = typer.Typer(
    name="osm",
    cls=lazy_group(PARTS),
    help="Open Service Mesh, for Kubernetes and for one machine without a cluster.",
    epilog=(
        "Which mesh is asked: the admin API of --api or OSM_API; else the cluster of --kubeconfig, "
        "--context or --osm-namespace; else the standalone mesh that is up on this machine; else "
        "the cluster of your kubeconfig. --verbose says which it was."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


@app.callback()
def osm(
    context: typer.Context,
    osm_namespace: OsmNamespace = None,
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    verbose: Verbose = False,
) -> None:
    """Open Service Mesh, for Kubernetes and for one machine without a cluster."""
    context.obj = read_options(
        osm_namespace=osm_namespace, kubeconfig=kubeconfig, context=kube_context, verbose=verbose
    )


def main() -> None:
    """Run the command line; an error of the mesh is one line, never a traceback."""
    try:
        app()
    except MeshError as error:
        status = error.exit_status if isinstance(error, AppError) else 1
        fail(f"{error} ({error.code})")
        raise SystemExit(status) from None
    except PermissionError as error:
        fail(f"{error.filename}: {error.strerror}; try again with sudo ({RightsError.code})")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
