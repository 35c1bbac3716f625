"""``osm version``: which builds are at work."""

from __future__ import annotations

from importlib.metadata import version as distribution_version
from typing import Annotated

import typer

from app.cli.output import Output, OutputFormat, console, emit_json


def version(
    client_only: Annotated[bool, typer.Option("--client-only", help="do not ask a mesh")] = False,
    api: Annotated[str, typer.Option(help="admin API of the mesh")] = "http://127.0.0.1:9091",
    output: Output = OutputFormat.TABLE,
) -> None:
    """Versions of this command and of the mesh it reaches."""
    client = distribution_version("openservicemesh")
    mesh = None if client_only else _ask(api)
    if output is OutputFormat.JSON:
        emit_json({"client": client, "mesh": mesh})
        return
    console.print(f"CLI version {client}", highlight=False)
    if mesh is not None:
        console.print(f"mesh {mesh['mesh_name']} version {mesh['version']}", highlight=False)


def _ask(api: str) -> dict[str, str]:
    from app.cli.client import AdminClient  # noqa: PLC0415 --client-only answers at once

    answer: dict[str, str] = AdminClient(api).get("/version")
    return answer
