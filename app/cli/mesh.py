"""``osm mesh``: which meshes a cluster has; their upgrade is in ``app.cli.upgrade``.

Meshes are found by their Deployments' labels; what a control plane supports is asked of it through
a tunnel that the user's own credentials open. Specification: kubernetes-surface 7.2.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.cluster import open_cluster
from app.cli.output import Output, OutputFormat, emit_json, emit_rows, say
from app.cli.reach import ADMIN_PORT, Access, public_admin
from app.cli.upgrade import upgrade
from app.errors import AppError
from app.install.meshes import Mesh, read_meshes
from app.install.render import CONTROLLER

app = typer.Typer(help="Meshes of a cluster.", no_args_is_help=True)
app.command("upgrade")(upgrade)

_MESHES = {
    "mesh_name": "MESH NAME",
    "namespace": "MESH NAMESPACE",
    "version": "VERSION",
    "members": "ADDED NAMESPACES",
}
_SUPPORT = {"mesh_name": "MESH NAME", "namespace": "MESH NAMESPACE", "smi": "SMI SUPPORTED"}
_UNKNOWN = "Unknown"


@app.command("list")
def list_meshes(
    context: typer.Context,
    output: Output = OutputFormat.TABLE,
    local_port: Annotated[int, typer.Option("--local-port", "-p", hidden=True)] = ADMIN_PORT,
) -> None:
    """Meshes of the cluster, their namespaces and what each supports."""
    del local_port  # Of the original, which had to forward one.
    cluster = open_cluster(context)
    rows = [
        _row(mesh, ask_controllers(cluster, mesh.namespace, "/smi/version"))
        for mesh in read_meshes(cluster)
    ]
    if output is OutputFormat.JSON:
        emit_json(rows)
        return
    if not rows:
        say("No osm mesh control planes found")
        return
    emit_rows(rows, _MESHES, output)
    say("")
    emit_rows(rows, _SUPPORT, output)
    say(
        "\nTo list the OSM controller pods for a mesh, run the following with its namespace:\n"
        f"  kubectl get pods -n <osm-mesh-namespace> -l app={CONTROLLER}"
    )


def ask_controllers(cluster: Access, namespace: str, path: str) -> dict[str, Any] | None:
    """What a ready controller says to anybody; None when none does."""
    try:
        with public_admin(cluster, namespace) as client:
            answer: dict[str, Any] = client.get(path)
            return answer
    except AppError:
        return None


def supported(answer: dict[str, Any] | None) -> list[str]:
    """``Kind:group/version`` of each SMI kind, sorted."""
    if not answer:
        return [_UNKNOWN]
    return sorted(f"{kind}:{version}" for kind, version in answer.items())


def _row(mesh: Mesh, answer: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "mesh_name": mesh.name,
        "namespace": mesh.namespace,
        "version": mesh.version or None,
        "members": list(mesh.members),
        "original": mesh.is_original,
        "smi": supported(answer),
    }
