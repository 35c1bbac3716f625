"""What every test shares: tests that lack root or an API server are left out, in words."""

import functools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kube_server
import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
POLICY_TESTS = "tests/e2e/policies/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: run `sudo make test`"))
        if item.get_closest_marker("kube") and not kube_server.ASSETS:
            item.add_marker(pytest.mark.skip(reason=kube_server.HOW_TO_GET_ONE))
        if item.get_closest_marker("node") and not os.environ.get("K8S_NODE_TOOLS"):
            reason = "K8S_NODE_TOOLS is unset: name a folder with up.sh, down.sh, make-image.sh"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason why tests were left out."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} left out: {reason}", yellow=True)


class ByServer(LoadScopeScheduling):
    """Gives tests that share a server to one worker, every other test to whoever is free.

    A file that needs an API server is such a set, and so are all tests of the policies' mesh.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith(POLICY_TESTS):
            return POLICY_TESTS
        return file if _needs_server(file) else nodeid


@functools.cache
def _needs_server(file: str) -> bool:
    return "mark.kube" in (ROOT / file).read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer | None:
    """For ``--dist loadgroup``, whose own groups pytest 9.2 does not hand to xdist 3.8."""
    return ByServer(config, log) if config.getoption("dist") == "loadgroup" else None


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
