"""``osm uninstall mesh``: a mesh out of the cluster, as the user's kubeconfig allows.

Asks before each mesh, then removes all that acts or holds a key, and says what to restart.
Specification: kubernetes-surface 6.8, 7.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Final

import typer

from app.cli.cluster import open_cluster, options_of
from app.cli.output import say, warn
from app.cli.prompt import confirm
from app.cli.rollout import progress
from app.errors import KubernetesError
from app.install.deadline import Deadline
from app.install.manifests import find_manifests, load_manifests
from app.install.meshes import Mesh, read_meshes
from app.install.release import read_release
from app.install.remove import Removal, remove_mesh, remove_refs
from app.objects.meta import ObjectRef
from app.ports import Cluster

DEFAULT_CA_SECRET: Final = "osm-ca-bundle"  # noqa: S105 a name
_PATIENCE = timedelta(seconds=60)

ClusterWide = Annotated[
    bool,
    typer.Option(
        "--delete-cluster-wide-resources",
        "-a",
        help="also the definitions of the mesh's kinds, and with them every object of these "
        "kinds, whichever mesh it is for",
    ),
]
CaSecret = Annotated[
    str,
    typer.Option(
        "--ca-bundle-secret-name",
        help="Secret of the mesh's root (default: what it was installed with)",
    ),
]

app = typer.Typer(help="Take a mesh out of a cluster.", no_args_is_help=True)


@app.command("mesh")
@app.command("delete", hidden=True)
@app.command("del", hidden=True)
def uninstall(
    context: typer.Context,
    mesh_name: Annotated[str, typer.Option("--mesh-name", help="only this mesh")] = "",
    force: Annotated[bool, typer.Option("--force", "-f", help="do not ask")] = False,
    cluster_wide: ClusterWide = False,
    delete_namespace: Annotated[
        bool, typer.Option("--delete-namespace", help="also the control plane's namespace")
    ] = False,
    ca_bundle_secret_name: CaSecret = "",
    local_port: Annotated[int, typer.Option("--local-port", "-p", hidden=True)] = 9091,
) -> None:
    """Remove a mesh; objects that users wrote stay, and sidecars until their Pods restart."""
    del local_port  # Of the original, which had to forward one.
    options, cluster = options_of(context), open_cluster(context)
    meshes = read_meshes(cluster)
    failed: dict[ObjectRef, str] = {}
    chosen = _chosen(meshes, mesh_name, is_managed=options.config.is_managed)
    for mesh in chosen:
        if force or confirm(f"Uninstall OSM {_title(mesh)}?"):
            failed |= _uninstall(cluster, mesh, ca_bundle_secret_name)
            if delete_namespace:
                failed |= _delete_namespace(cluster, mesh.namespace)
    if delete_namespace and not chosen and not options.config.is_managed:
        failed |= _delete_namespace(cluster, options.osm_namespace)
    if cluster_wide and (force or _may_delete_definitions(meshes)):
        failed |= _delete_definitions(cluster)
    if failed:
        kinds = ", ".join(sorted({ref.kind for ref in failed}))
        raise KubernetesError(f"not everything could be removed ({kinds}); run the command again")


def _chosen(meshes: tuple[Mesh, ...], mesh_name: str, *, is_managed: bool) -> tuple[Mesh, ...]:
    """The meshes to remove; where there is none, what there is is told."""
    if is_managed:
        warn("this mesh is managed by whoever provides it and cannot be uninstalled here")
        return ()
    if not meshes:
        say("No OSM control planes found")
    found = tuple(mesh for mesh in meshes if mesh_name in ("", mesh.name))
    if meshes and not found:
        say(f"Did not find mesh [{mesh_name}]. Meshes in the cluster:")
        _list(meshes)
    return found


def _uninstall(cluster: Cluster, mesh: Mesh, ca_secret: str) -> dict[ObjectRef, str]:
    """The mesh is gone; what is not."""
    secret = ca_secret or _ca_secret(cluster, mesh)
    with progress(f"uninstalling {_title(mesh)}") as told:
        removal = remove_mesh(cluster, mesh, ca_secret=secret, told=told, wait=Deadline(_PATIENCE))
    _report(removal)
    if not removal.failed:
        say(f"OSM {_title(mesh)} uninstalled")
    if removal.lingers:
        warn(f"Pods of the controller are still ending in namespace [{mesh.namespace}]")
    if removal.to_restart:
        say(
            "Sidecars run until their Pods are restarted, and lose their certificates within a "
            "day. Restart the workloads of:"
        )
        for name in removal.to_restart:
            say(f"  kubectl rollout restart deployment,statefulset,daemonset -n {name}")
    return removal.failed


def _ca_secret(cluster: Cluster, mesh: Mesh) -> str:
    """The root's Secret, as the mesh was installed."""
    release = read_release(cluster, mesh.name, mesh.namespace)
    given = (release.overrides.get("osm") or {}).get("caBundleSecretName") if release else None
    return str(given or DEFAULT_CA_SECRET)


def _delete_namespace(cluster: Cluster, name: str) -> dict[ObjectRef, str]:
    ref = ObjectRef(api_version="v1", kind="Namespace", name=name)
    removal = remove_refs(cluster, (ref,), lambda _: None)
    _report(removal)
    if not removal.failed:
        word = "deleted" if removal.removed else "not found"
        say(f"OSM namespace [{name}] {word}")
    return removal.failed


def _may_delete_definitions(meshes: tuple[Mesh, ...]) -> bool:
    if meshes:
        say("With the definitions go the policies of every mesh in the cluster:")
        _list(meshes)
    return confirm("Delete the definitions of the mesh's kinds and all objects of these kinds?")


def _delete_definitions(cluster: Cluster) -> dict[ObjectRef, str]:
    refs = [ObjectRef.of(raw) for raw in load_manifests(find_manifests()).crds]
    with progress("deleting definitions") as told:
        removal = remove_refs(cluster, refs, told)
    for ref in refs:
        if ref in removal.removed:
            say(f"Deleted definition {ref.name}")
        elif ref not in removal.failed:
            say(f"Ignored definition {ref.name}: it is not there")
    _report(removal)
    return removal.failed


def _report(removal: Removal) -> None:
    for ref, reason in removal.failed.items():
        warn(f"{ref} was not removed: {reason}")


def _list(meshes: Iterable[Mesh]) -> None:
    for mesh in meshes:
        say(f"  {_title(mesh)}")


def _title(mesh: Mesh) -> str:
    return f"[mesh name: {mesh.name}] in namespace [{mesh.namespace}]"
