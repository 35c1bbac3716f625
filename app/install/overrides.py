"""What a user set: ``--set`` texts and flags to typed values, with warnings about the rest.

Called by the CLI; ``app.install.values`` says which values there are. Specification:
kubernetes-surface 6.4 and 7.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from app.errors import SettingError
from app.install.assignments import Tree, parse_assignments
from app.install.values import NotUsed, Values, ValuesModel
from app.objects.meta import field_path, shown

_OLD_ROOT = "OpenServiceMesh"
"""What the values of the original's first releases were below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a user set: as values, as the tree to record, and what to tell about it."""

    values: Values
    tree: Tree
    warnings: tuple[str, ...] = ()


def parse_values(texts: Iterable[str], **below_osm: Any) -> Overrides:
    """The values of ``--set`` texts; ``below_osm`` are those of flags, which win.

    Raise ``SettingError`` naming the first value that will not do.
    """
    tree = parse_assignments(texts)
    warnings = list(_renamed(tree))
    if below_osm:
        given = tree.setdefault("osm", {})
        if isinstance(given, dict):
            given.update({to_camel(name): value for name, value in below_osm.items()})
    return overrides_of(tree, tuple(warnings))


def overrides_of(tree: Tree, warnings: tuple[str, ...] = ()) -> Overrides:
    """The values of a tree; raise ``SettingError`` naming the first that will not do."""
    values = validate_values(tree)
    unused = tuple(_without_effect(values, tree))
    return Overrides(values=values, tree=tree, warnings=tuple(dict.fromkeys((*warnings, *unused))))


def validate_values(tree: Tree) -> Values:
    """The values of a tree; raise ``SettingError`` naming the first that will not do."""
    try:
        return Values.model_validate(_without_nulls(tree))
    except ValidationError as error:
        raise _setting_error(error) from error


def known_names() -> tuple[str, ...]:
    """Every value there is, such as ``osm.image.tag``; sorted."""
    return tuple(sorted(_names(Values, "")))


def _renamed(tree: Tree) -> Iterator[str]:
    old = tree.pop(_OLD_ROOT, None)
    if isinstance(old, dict):
        given = tree.setdefault("osm", {})
        if isinstance(given, dict):
            given.update(old)
        yield f"values below {_OLD_ROOT} are below osm now; write osm.{next(iter(old), '')}"


def _without_nulls(value: Any) -> Any:
    """Null stands for the default, as if it had not been set."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _without_effect(model: ValuesModel, tree: Any, prefix: str = "") -> Iterator[str]:
    for name, field in type(model).model_fields.items():
        alias = field.alias or name
        if name not in model.model_fields_set:
            continue
        value = getattr(model, name)
        if isinstance(value, ValuesModel):
            yield from _without_effect(value, tree.get(alias), f"{prefix}{alias}.")
        for mark in field.metadata:
            if isinstance(mark, NotUsed):
                yield f"{prefix}{alias} has no effect: {mark.why}"


def _names(model: type[ValuesModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield path
        if isinstance(field.annotation, type) and issubclass(field.annotation, ValuesModel):
            yield from _names(field.annotation, f"{path}.")


def _setting_error(error: ValidationError) -> SettingError:
    first = error.errors()[0]
    path = field_path(first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(path, known_names(), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        return SettingError(f"--set {path}: there is no such value{hint}")
    is_whole_sentence = ", not " in first["msg"]
    found = "" if is_whole_sentence else f", not {shown(first['input'])}"
    return SettingError(f"--set {path}: {first['msg']}{found}")
