"""The ``osm`` command tree.

Each command asks the admin API, works on local files, or starts the process; none reaches into
another process's state. Errors of the mesh end a command with one line and exit status 1.
"""

from __future__ import annotations

from importlib.metadata import version as distribution_version
from typing import Annotated

import typer

from app.cli import demo, inspect, standalone
from app.cli.client import DEFAULT_API, AdminClient
from app.cli.output import Output, OutputFormat, console, emit_json, fail
from app.errors import AppError, RightsError
from xds.resource import MeshError

app = typer.Typer(
    name="osm",
    help="Open Service Mesh, for Kubernetes and for one machine without a cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.add_typer(standalone.app, name="standalone")
app.add_typer(demo.app, name="demo")
app.add_typer(inspect.proxy_app, name="proxy")
app.add_typer(inspect.service_app, name="service")
app.add_typer(inspect.policy_app, name="policy")


@app.command()
def version(
    client_only: Annotated[bool, typer.Option("--client-only", help="do not ask a mesh")] = False,
    api: Annotated[str, typer.Option(help="admin API of the mesh")] = DEFAULT_API,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Versions of this command and of the mesh it reaches."""
    client = distribution_version("openservicemesh")
    mesh = None if client_only else AdminClient(api).get("/version")
    if output is OutputFormat.JSON:
        emit_json({"client": client, "mesh": mesh})
        return
    console.print(f"CLI version {client}", highlight=False)
    if mesh is not None:
        console.print(f"mesh {mesh['mesh_name']} version {mesh['version']}", highlight=False)


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
