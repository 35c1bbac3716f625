"""Each invalid example gives one message with file, line and promised words; it changes nothing.

The examples in ``invalid/`` are refused by a cluster too, with the same words: the tests on a
cluster read the same promises. Those in ``invalid-standalone/`` a cluster takes, with a warning.
"""

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
PROMISE = "# refused: "
OF_THE_KUBELET = "pod-missing-account.yaml"
"""It looks for accounts when it starts a Pod; tests/app/standalone/test_kubelet.py has the case."""
LINES = {
    "broken.yaml": 5,
    "egress-match-group.yaml": 14,
    "egress-match-kind.yaml": 14,
    "ingress-duplicate.yaml": 10,
    "ingress-no-principal.yaml": 9,
    "ingress-protocol.yaml": 9,
    "ingress-range.yaml": 11,
    "ingress-source.yaml": 11,
    "pod-port-exclusion.yaml": 9,
    "pod-port-twice.yaml": 17,
    "pod-without-command.yaml": 10,
    "root-two-providers.yaml": 9,
    "setting-host.yaml": 8,
    "setting-status.yaml": 11,
    "split-missing-service.yaml": 4,
    "split-same-root.yaml": 4,
    "split-weight.yaml": 10,
    "target-foreign-namespace.yaml": 8,
    "target-missing-account.yaml": 4,
    "target-missing-route.yaml": 4,
    "unknown-kind.yaml": 4,
}
FILES = [
    pytest.param(file, id=f"{file.parent.name}-{file.stem}")
    for folder in ("invalid", "invalid-standalone")
    for file in sorted((EXAMPLES / folder).glob("*.yaml"))
    if file.name != OF_THE_KUBELET
]


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


def harm(bad: Path, state: Path) -> tuple[str, str]:
    """Place and text of the one message about a folder beside the bookstore's; nothing else."""
    good = [EXAMPLES / "bookstore" / "apps", EXAMPLES / "bookstore" / "smi"]
    alone, together = read(good, state), read([*good, bad], state)
    (rejected,) = together.rejected
    assert together.services.views == alone.services.views
    assert together.rules.splits == alone.rules.splits
    assert [rule for rule in together.rules.access if rule in alone.rules.access] == list(
        alone.rules.access
    )
    return rejected.where, f"{rejected.field}: {rejected.reason}"


@pytest.mark.parametrize("file", FILES)
def test_invalid_example_is_one_message_and_harms_nobody(file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    shutil.copy(file, bad)
    promised = [
        line.removeprefix(PROMISE)
        for line in file.read_text().splitlines()
        if line.startswith(PROMISE)
    ]
    where, message = harm(bad, tmp_path)
    assert promised, "write what the example is refused with"
    assert [words for words in promised if words not in message] == []
    assert where == f"{bad / file.name}:{LINES[file.name]}"


def test_pattern_of_100_kilobytes_is_one_message_and_harms_nobody(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "long-pattern.yaml").write_text(
        "apiVersion: specs.smi-spec.io/v1alpha4\n"
        "kind: HTTPRouteGroup\n"
        "metadata: {name: long, namespace: bookstore}\n"
        "spec:\n"
        "  matches:\n"
        f"    - {{name: all, pathRegex: '{'x' * 100_000}'}}\n"
    )
    where, message = harm(bad, tmp_path)
    assert where == f"{bad / 'long-pattern.yaml'}:6"
    assert message.startswith("spec.matches[0].pathRegex: may have at most 2048 characters")
