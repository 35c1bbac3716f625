"""docs/features.md names every field of every custom resource and a test that proves it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
UNPROVEN: dict[str, tuple[str, ...]] = {
    "ExtensionService": ("",),
    "MeshConfig": (
        "spec.observability.tracing",
        "spec.observability.prometheusAddress",
        "spec.featureFlags.enableMeshRootCertificate",
    ),
    "MeshRootCertificate": ("",),
    "Telemetry": ("",),
}
"""Fields that may say ``not yet``, by how they begin. Take them out; add none."""
ROW = re.compile(r"^\| `([^`]+)` \| (.+) \| (?:`(.+)`|not yet) \|$", re.MULTILINE)


def fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths of the leaves, ``spec.sources[].name``."""
    if schema.get("type") == "array":
        yield from fields(schema["items"], f"{path}[]")
    elif schema.get("properties"):
        for name, inner in schema["properties"].items():
            yield from fields(inner, f"{path}.{name}" if path else name)
    else:
        yield path


def definitions() -> Iterator[dict[str, Any]]:
    for path in sorted((ROOT / "manifests" / "crds").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def fields_of_all_kinds() -> dict[str, set[str]]:
    """By kind, of all versions that are served."""
    found: dict[str, set[str]] = {}
    for definition in definitions():
        kind = found.setdefault(definition["spec"]["names"]["kind"], set())
        for version in definition["spec"]["versions"]:
            if version["served"]:
                kind |= set(fields(version["schema"]["openAPIV3Schema"]))
    return found


SECTIONS = {
    part.partition("\n")[0]: ROW.findall(part)
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
FIELDS = fields_of_all_kinds()
PROOFS = sorted({test for rows in SECTIONS.values() for _, _, test in rows if test})


@cache
def functions_of(file: str) -> set[str]:
    path = ROOT / file
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_kind_has_a_section() -> None:
    assert sorted(SECTIONS) == sorted(FIELDS)


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_every_field_has_one_row(kind: str) -> None:
    rows = [field for field, _, _ in SECTIONS.get(kind, ())]
    assert sorted(rows) == sorted(FIELDS[kind])


@pytest.mark.parametrize("kind", sorted(SECTIONS))
def test_every_line_of_a_table_is_a_row(kind: str) -> None:
    (section,) = re.findall(rf"^## {kind}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(lines) == len(SECTIONS[kind])


@pytest.mark.parametrize("proof", PROOFS)
def test_every_proof_exists(proof: str) -> None:
    file, _, test = proof.partition("::")
    assert test.startswith("test_")
    assert test in functions_of(file)


@pytest.mark.parametrize("kind", sorted(SECTIONS))
def test_fields_are_proven(kind: str) -> None:
    unproven = [field for field, _, test in SECTIONS[kind] if not test]
    left = UNPROVEN.get(kind, ())
    assert [field for field in unproven if not field.startswith(left)] == []
    assert [start for start in left if not any(f.startswith(start) for f in unproven)] == []
