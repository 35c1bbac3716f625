"""``osm version`` and ``osm env``: which builds are at work, and what this command goes by.

The mesh is found as by every command (``app.cli.reach``); in a cluster each mesh is one line.
Specification: kubernetes-surface 7.6, without its look for newer releases: no command calls out.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as distribution_version
from typing import Annotated, Any

import typer

from app.cli.output import Output, OutputFormat, console, emit_json, emit_rows

_COLUMNS = {
    "mesh_name": "MESH NAME",
    "namespace": "MESH NAMESPACE",
    "version": "VERSION",
    "git_commit": "GIT COMMIT",
    "build_date": "BUILD DATE",
}


def version(
    context: typer.Context,
    client_only: Annotated[bool, typer.Option("--client-only", help="do not ask a mesh")] = False,
    version_only: Annotated[  # noqa: ARG001 there is nothing else to leave out
        bool, typer.Option("--version-only", help="accepted for scripts; nothing else is shown")
    ] = False,
    api: Annotated[
        str | None, typer.Option("--api", envvar="OSM_API", help="URL of an admin API")
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Versions of this command and of the meshes it reaches."""
    client = distribution_version("openservicemesh")
    if output is OutputFormat.TABLE:
        # First of all, since a mesh may not answer.
        console.print(f"CLI version {client}", highlight=False)
    meshes = [] if client_only else _meshes(context, api)
    if output is OutputFormat.JSON:
        emit_json({"client": client, "meshes": meshes})
    elif meshes:
        emit_rows(meshes, _COLUMNS, output)
    elif not client_only:
        console.print("No OSM control planes found", highlight=False)


def env(context: typer.Context) -> None:
    """The settings of this command, as its config file holds them."""
    from app.cli.cluster import options_of  # noqa: PLC0415 as below
    from app.cli.yamltext import yaml_documents  # noqa: PLC0415

    options = options_of(context)
    config = options.config
    install = {"kind": config.kind, "distribution": config.distribution}
    install = {**install, "namespace": options.osm_namespace}
    sys.stdout.write(yaml_documents([{"install": install}]))


def _meshes(context: typer.Context, api: str | None) -> list[dict[str, Any]]:
    """One row per mesh; of one that does not answer what its Deployment says."""
    from app.cli.client import AdminClient  # noqa: PLC0415 --client-only answers at once
    from app.cli.cluster import open_cluster  # noqa: PLC0415
    from app.cli.mesh import ask_controllers  # noqa: PLC0415
    from app.cli.reach import Loopback, reach_of  # noqa: PLC0415
    from app.install.meshes import read_meshes  # noqa: PLC0415

    reach = reach_of(context, api)
    if isinstance(reach, Loopback):
        with AdminClient(reach.url, token=reach.token) as client:
            return [_row(client.get("/version"), namespace="", version="")]
    cluster = open_cluster(context)
    return [
        _row(
            ask_controllers(cluster, mesh.namespace, "/version") or {"mesh_name": mesh.name},
            namespace=mesh.namespace,
            version=mesh.version,
        )
        for mesh in read_meshes(cluster)
    ]


def _row(answer: dict[str, Any], *, namespace: str, version: str) -> dict[str, Any]:
    return {
        "mesh_name": answer["mesh_name"],
        "namespace": namespace,
        "version": answer.get("version") or version,
        "git_commit": answer.get("git_commit") or "",
        "build_date": answer.get("build_date") or "",
    }
