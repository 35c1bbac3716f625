"""What every test shares: tests that lack root or an API server are left out, in words."""

import os
from collections.abc import Iterator

import kube_server
import pytest


# First: xdist reads the groups in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: run `sudo make test`"))
        if item.get_closest_marker("kube"):
            # One worker runs all that share a server.
            is_whole = "whole_kube" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("whole-kube" if is_whole else "kube"))
            if not kube_server.ASSETS:
                item.add_marker(pytest.mark.skip(reason=kube_server.HOW_TO_GET_ONE))

        if item.get_closest_marker("node") and not os.environ.get("K8S_NODE_TOOLS"):
            reason = "K8S_NODE_TOOLS is unset: name a folder with up.sh, down.sh, make-image.sh"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def kube() -> Iterator[kube_server.KubeServer]:
    """A real API server with controllers; the tests of one process share it, by namespaces."""
    with kube_server.running(controllers=True) as server:
        yield server


@pytest.fixture(scope="session")
def _one_by_one() -> Iterator[kube_server.KubeServer]:
    with kube_server.running(controllers=True) as server:
        yield server


@pytest.fixture(scope="module")
def whole_kube(_one_by_one: kube_server.KubeServer) -> Iterator[kube_server.KubeServer]:
    """A real API server for one module alone, which may change what is cluster-wide."""
    before = _one_by_one.keys()
    yield _one_by_one
    _one_by_one.erase_since(before)
