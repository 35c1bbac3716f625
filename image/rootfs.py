"""What the container image holds beside its base: ``python image/rootfs.py DIRECTORY``.

Copies the program and the run-time closure of its dependencies out of the environment this runs in,
which `make` (or the Dockerfile) filled from requirements.txt with hashes; extras, tests and tools
stay behind. So the image is the same whether an engine builds it or none. The result belongs to the
Python release it was made with: compiled modules do not move to another.
"""

from __future__ import annotations

import compileall
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from py_compile import PycInvalidationMode

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "openservicemesh"
CHECKOUT = Path(__file__).parents[1]
PACKAGES = Path("opt/osm/site-packages")
MANIFESTS = Path("usr/share/osm/manifests")
LAUNCHER = Path("usr/local/bin/osm")
PYTHON = (3, 11)
"""Release of the image's base."""
_LAUNCHER = f"""#!/usr/bin/env python3
import sys

sys.path.insert(0, "/{PACKAGES}")
from app.cli.main import main

main()
"""


def closure(name: str) -> dict[str, Distribution]:
    """The distribution and all it needs at run time, by name; extras are left out."""
    found: dict[str, Distribution] = {}
    waiting = [(name, frozenset[str]())]
    while waiting:
        wanted, extras = waiting.pop()
        if wanted in found and not extras:
            continue
        found[wanted] = distribution(wanted)
        waiting += _requirements(found[wanted], extras)
    return found


def _requirements(
    one: Distribution, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    for text in one.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def copy_distribution(one: Distribution, target: Path) -> None:
    """Its files stand below the target; programs and byte code are left out."""
    for file in one.files or ():
        if file.parts[0] == ".." or "__pycache__" in file.parts or file.suffix == ".pyc":
            continue
        place = target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), place)


def copy_program(root: Path) -> None:
    """Our own packages, manifests and the command stand below the root."""
    for package in ("app", "xds"):
        shutil.copytree(
            CHECKOUT / package,
            root / PACKAGES / package,
            ignore=shutil.ignore_patterns("__pycache__"),
            # xds is shared with the generated messages; our __init__ joins the two.
            dirs_exist_ok=True,
        )
    shutil.copytree(CHECKOUT / "manifests", root / MANIFESTS)
    launcher = root / LAUNCHER
    launcher.parent.mkdir(parents=True)
    launcher.write_text(_LAUNCHER)
    launcher.chmod(0o755)


def main(root: Path) -> None:
    """The directory holds the image's own files; what was there is gone."""
    if sys.version_info[:2] != PYTHON:
        wanted, own = (".".join(map(str, one[:2])) for one in (PYTHON, sys.version_info))
        sys.exit(f"the image's base has Python {wanted}; this is {own}: set PYTHON=python{wanted}")
    shutil.rmtree(root, ignore_errors=True)
    packages = root / PACKAGES
    packages.mkdir(parents=True)
    for one in closure(OURS).values():
        copy_distribution(one, packages)
    # An editable install leaves finders that point at the checkout.
    for trace in packages.glob("__editable__*"):
        trace.unlink()
    copy_program(root)
    # The root file system is read-only in a cluster, so byte code is made here.
    compileall.compile_dir(
        packages,
        quiet=1,
        workers=0,
        stripdir=str(root),
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
