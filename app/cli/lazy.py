"""Sub-commands whose modules are loaded when they are asked for, and not before.

A command of one machine, or ``osm version --client-only``, must not wait for the libraries of the
others. The config file of a managed installation hides the commands that install
(kubernetes-surface 7.1).
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from app.cli.cluster import config_path, read_config
from app.errors import SettingError

_INSTALLING = frozenset({"install", "dashboard", "upgrade"})


@dataclass(frozen=True, slots=True)
class Part:
    """Where a sub-command is: a Typer application, or the function of a single command."""

    module: str
    name: str = "app"
    hidden: bool = False
    """True for a second name, which help leaves out."""


class SelfHostedGroup(TyperGroup):
    """A group that hides the commands which install, where somebody else does that."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of registration, without those that are hidden."""
        hidden = _INSTALLING if read_config().is_managed else frozenset()
        return [name for name in super().list_commands(ctx) if name not in hidden]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; raise ``SettingError`` for one that is hidden."""
        if cmd_name in _INSTALLING and read_config().is_managed:
            raise SettingError(
                f"{config_path()} says install.kind: managed, so whoever provides this mesh "
                f"does `{cmd_name}`; write self-hosted to do it yourself"
            )
        return super().get_command(ctx, cmd_name)


def lazy_group(parts: dict[str, Part]) -> type[SelfHostedGroup]:
    """A group with these sub-commands behind those that are registered the usual way."""

    class LazyGroup(SelfHostedGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Commands(dict(self.commands), parts)

    return LazyGroup


class _Commands(MutableMapping[str, Any]):
    """Commands by name; one that is a part becomes a command when it is taken."""

    def __init__(self, known: dict[str, Any], parts: dict[str, Part]) -> None:
        self._known = known
        self._parts = parts

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = _command(name, self._parts[name])
        return self._known[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._known[name] = command

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._parts, **self._known})

    def __len__(self) -> int:
        return len(self._parts.keys() | self._known.keys())


def _command(name: str, part: Part) -> Any:
    found = getattr(import_module(part.module), part.name)
    if isinstance(found, typer.Typer):
        if not isinstance(found.info.cls, type):
            found.info.cls = SelfHostedGroup
        command: Any = get_group(found)
    else:
        alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        alone.command(name)(found)
        command = get_command(alone)
    command.name = name
    command.hidden = part.hidden or command.hidden
    return command
