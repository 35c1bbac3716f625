"""``osm install``: the manifests, with the values somebody set, into a cluster.

Reads what stands against it first, applies as the user's kubeconfig allows, waits until the
controller is ready and remembers what it did. Specification: kubernetes-surface 6.6, 7.2.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from app.cli.cluster import has_cluster, open_cluster, options_of
from app.cli.output import say, warn
from app.cli.rollout import (
    ChartPath,
    Plan,
    SetValues,
    Timeout,
    dialect_of,
    make_plan,
    parse_timeout,
    progress,
    wait_until_ready,
)
from app.cli.yamltext import yaml_documents
from app.errors import AppError, RefusedError
from app.install.apply import Applied, apply_objects
from app.install.overrides import parse_values
from app.install.preflight import obstacles, read_facts
from app.install.release import release_of, release_ref, write_release
from app.install.remove import remove_refs
from app.install.render import Dialect
from app.objects.meta import RawObject
from app.ports import Cluster


class ManifestFormat(StrEnum):
    """How ``--dry-run`` prints objects."""

    YAML = "yaml"
    JSON = "json"


MeshName = Annotated[
    str | None, typer.Option("--mesh-name", help="name of the new mesh (default: osm)")
]
EnforceSingleMesh = Annotated[
    bool | None,
    typer.Option(
        "--enforce-single-mesh/--no-enforce-single-mesh",
        help="no other mesh may be in the cluster (default)",
    ),
]
Atomic = Annotated[
    bool, typer.Option("--atomic", help="take everything back when the mesh does not get ready")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="print the objects instead of applying them")
]
DryRunFormat = Annotated[
    ManifestFormat, typer.Option("--output", "-o", help="format of --dry-run: yaml or json")
]


def install(
    context: typer.Context,
    chart_path: ChartPath = None,
    mesh_name: MeshName = None,
    enforce_single_mesh: EnforceSingleMesh = None,
    timeout: Timeout = "5m",
    values: SetValues = None,
    atomic: Atomic = False,
    dry_run: DryRun = False,
    output: DryRunFormat = ManifestFormat.YAML,
) -> None:
    """Install the control plane into a cluster and wait until it is ready."""
    flags = {"mesh_name": mesh_name, "enforce_single_mesh": enforce_single_mesh}
    given = {name: value for name, value in flags.items() if value is not None}
    patience = parse_timeout(timeout)
    plan = make_plan(
        parse_values(values or (), **given), chart_path, options_of(context).osm_namespace
    )
    if dry_run:
        _print(plan.objects(_dialect_here(context), with_definitions=True), output)
        return
    cluster = open_cluster(context)
    _check(cluster, plan)
    applied = _apply(cluster, plan)
    try:
        wait_until_ready(cluster, plan.installation.namespace, patience)
    except AppError:
        if atomic:
            _take_back(cluster, plan, applied)
        raise
    say(
        f"OSM installed successfully in namespace [{plan.installation.namespace}] "
        f"with mesh name [{plan.installation.mesh_name}]"
    )


def _check(cluster: Cluster, plan: Plan) -> None:
    facts = read_facts(cluster, plan.installation.namespace)
    found = obstacles(facts, plan.installation)
    if found:
        raise RefusedError("; ".join(str(obstacle) for obstacle in found))


def _apply(cluster: Cluster, plan: Plan) -> Applied:
    """Everything is applied and remembered."""
    with progress("installing") as told:
        objects = plan.objects(dialect_of(cluster))
        applied = apply_objects(cluster, objects, told)
        write_release(cluster, release_of(plan.installation, plan.overrides.tree, objects))
    return applied


def _take_back(cluster: Cluster, plan: Plan, applied: Applied) -> None:
    installation = plan.installation
    release = release_ref(installation.mesh_name, installation.namespace)
    with progress("taking back what was installed") as told:
        removal = remove_refs(cluster, (release, *reversed(applied.created)), told)
    for ref, reason in removal.failed.items():
        warn(f"{ref} was not taken back: {reason}")


def _dialect_here(context: typer.Context) -> Dialect:
    """That of the cluster where there is one to ask, else that of a new one."""
    return dialect_of(open_cluster(context)) if has_cluster(options_of(context)) else Dialect()


def _print(objects: list[RawObject], output: ManifestFormat) -> None:
    if output is ManifestFormat.JSON:
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        sys.stdout.write(json.dumps(listed, indent=2) + "\n")
    else:
        sys.stdout.write(yaml_documents(objects))
