"""What the cluster remembers of an installation."""

from __future__ import annotations

import base64
from typing import Any

import factory
import pytest
from fakes.cluster import FakeCluster

from app.errors import ObjectError
from app.install.overrides import parse_values
from app.install.release import (
    Release,
    decode_release,
    encode_release,
    read_release,
    release_of,
    write_release,
)
from app.install.render import Installation
from app.objects.meta import ObjectRef

RELEASE = Release(
    mesh_name="shop",
    namespace="mesh",
    version="2.0.0",
    overrides={"osm": {"meshName": "shop", "sidecarImage": "of the user"}},
    objects=(ObjectRef(api_version="v1", kind="Service", namespace="mesh", name="a"),),
)


def test_a_release_is_what_was_applied() -> None:
    parsed = parse_values(["osm.meshName=shop,osm.sidecarImage=of the user"])
    installation = Installation(values=parsed.values, namespace="mesh", version="2.0.0")
    assert release_of(installation, parsed.tree, [factory.raw("Service", "mesh/a")]) == RELEASE


def test_a_release_is_written_and_read() -> None:
    cluster = FakeCluster()
    assert read_release(cluster, "shop", "mesh") is None
    write_release(cluster, RELEASE)
    assert read_release(cluster, "shop", "mesh") == RELEASE
    assert read_release(cluster, "other", "mesh") is None


def test_a_release_is_found_by_the_name_of_its_mesh() -> None:
    metadata = encode_release(RELEASE)["metadata"]
    assert metadata["labels"]["meshName"] == "shop"
    assert metadata["labels"]["app.kubernetes.io/instance"] == "shop"


def test_overrides_are_not_shown() -> None:
    assert "of the user" not in repr(RELEASE)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="no-data"),
        pytest.param({"release.json": "!"}, id="not-base64"),
        pytest.param({"release.json": base64.b64encode(b"{").decode()}, id="not-json"),
        pytest.param({"release.json": base64.b64encode(b"{}").decode()}, id="no-name"),
        pytest.param({"release.json": base64.b64encode(b"[]").decode()}, id="list"),
    ],
)
def test_a_secret_of_somebody_else_is_named(data: Any) -> None:
    with pytest.raises(ObjectError, match="Secret mesh/osm-release-shop is not a release"):
        decode_release(factory.raw("Secret", "mesh/osm-release-shop", data=data))
