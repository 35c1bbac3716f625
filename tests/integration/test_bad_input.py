"""Each invalid example gives one message with file, line and field, and changes nothing else."""

import shutil
from pathlib import Path

import pytest

from app.compute.local import LocalObjects
from app.controller.runtime import Runtime
from app.mesh.snapshot import MeshSnapshot
from app.ports import Compute
from app.settings import Settings
from app.standalone.admission import Admission

EXAMPLES = Path(__file__).parents[2] / "examples"
ADMISSION = Admission(
    lambda service: f"10.43.0.{len(service.path)}", mesh_config=("osm-system", "osm-mesh-config")
)


def read(folders: list[Path], state: Path) -> MeshSnapshot:
    """The snapshot of a control plane that read the folders."""
    objects = LocalObjects(folders, admit=ADMISSION)
    objects.load()
    settings = Settings(ads_host="127.0.0.1", ads_port=0, state_dir=state)
    runtime = Runtime(settings, Compute(source=objects, writer=objects, envoy_admin=None))
    try:
        runtime.start()
        assert runtime.snapshot is not None
        return runtime.snapshot
    finally:
        runtime.stop()


@pytest.mark.parametrize(
    ("file", "line", "field", "words"),
    [
        pytest.param("broken.yaml", 4, "", ["is not YAML"], id="broken-yaml"),
        pytest.param("unknown-kind.yaml", 3, "kind", ["TeaParty", "TrafficSplit"], id="kind"),
        pytest.param(
            "split-weight.yaml", 8, "spec.backends[0].weight", ["number"], id="weight-no-number"
        ),
        pytest.param("split-same-root.yaml", 2, "spec.service", ["bookstore/bookstore"], id="root"),
        pytest.param(
            "split-missing-service.yaml", 2, "spec.backends[0].service", ["nowhere"], id="service"
        ),
        pytest.param("target-missing-route.yaml", 2, "spec.rules[0].name", ["nowhere"], id="route"),
        pytest.param(
            "target-missing-account.yaml", 2, "spec.sources[0].name", ["nowhere"], id="account"
        ),
        pytest.param(
            "pod-port-twice.yaml",
            15,
            "spec.containers[1].ports[0].containerPort",
            ["8080"],
            id="port-twice",
        ),
        pytest.param(
            "pod-without-command.yaml", 8, "spec.containers[0].command", ["command"], id="command"
        ),
        pytest.param("long-pattern.yaml", 6, "spec.matches[0].pathRegex", ["2048"], id="100-kB"),
    ],
)
def test_invalid_example_is_one_message_and_harms_nobody(
    file: str, line: int, field: str, words: list[str], tmp_path: Path
) -> None:
    good = [EXAMPLES / "bookstore" / "apps", EXAMPLES / "bookstore" / "smi"]
    bad = tmp_path / "bad"
    bad.mkdir()
    if file == "long-pattern.yaml":
        (bad / file).write_text(long_pattern())
    else:
        shutil.copy(EXAMPLES / "invalid" / file, bad / file)
    alone, together = read(good, tmp_path), read([*good, bad], tmp_path)
    (rejected,) = together.rejected
    assert (rejected.where, rejected.field) == (f"{bad / file}:{line}", field)
    assert [word for word in words if word not in rejected.reason] == []
    assert together.services.views == alone.services.views
    assert together.rules.splits == alone.rules.splits
    assert [rule for rule in together.rules.access if rule in alone.rules.access] == list(
        alone.rules.access
    )


def long_pattern() -> str:
    """Too long to keep in a file of the examples."""
    return (
        "apiVersion: specs.smi-spec.io/v1alpha4\n"
        "kind: HTTPRouteGroup\n"
        "metadata: {name: long, namespace: bookstore}\n"
        "spec:\n"
        "  matches:\n"
        f"    - {{name: all, pathRegex: '{'x' * 100_000}'}}\n"
    )
