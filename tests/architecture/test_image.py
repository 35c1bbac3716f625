"""The image holds the program, what it needs, and nothing to build or test with."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="compiled modules of the image are for Python 3.11"
)

ROOT = Path(__file__).parents[2]
TOOLS = ("pip", "setuptools", "pytest", "mypy", "ruff", "hypothesis", "grpc_tools")


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What image/rootfs.py makes."""
    folder = tmp_path_factory.mktemp("image") / "rootfs"
    made = subprocess.run(
        [sys.executable, ROOT / "image" / "rootfs.py", folder], capture_output=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return folder


def test_program_runs_from_what_the_image_holds_alone(rootfs: Path) -> None:
    packages = rootfs / "opt/osm/site-packages"
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
        f"sys.path.insert(0, {str(packages)!r}); "
        "import app.cli.control_plane, app.cli.main, xds.server.serve, app; print(app.__file__)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert ran.stdout.strip() == str(packages / "app/__init__.py"), ran.stderr


def test_launcher_and_manifests_are_where_the_deployment_wants_them(rootfs: Path) -> None:
    launcher = rootfs / "usr/local/bin/osm"
    assert launcher.stat().st_mode & 0o777 == 0o755
    assert (rootfs / "usr/share/osm/manifests/kustomization.yaml").is_file()
    assert (rootfs / "usr/share/osm/manifests/crds/meshconfigs.yaml").is_file()


def test_nothing_to_build_or_test_with_is_in_it(rootfs: Path) -> None:
    packages = rootfs / "opt/osm/site-packages"
    assert [tool for tool in TOOLS if (packages / tool).exists()] == []
    assert not list(packages.glob("**/_bin/envoy"))
    assert not list(packages.glob("__editable__*"))
