"""What the CLI prints: tables for people, JSON for programs, one sentence for an error.

Every list command takes ``-o json``; the JSON is that of the admin API. Errors go to standard error
as one line, with exit status 1 (kubernetes-surface 7.1).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

# What is printed comes from users and Envoys: "[a-z]+" is a pattern, not markup.
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)


class OutputFormat(StrEnum):
    """How a command prints its answer."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="table or json")]


def emit_json(value: Any) -> None:
    """Standard output holds the value as one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=False) + "\n")


def emit_rows(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], output: OutputFormat
) -> None:
    """The rows are printed: as they are in JSON, or the named columns as a table.

    ``columns`` maps a field (dots reach into nested ones) to its heading, in capitals.
    """
    if output is OutputFormat.JSON:
        emit_json(list(rows))
        return
    console.print(table_of(columns.values(), ([cell(row, c) for c in columns] for row in rows)))


def table_of(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table: headings in capitals, no lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def cell(row: Mapping[str, Any], path: str) -> str:
    """The text of a field; lists joined by commas, nothing as ``-``."""
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "-"
    return "-" if value in (None, "") else str(value)


def fail(message: str, status: int = 1) -> typer.Exit:
    """The message stands on standard error; raise the result to end with the status."""
    errors.print(Text.assemble(("error:", "bold red"), " ", message), soft_wrap=True)
    return typer.Exit(status)


def say(message: str) -> None:
    """A sentence for people on standard output, as it is: not wrapped, not coloured."""
    console.print(message, highlight=False, soft_wrap=True)


def warn(message: str) -> None:
    """The message stands on standard error; the command goes on."""
    errors.print(Text.assemble(("warning:", "bold yellow"), " ", message), soft_wrap=True)
