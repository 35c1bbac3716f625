"""What each case's proxy is configured with, word for word: golden files, reviewed like code."""

from __future__ import annotations

import json

import golden
import pytest
import xds_cases

from xds.builders.assemble import assemble, faults
from xds.cache import BuildCache
from xds.protos import to_json
from xds.resource import ResourceKind

CASES = golden.GOLDEN / "cases"


@pytest.mark.parametrize("name", sorted(xds_cases.CASES))
def test_resources_of_case(name: str) -> None:
    case, cache = xds_cases.CASES[name](), BuildCache()
    built = assemble(case.policy, case.endpoints, case.secrets, cache)
    assert built is not None
    assert faults(case.policy, cache) == ()
    for kind in ResourceKind:
        found = {r.name: to_json(r) for r in built.resources(kind)}
        text = json.dumps(found, indent=2, sort_keys=True) + "\n"
        golden.check(CASES / name / f"{kind.lower()}.json", text)


def test_every_golden_case_is_tested() -> None:
    assert {path.name for path in CASES.iterdir()} == set(xds_cases.CASES)


@pytest.mark.parametrize("name", sorted(xds_cases.CASES))
def test_two_builds_give_equal_bytes(name: str) -> None:
    first, second = (
        assemble(case.policy, case.endpoints, case.secrets, BuildCache())
        for case in (xds_cases.CASES[name](), xds_cases.CASES[name]())
    )
    assert first is not None
    assert second is not None
    assert first.versions == second.versions
