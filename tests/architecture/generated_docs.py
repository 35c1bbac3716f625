"""Pages of docs/ that are written from the code: settings, errors, metrics, commands.

``make docs`` writes them; ``test_docs`` compares. The code is the one place to change.
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import typer.main

from app import errors, main, metrics  # noqa: F401 main: a MeshError is known once imported
from app.cli.main import app
from app.inject import decide  # noqa: F401 likewise
from app.settings import Settings
from xds.resource import MeshError

DOCS = Path(__file__).parents[2] / "docs"
NOTE = "<!-- Written by `make docs` from the code; edit there. -->\n"


def settings_page() -> str:
    rows = [
        f"| `{name}` | `OSM_{name.upper()}` | `{field.default}` | {field.description} |"
        for name, field in sorted(Settings.model_fields.items())
    ]
    head = "# Settings\n\nProcess options, read once at start.\n\n"
    return NOTE + head + table("Setting | Variable | Default | Meaning", rows)


def errors_page() -> str:
    raised = {(e.code, e.__name__, inspect.getdoc(e) or "") for e in subclasses(MeshError)}
    found = {(code, name, meaning) for code, (name, meaning) in errors.FINDINGS.items()}
    rows = [
        f"| {code} | {name} | {one_line(text)} |" for code, name, text in sorted(raised | found)
    ]
    head = "# Errors\n\nEach message names what is wrong, where, and what to do.\n\n"
    return NOTE + head + table("Code | Name | Meaning", rows)


def metrics_page() -> str:
    # The library drops a counter's ending from its family's name; the page of /metrics has it.
    exact = [
        vars(metric)["name"] for metric in vars(metrics.Metrics()).values() if is_exact(metric)
    ]
    names = {name.removesuffix("_total"): name for name in exact}
    rows = [
        f"| `{names.get(m.name, m.name)}` | {m.type} | {one_line(m.documentation)} |"
        for m in sorted(metrics.Metrics().registry.collect(), key=lambda m: m.name)
        if m.name.startswith("osm_")
    ]
    head = "# Metrics\n\nMetrics of the control plane, at `/metrics`.\n\n"
    return NOTE + head + table("Metric | Type | Meaning", rows)


def is_exact(metric: object) -> bool:
    return isinstance(metric, metrics.ExactCounter)


def commands_page() -> str:
    lines = [
        f"- `{path}`: {one_line(command.help or '')}"
        for path, command in commands("osm", typer.main.get_command(app))
    ]
    return (
        NOTE + "# Commands\n\n`osm COMMAND --help` tells the options.\n\n" + "\n".join(lines) + "\n"
    )


def commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    children = getattr(command, "commands", {})
    if not children or command.invoke_without_command:
        yield path, command
    for name, child in sorted(children.items()):
        yield from commands(f"{path} {name}", child)


def subclasses(base: type[MeshError]) -> Iterator[type[MeshError]]:
    for child in base.__subclasses__():
        if child is not errors.AppError:
            yield child
        yield from subclasses(child)


def table(heading: str, rows: list[str]) -> str:
    columns = heading.count("|") + 1
    return f"| {heading} |\n|{'---|' * columns}\n" + "\n".join(rows) + "\n"


def one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "metrics.md": metrics_page,
    "cli.md": commands_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
