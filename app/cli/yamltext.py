"""Objects as YAML text for people and for ``kubectl apply -f -``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

_NUMERIC = frozenset("+-.0123456789")
"""How numbers begin: kubectl reads 1e3 and 0o17 as such, where this library leaves them bare."""


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stay readable; no anchors, which people cannot edit."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else "'" if value[:1] in _NUMERIC else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def yaml_documents(documents: Iterable[Any]) -> str:
    """One YAML stream; fields in the order they have."""
    return yaml.dump_all(
        list(documents),
        Dumper=_Dumper,
        sort_keys=False,
        explicit_start=True,
        allow_unicode=True,
        width=100,
    )
