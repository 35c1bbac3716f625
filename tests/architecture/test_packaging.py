"""The package ``xds`` is shared with generated messages, and works from source and as a wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
MESSAGE_CHILDREN = {"annotations", "core", "data", "service", "type"}


def test_no_child_of_xds_takes_a_name_of_the_generated_messages() -> None:
    children = {path.name for path in (ROOT / "xds").iterdir() if path.is_dir()}
    assert children & MESSAGE_CHILDREN == set()


def test_both_halves_of_the_shared_name_can_be_imported() -> None:
    code = (
        "import xds.policy.proxy, xds.core.v3.resource_pb2, envoy.config.listener.v3.listener_pb2"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_wheel_holds_every_module_and_manifest_and_no_test(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = {
        str(path.relative_to(source))
        for package in ("app", "xds")
        for path in (source / package).glob("**/*.py")
    }
    assert tracked <= names
    manifests = {str(path.relative_to(source)) for path in (source / "manifests").glob("**/*.yaml")}
    packed = {name.partition("share/osm/")[2] for name in names if "/share/osm/" in name}
    assert manifests == packed
    assert not [name for name in names if name.startswith("tests/")]
