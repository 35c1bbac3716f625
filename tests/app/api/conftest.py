"""A real runtime that read the bookstore and one bad file, for every test of the API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.compute.local import LocalObjects
from app.controller.runtime import Runtime
from app.ports import Compute
from app.settings import Settings
from app.standalone.admission import Admission

ADMISSION = Admission(
    lambda service: f"10.43.0.{len(service.path)}", mesh_config=("osm-system", "osm-mesh-config")
)
BOOKSTORE = Path(__file__).parents[3] / "examples" / "bookstore"


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
