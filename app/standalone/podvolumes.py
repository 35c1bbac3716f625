"""The volumes of one Pod on disk: written before its containers start, and when objects change.

Secrets are readable by the one user who mounts them; the mesh renews a sidecar's certificate by
writing its Secret, and Envoy sees the new files by the swap of a link (kubernetes-surface 3.4).
"""

from __future__ import annotations

from pathlib import Path

from app.compute.declared import RawKey
from app.compute.local import LocalObjects
from app.standalone.launch import Content, Lookup, User, content_of, files_of, user_of
from app.standalone.specs import PodSpec, Volume
from app.standalone.volumes import publish_files


def lookup_in(objects: LocalObjects, namespace: str) -> Lookup:
    """ConfigMaps and Secrets of a namespace, as they are when asked for."""

    def lookup(kind: str, name: str) -> Content | None:
        stored = objects.find(RawKey(kind=kind, namespace=namespace, name=name))
        return content_of(stored.raw) if stored is not None else None

    return lookup


def write_volumes(
    spec: PodSpec, folder: Path, *, lookup: Lookup, default_user: User
) -> dict[str, Path]:
    """Where each volume is; its files are as their objects say. Raises ``NotYetError``."""
    places = {volume.name: folder / volume.name for volume in spec.volumes}
    for volume in spec.volumes:
        place = places[volume.name]
        files = files_of(volume, lookup)
        if files is None:
            _make_empty(place)
            continue
        owner, mode = _owner(volume, spec, default_user)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        publish_files(place, files, uid=owner.uid, gid=owner.gid, mode=mode)
    return places


def _make_empty(place: Path) -> None:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.chmod(0o777)  # within a directory that only root can enter


def _owner(volume: Volume, spec: PodSpec, default_user: User) -> tuple[User, int]:
    """Whose files they are, and their mode: private when one user alone mounts a Secret."""
    users = {
        user_of(container.security_context, spec.security_context, default_user)
        for container in (*spec.init_containers, *spec.containers)
        if any(mount.name == volume.name for mount in container.volume_mounts)
    }
    if len(users) == 1 and volume.secret is not None:
        return users.pop(), 0o600
    return User(uid=0, gid=0), 0o644
