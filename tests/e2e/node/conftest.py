"""One node and one mesh for all tests of this folder; those that end the mesh come last."""

import time
from collections.abc import Iterator

import pytest
from e2e.node.cluster_node import EXAMPLE, ClusterNode

BOOKSTORE = (
    "bookbuyer/bookbuyer",
    "bookthief/bookthief",
    "bookstore/bookstore-v1",
    "bookstore/bookstore-v2",
    "bookwarehouse/bookwarehouse",
    "bookwarehouse/redis",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "test_uninstall" in item.nodeid)


@pytest.fixture(scope="session")
def node() -> Iterator[ClusterNode]:
    """A node with nothing on it but its images."""
    node = ClusterNode()
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def installation(node: ClusterNode) -> float:
    """The mesh is installed; seconds that took until it was ready."""
    began = time.monotonic()
    node.osm("install")
    return time.monotonic() - began


@pytest.fixture(scope="session")
def bookstore(node: ClusterNode, installation: float) -> ClusterNode:
    """The bookstore runs in SMI mode, every Pod ready."""
    del installation
    node.apply(EXAMPLE / "smi" / "mesh-config.yaml", EXAMPLE / "apps", EXAMPLE / "smi")
    node.wait_ready(*BOOKSTORE)
    return node
