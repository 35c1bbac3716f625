"""Where manifests are found, and what a folder may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import SettingError
from app.install.manifests import default_folders, find_manifests, load_manifests

ACCOUNT = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}"
BUDGET = "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: b}}"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_folder_is_read_in_its_order(tmp_path: Path) -> None:
    write(tmp_path, kustomization="resources: [below, two.yaml]", two=f"{ACCOUNT}\n---\n")
    write(tmp_path / "below", kustomization="resources: [one.yaml]", one=BUDGET)
    write(tmp_path / "autoscaling", kustomization="resources: [three.yaml]", three=BUDGET)
    found = load_manifests(tmp_path)
    assert [raw["kind"] for raw in found.objects] == ["PodDisruptionBudget", "ServiceAccount"]
    assert [raw["kind"] for raw in found.optional] == ["PodDisruptionBudget"]
    assert found.crds == ()


def test_the_given_folder_is_taken(tmp_path: Path) -> None:
    write(tmp_path, kustomization="resources: []")
    assert find_manifests(tmp_path) == tmp_path
    assert load_manifests(tmp_path).objects == ()


def test_a_folder_without_manifests_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"in {tmp_path}; name a folder") as raised:
        find_manifests(tmp_path)
    assert "--osm-chart-path" in str(raised.value)


def test_image_wheel_and_checkout_have_their_places() -> None:
    assert Path("/usr/share/osm/manifests") in default_folders()
    assert {folder.name for folder in default_folders()} == {"manifests"}


@pytest.mark.parametrize(
    ("kustomization", "file", "message"),
    [
        pytest.param("resources: [no.yaml]", "", "no.yaml cannot be read", id="missing-file"),
        pytest.param("resources: [a.yaml]", "{", "a.yaml is not YAML", id="not-yaml"),
        pytest.param("resources: [a.yaml]", "[]", "must hold objects, not list", id="list"),
        pytest.param("resources: [a.yaml]", "kind: X", "needs apiVersion, kind", id="no-object"),
        pytest.param(
            "resources: [a.yaml]", "{apiVersion: v1, kind: X}", "metadata.name", id="no-name"
        ),
        pytest.param(
            "patches: []", "", "patches: only resources are read here", id="more-than-resources"
        ),
        pytest.param("resources: [../a]", "", "too deep", id="folder-in-itself"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, kustomization: str, file: str, message: str
) -> None:
    write(tmp_path / "a", kustomization=kustomization, a=file)
    with pytest.raises(SettingError, match=message):
        load_manifests(tmp_path / "a")
