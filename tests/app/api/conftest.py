"""A real runtime that read the bookstore and one bad file, for every test of the API."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.cluster import FakeCluster

from app.compute.local import LocalObjects
from app.controller.runtime import Runtime
from app.errors import ForbiddenError, UnauthenticatedError, UnreachableError
from app.ports import Caller, Cluster, Compute
from app.settings import Settings
from app.standalone.admission import Admission

ADMISSION = Admission(
    lambda service: f"10.43.0.{len(service.path)}", mesh_config=("osm-system", "osm-mesh-config")
)
BOOKSTORE = Path(__file__).parents[3] / "examples" / "bookstore"


class FakeAuthenticator:
    """Implements ``Authenticator``: a token says itself who shows it and what that one may do."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.asked: list[tuple[str, str]] = []

    def caller(self, token: str, verb: str) -> Caller:
        self.asked.append((token, verb))
        if token == "api-server-is-gone":
            raise UnreachableError("https://10.0.0.1 does not answer")
        if token not in ("reader", "writer"):
            raise UnauthenticatedError("the token is not known")
        if (token, verb) == ("reader", "update"):
            raise ForbiddenError("reader may not update meshconfigs")
        return Caller(name=token)

    def cluster_as(self, token: str) -> Cluster:
        assert token in ("reader", "writer")
        return self.cluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "osm-system"}},
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": "taken",
                "labels": {"openservicemesh.io/monitored-by": "other"},
            },
        },
    )


@pytest.fixture
def in_cluster(runtime: Runtime, cluster: FakeCluster) -> Iterator[Runtime]:
    """The same runtime as if it ran in a cluster: callers show tokens."""
    alone = runtime.compute
    runtime.compute = replace(alone, authenticator=FakeAuthenticator(cluster), cluster=cluster)
    yield runtime
    runtime.compute = alone


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    folder = tmp_path_factory.mktemp("objects")
    (folder / "bad.yaml").write_text(
        "apiVersion: split.smi-spec.io/v1alpha2\n"
        "kind: TrafficSplit\n"
        "metadata: {name: bad, namespace: bookstore}\n"
        "spec:\n"
        "  service: bookwarehouse\n"
        "  backends:\n"
        "    - {service: bookstore-v1, weight: ninety}\n"
    )
    objects = LocalObjects([BOOKSTORE / "apps", BOOKSTORE / "smi", folder], admit=ADMISSION)
    objects.load()
    compute = Compute(source=objects, writer=objects, envoy_admin=None)
    settings = Settings(ads_host="127.0.0.1", ads_port=0, state_dir=folder / "state")
    running = Runtime(settings, compute)
    running.start()
    yield running
    running.stop()
