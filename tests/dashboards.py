"""The dashboards of the manifests, as tests read them: their expressions and variables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from prometheus_server import OBSERVABILITY

_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")


def load_dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by its file's name, without the ending."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(OBSERVABILITY.glob("dashboards-*.yaml")):
        for name, text in yaml.safe_load(path.read_text())["data"].items():
            found[name.removesuffix(".json")] = json.loads(text)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable: the values of a label of these series."""

    name: str
    selector: str
    label: str


def choices(dashboard: Mapping[str, Any]) -> Iterator[Choice]:
    """The variables, in their order."""
    for variable in dashboard["templating"]["list"]:
        found = _LABEL_VALUES.fullmatch(variable["query"])
        assert found, variable["query"]
        yield Choice(name=variable["name"], selector=found["selector"], label=found["label"])


def expressions(panel: Mapping[str, Any]) -> list[str]:
    """What a panel asks for."""
    return [target["expr"] for target in panel["targets"]]


def filled(expression: str, values: Mapping[str, str]) -> str:
    """The expression with a value for each variable."""
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


def chosen(
    dashboard: Mapping[str, Any], labels: Callable[[str], list[dict[str, str]]]
) -> dict[str, str]:
    """A value for each variable: the first of those that Grafana would offer."""
    values: dict[str, str] = {}
    for choice in choices(dashboard):
        offered = {one.get(choice.label, "") for one in labels(filled(choice.selector, values))}
        values[choice.name] = min(offered - {""}, default="none")
    return values


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", bare)
    return set(re.findall(r"\b[a-zA-Z_]\w*\b(?!\s*\()", bare))
