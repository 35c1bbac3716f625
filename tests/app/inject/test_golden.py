"""Injected Pods and their start-up files as golden files: ``NAME.yaml`` and what becomes of it.

Each input is a MeshConfig, perhaps a Namespace, and a Pod.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import golden
import pytest
import yaml
from envoy_harness.process import envoy_path
from injections import injected, shop

from app.inject.plan import Plan
from app.inject.secret import secret_files
from app.objects.meta import RawObject

HERE = golden.GOLDEN / "inject"
OUTPUTS = ("injected", "bootstrap")
NAMES = sorted(path.stem for path in HERE.glob("*.yaml") if "." not in path.stem)
CERTIFICATE, KEY = "sds_cert.pem", "sds_key.pem"

each_case = pytest.mark.parametrize("name", NAMES)


def documents(name: str) -> dict[str, RawObject]:
    return {d["kind"]: d for d in yaml.safe_load_all((HERE / f"{name}.yaml").read_text())}


def planned(name: str) -> Plan:
    given = documents(name)
    annotations = given.get("Namespace", {}).get("metadata", {}).get("annotations", {})
    return injected(
        given["Pod"],
        given["MeshConfig"]["spec"],
        native=given["MeshConfig"]["spec"]["sidecar"]["mode"] == "native",
        namespace=shop(metrics=annotations.get("openservicemesh.io/metrics")),
    )


@each_case
def test_injected_pod_is_golden(name: str) -> None:
    text = yaml.dump(planned(name).pod, Dumper=ReadableDumper, sort_keys=True)
    golden.check(HERE / f"{name}.injected.yaml", text)


@each_case
def test_bootstrap_is_golden(name: str) -> None:
    text = secret_files(planned(name).secret)["bootstrap.yaml"].decode()
    golden.check(HERE / f"{name}.bootstrap.yaml", text)


def test_every_golden_file_belongs_to_a_case() -> None:
    outputs = {f"{name}.{output}" for name in NAMES for output in OUTPUTS}
    assert {path.stem for path in HERE.iterdir()} == {*NAMES, *outputs}


@each_case
def test_input_is_not_touched(name: str) -> None:
    given = documents(name)["Pod"]
    before = yaml.safe_dump(given)
    injected(given)
    assert yaml.safe_dump(given) == before


@pytest.mark.envoy
@each_case
def test_envoy_accepts_the_bootstrap_without_a_warning(name: str, tmp_path: Path) -> None:
    plan = planned(name)
    write_files(plan, tmp_path)
    given = [arg.replace("/etc/envoy", str(tmp_path)) for arg in sidecar_of(plan)["args"]]
    given[given.index("--log-level") + 1] = "warning"
    command = [str(envoy_path()), *given, "--mode", "validate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def sidecar_of(plan: Plan) -> RawObject:
    spec = plan.pod["spec"]
    return next(c for c in [*spec["initContainers"], *spec["containers"]] if c["name"] == "envoy")


def write_files(plan: Plan, directory: Path) -> None:
    """What the kubelet would mount at /etc/envoy, with a certificate that Envoy can load."""
    for file, content in secret_files(plan.secret).items():
        (directory / file).write_bytes(content.replace(b"/etc/envoy", bytes(directory)))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=test"),
            *("-keyout", str(directory / KEY), "-out", str(directory / CERTIFICATE)),
        ],
        check=True,
        capture_output=True,
    )
    (directory / "cacert.pem").write_bytes((directory / CERTIFICATE).read_bytes())


class ReadableDumper(yaml.SafeDumper):
    """Scripts as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


ReadableDumper.add_representer(str, _text)
