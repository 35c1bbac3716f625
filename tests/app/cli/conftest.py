from __future__ import annotations

from collections.abc import Iterator

import pytest
from kube_server import KubeServer
from osm_command import Osm


@pytest.fixture
def osm(whole_kube: KubeServer) -> Iterator[Osm]:
    """The command, for a cluster without a mesh."""
    before = whole_kube.keys()
    made = Osm(whole_kube)
    yield made
    made.done("uninstall", "mesh", "--force")
    whole_kube.erase_since(before)
