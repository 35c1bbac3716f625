"""Where the manifests are, and what is in them.

A folder of plain YAML with a ``kustomization.yaml`` comes in; raw objects go out, in its order.
Found beside a checkout's packages, below the prefix of an installed wheel, or in the image. Called
by the CLI (install, upgrade, uninstall). Specification: kubernetes-surface 7.2.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from app.errors import SettingError
from app.objects.meta import RawObject

CHART_PATH: Final = "--osm-chart-path"
_KUSTOMIZATION: Final = "kustomization.yaml"
_OPTIONAL: Final = ("autoscaling", "observability")
_MAX_DEPTH: Final = 4
_KNOWN_FIELDS = frozenset({"apiVersion", "kind", "resources"})
_CRD = "CustomResourceDefinition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """The objects of a folder; ``optional`` are those that only some installations want."""

    folder: Path
    objects: tuple[RawObject, ...]
    optional: tuple[RawObject, ...] = ()

    @property
    def crds(self) -> tuple[RawObject, ...]:
        """The custom resource definitions among them."""
        return tuple(raw for raw in self.objects if raw["kind"] == _CRD)


def find_manifests(given: Path | None = None) -> Path:
    """The folder that was given, else that of this installation.

    Raise ``SettingError`` where there is none.
    """
    candidates = (given,) if given is not None else default_folders()
    for folder in candidates:
        if (folder / _KUSTOMIZATION).is_file():
            return folder
    places = ", ".join(str(folder) for folder in candidates)
    raise SettingError(
        f"no {_KUSTOMIZATION} in {places}; name a folder of manifests with {CHART_PATH}"
    )


def default_folders() -> tuple[Path, ...]:
    """Where the manifests of this installation may be: checkout, wheel, image."""
    return (
        Path(__file__).parents[2] / "manifests",
        Path(sys.prefix) / "share" / "osm" / "manifests",
        Path("/usr/share/osm/manifests"),
    )


def load_manifests(folder: Path) -> Manifests:
    """What is in the folder; raise ``SettingError`` naming the file that cannot be used."""
    optional = [folder / name for name in _OPTIONAL]
    return Manifests(
        folder=folder,
        objects=tuple(_kustomized(folder)),
        optional=tuple(
            raw
            for below in optional
            if (below / _KUSTOMIZATION).is_file()
            for raw in _kustomized(below)
        ),
    )


def _kustomized(folder: Path, depth: int = 0) -> Iterator[RawObject]:
    path = folder / _KUSTOMIZATION
    for document in _documents(path):
        unknown = sorted(set(document) - _KNOWN_FIELDS)
        if unknown or depth > _MAX_DEPTH:
            raise SettingError(
                f"{path}: {', '.join(unknown) or 'too deep'}: only resources are read here; "
                "for more, apply the folder with kubectl apply -k"
            )
        for resource in document.get("resources") or ():
            found = folder / str(resource)
            yield from _kustomized(found, depth + 1) if found.is_dir() else _objects(found)


def _objects(path: Path) -> Iterator[RawObject]:
    for document in _documents(path):
        metadata = document.get("metadata")
        if not (
            document.get("apiVersion")
            and document.get("kind")
            and isinstance(metadata, dict)
            and metadata.get("name")
        ):
            raise SettingError(f"{path}: an object needs apiVersion, kind and metadata.name")
        yield document


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        found = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not YAML: {error}") from error
    for document in found:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise SettingError(f"{path}: must hold objects, not {type(document).__name__}")
        yield document
