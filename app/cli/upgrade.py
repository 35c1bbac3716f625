"""``osm mesh upgrade``: a running mesh, or an original installation, to this release.

What makes the mesh stays (names, trust domain, root, MeshConfig, namespaces); other values start
anew. Nothing of the old release goes before the new one is ready. Specification:
kubernetes-surface 6.8; docs/upgrade-from-osm.md.
"""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.cluster import DEFAULT_MESH, open_cluster
from app.cli.output import say, warn
from app.cli.rollout import (
    ChartPath,
    SetValues,
    Timeout,
    dialect_of,
    make_plan,
    parse_timeout,
    progress,
    wait_until_ready,
)
from app.errors import NotFoundError, RefusedError
from app.install.apply import apply_objects
from app.install.meshes import Mesh, read_meshes
from app.install.overrides import overrides_of, parse_values
from app.install.release import Release, read_release, release_of, write_release
from app.install.remove import remove_refs
from app.install.takeover import (
    Running,
    in_removal_order,
    in_two_steps,
    kept_values,
    obsolete_refs,
    read_running,
    upgraded_values,
)
from app.install.values import Values
from app.objects.meta import ObjectRef, RawObject
from app.ports import Cluster


def upgrade(
    context: typer.Context,
    mesh_name: Annotated[
        str, typer.Option("--mesh-name", help="the mesh to upgrade")
    ] = DEFAULT_MESH,
    chart_path: ChartPath = None,
    values: SetValues = None,
    reuse_values: Annotated[
        bool, typer.Option("--reuse-values", help="keep what was set at the last installation")
    ] = False,
    timeout: Timeout = "5m",
) -> None:
    """Bring a mesh to this release; also one that the original OSM installed."""
    given, patience = parse_values(values or ()), parse_timeout(timeout)
    cluster = open_cluster(context)
    mesh = _find(cluster, mesh_name)
    _check_names(given.values, mesh)
    running = read_running(cluster, mesh)
    previous = read_release(cluster, mesh.name, mesh.namespace)
    tree, dropped = upgraded_values(
        kept_values(running), previous.overrides if previous else {}, given.tree, reuse=reuse_values
    )
    _announce(mesh, dropped)
    plan = make_plan(overrides_of(tree, given.warnings), chart_path, mesh.namespace)
    objects = plan.objects(dialect_of(cluster))
    now, then = in_two_steps(mesh, objects)
    with progress(f"upgrading mesh [{mesh.name}]") as told:
        apply_objects(cluster, now, told)
    wait_until_ready(cluster, mesh.namespace, patience)
    with progress("tidying up") as told:
        apply_objects(cluster, then, told)
        _remove_rest(cluster, running, previous, objects)
        # Last: until here the release says what was there before, should this be broken off.
        write_release(cluster, release_of(plan.installation, tree, objects))
    _tell_end(mesh)


def _find(cluster: Cluster, name: str) -> Mesh:
    meshes = read_meshes(cluster)
    for mesh in meshes:
        if mesh.name == name:
            return mesh
    there = ", ".join(f"[{mesh.name}] in namespace [{mesh.namespace}]" for mesh in meshes)
    raise NotFoundError(
        f"mesh [{name}] does not exist; "
        + (f"there is {there}: name it with --mesh-name" if there else "install it: osm install")
    )


def _check_names(given: Values, mesh: Mesh) -> None:
    """A running mesh keeps its name and place: its members, certificates and sidecars have them."""
    wanted = given.osm
    if "mesh_name" in wanted.model_fields_set and wanted.mesh_name != mesh.name:
        raise RefusedError(f"mesh [{mesh.name}] cannot be renamed; leave out osm.meshName")
    if wanted.osm_namespace not in ("", mesh.namespace):
        raise RefusedError(
            f"mesh [{mesh.name}] cannot move out of namespace [{mesh.namespace}]; "
            "leave out osm.osmNamespace"
        )


def _announce(mesh: Mesh, dropped: tuple[str, ...]) -> None:
    if mesh.is_original:
        say(
            f"Taking over mesh [{mesh.name}] of the original OSM {mesh.version}: its MeshConfig, "
            "root, webhooks and members stay"
        )
    if dropped:
        warn(
            f"back at their defaults: {', '.join(dropped)}; set them again with --set, or keep "
            "them all with --reuse-values"
        )


def _remove_rest(
    cluster: Cluster, running: Running, previous: Release | None, objects: list[RawObject]
) -> None:
    """What only the old release had is gone; what cannot be removed is told."""
    current = tuple(ObjectRef.of(raw) for raw in objects)
    rest = set(previous.objects if previous else ()) - set(current)
    rest |= set(obsolete_refs(cluster, running, current))
    removal = remove_refs(cluster, in_removal_order(rest), lambda _: None)
    for ref, reason in removal.failed.items():
        warn(f"{ref} is not needed any more but could not be removed: {reason}")


def _tell_end(mesh: Mesh) -> None:
    say(f"OSM successfully upgraded mesh [{mesh.name}] in namespace [{mesh.namespace}]")
    if mesh.members:
        say(
            "Running sidecars keep their version until their Pods are restarted. Members: "
            + ", ".join(mesh.members)
        )
