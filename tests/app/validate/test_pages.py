"""Objects that pages show are taken as they stand, without a word."""

from __future__ import annotations

import re
from pathlib import Path

import factory
import pytest
import yaml
from judged import reasons, warnings

DOCS = Path(__file__).parents[3] / "docs"
PAGES = ["traffic.md"]
WORLD = [factory.mesh_config(featureFlags={"enableRetryPolicy": True})]
WORLD += [factory.namespace("shop"), factory.account("shop/buyer")]
for name in ("web", "web-next"):
    WORLD += [
        factory.service(f"shop/{name}"),
        factory.pod(f"shop/{name}", ports={"http": 8080}),
        factory.endpoints(f"shop/{name}", {name: factory.address_of(f"shop/{name}")}),
    ]


def blocks(page: str) -> list[str]:
    """The YAML that the page shows."""
    return re.findall(r"^```yaml\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_objects_of_a_page_are_good(page: str) -> None:
    assert blocks(page)
    for block in blocks(page):
        objects = list(yaml.safe_load_all(block))
        paths = [path for one in objects for path in _paths(one)]
        groups = factory.route_group("shop/paths", **{f"p{i}": p for i, p in enumerate(paths)})
        for one in objects:
            world = [*WORLD, groups, *(other for other in objects if other is not one)]
            assert (reasons(one, *world), warnings(one, *world)) == ({}, {}), block


def _paths(one: dict[str, object]) -> list[str]:
    """Path patterns that the object repeats of an HTTPRouteGroup."""
    spec = one["spec"]
    assert isinstance(spec, dict)
    return [route["path"] for route in spec.get("httpRoutes", ())]
