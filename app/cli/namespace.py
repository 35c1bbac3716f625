"""``osm namespace``: which namespaces belong to a mesh; written as the user's kubeconfig allows.

Membership is labels and annotations of the Namespace and nothing else; ``app.mesh.membership``
decides which. Specification: kubernetes-surface 7.3.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.cluster import DEFAULT_MESH, open_cluster
from app.cli.output import Output, OutputFormat, emit_json, emit_rows, say, warn
from app.errors import NotFoundError
from app.install.meshes import read_meshes
from app.mesh.membership import Change, ignore, join, leave
from app.objects.meta import (
    INJECTION_ANNOTATION,
    MONITORED_BY_LABEL,
    ObjectRef,
    RawObject,
    kept_out_by,
)
from app.ports import Cluster

app = typer.Typer(help="Namespaces of a mesh.", no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(metavar="NAMESPACE...", help="the namespaces")]
MeshName = Annotated[str, typer.Option("--mesh-name", help="the mesh")]


@app.command("add")
def add(
    context: typer.Context,
    names: Names,
    mesh_name: MeshName = DEFAULT_MESH,
    disable_sidecar_injection: Annotated[
        bool,
        typer.Option("--disable-sidecar-injection", help="new Pods get no sidecar by themselves"),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="take the namespace from another mesh")
    ] = False,
) -> None:
    """Add namespaces to a mesh: their new Pods get sidecars."""
    cluster = open_cluster(context)
    meshes = read_meshes(cluster)
    if mesh_name not in {mesh.name for mesh in meshes}:
        raise NotFoundError(
            f"mesh [{mesh_name}] does not exist; name another with --mesh-name, or install it "
            "(`osm mesh list` shows what is there)"
        )
    homes = {mesh.namespace for mesh in meshes}
    for name in names:
        if name in homes:
            warn(f"Namespace [{name}] holds a control plane and cannot be added to a mesh")
            continue
        found = read_namespace(cluster, name)
        write(
            cluster,
            name,
            join(found, mesh_name, inject=not disable_sidecar_injection, force=force),
        )


@app.command("remove")
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAMESPACE", help="the namespace")],
    mesh_name: MeshName = DEFAULT_MESH,
) -> None:
    """Remove a namespace from its mesh; sidecars stay until their Pods are restarted."""
    cluster = open_cluster(context)
    write(cluster, name, leave(read_namespace(cluster, name), mesh_name))


@app.command("ignore")
def ignore_namespaces(context: typer.Context, names: Names) -> None:
    """Keep every mesh out of namespaces: no Pod is injected, no object validated."""
    cluster = open_cluster(context)
    for name in names:
        write(cluster, name, ignore(read_namespace(cluster, name)))


@app.command("list")
def list_namespaces(
    context: typer.Context,
    mesh: Annotated[str, typer.Argument(metavar="[MESH]", help="only those of this mesh")] = "",
    mesh_name: Annotated[str, typer.Option("--mesh-name", help="only those of this mesh")] = "",
    output: Output = OutputFormat.TABLE,
) -> None:
    """Namespaces that belong to a mesh."""
    wanted = mesh_name or mesh
    labels = f"{MONITORED_BY_LABEL}={wanted}" if wanted else MONITORED_BY_LABEL
    found = open_cluster(context).list("v1", "Namespace", labels=labels)
    rows = [row_of(raw) for raw in sorted(found, key=lambda raw: str(raw["metadata"]["name"]))]
    if output is OutputFormat.JSON:
        emit_json(rows)
    elif rows:
        emit_rows(rows, _COLUMNS, output)
    else:
        where = f"mesh [{wanted}]" if wanted else "any mesh"
        say(f"No namespaces in {where}")


_COLUMNS = {
    "namespace": "NAMESPACE",
    "mesh": "MESH",
    "sidecar_injection": "SIDECAR-INJECTION",
}


def row_of(raw: RawObject) -> dict[str, Any]:
    """What the list shows of a namespace."""
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    injection = (metadata.get("annotations") or {}).get(INJECTION_ANNOTATION) or "-"
    return {
        "namespace": metadata["name"],
        "mesh": labels.get(MONITORED_BY_LABEL),
        "sidecar_injection": "disabled (ignored)" if kept_out_by(labels) else injection,
    }


def read_namespace(cluster: Cluster, name: str) -> RawObject:
    """The Namespace; raise ``NotFoundError``."""
    found = cluster.read(_ref(name))
    if found is None:
        raise NotFoundError(f"Namespace [{name}] does not exist; create it first")
    return found


def write(cluster: Cluster, name: str, change: Change) -> None:
    """The namespace has the change, and what it was is told."""
    if change.patch is not None:
        cluster.patch(_ref(name), change.patch)
    say(change.message)


def _ref(name: str) -> ObjectRef:
    return ObjectRef(api_version="v1", kind="Namespace", name=name)
