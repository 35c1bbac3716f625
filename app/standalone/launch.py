"""A container as written → the program to run: user, command line, environment, mounts; pure.

The pod worker calls it right before each start, so a changed ConfigMap counts at the next restart.
What is missing (a ConfigMap, a key) is an answer, not an error: the container waits for it. Never
root unless the Pod says so. Source: the Kubernetes documentation of environment variables, volumes
and security contexts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.inject.pod import ENVOY_UID
from app.objects.meta import RawObject
from app.standalone.process import Mount, Program
from app.standalone.specs import (
    ConfigMap,
    Container,
    EnvVar,
    PodSpec,
    Secret,
    SecurityContext,
    Volume,
)

NOBODY = 65534


class NotYetError(Exception):
    """Something the container needs does not exist yet; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user and group by number."""

    uid: int
    gid: int


Content = Mapping[str, bytes]
"""Of a ConfigMap or Secret, by key."""
Lookup = Callable[[str, str], Content | None]
"""Kind and name to content, in the Pod's namespace; None when there is no such object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a container is told about the machine and its Pod."""

    pod: RawObject
    """With its address in ``status.podIP``."""
    host_address: str
    node_name: str
    lookup: Lookup
    volumes: Mapping[str, Path]
    """Where the Pod's volumes are on disk."""
    default_user: User
    default_folder: str
    binaries: tuple[tuple[str, Path], ...] = ()


def default_user(environment: Mapping[str, str]) -> User:
    """The user who called ``sudo``, else nobody; root only if a Pod asks for it by number."""
    uid, gid = (environment.get(name, "") for name in ("SUDO_UID", "SUDO_GID"))
    if not uid.isdigit() or int(uid) in (0, ENVOY_UID):
        return User(uid=NOBODY, gid=NOBODY)
    return User(uid=int(uid), gid=int(gid) if gid.isdigit() and int(gid) else int(uid))


def program_of(container: Container, spec: PodSpec, around: Surroundings) -> Program:
    """The container as a process; raises ``NotYetError`` while an object it needs is missing."""
    env = environment_of(container, spec, around)
    user = user_of(container.security_context, spec.security_context, around.default_user)
    words = (*container.command, *container.args)
    return Program(
        name=container.name,
        argv=tuple(_expanded(word, env) for word in words),
        env=tuple(env.items()),
        uid=user.uid,
        gid=user.gid,
        capabilities=container.security_context.capabilities.add if user.uid == 0 else (),
        working_dir=container.working_dir or around.default_folder,
        mounts=tuple(_mounts(container, spec, around)),
        binaries=around.binaries,
    )


def user_of(own: SecurityContext, pod: SecurityContext, default: User) -> User:
    """As whom a container runs: its own wish, the Pod's, else the default."""
    uid = _first(own.run_as_user, pod.run_as_user)
    gid = _first(own.run_as_group, pod.run_as_group)
    if uid is None:
        return User(uid=default.uid, gid=_first(gid, default.gid) or 0)
    return User(uid=uid, gid=uid if gid is None else gid)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def environment_of(container: Container, spec: PodSpec, around: Surroundings) -> dict[str, str]:
    """Variables in order: of whole objects first, then the container's own, which win."""
    env = {"HOSTNAME": spec.hostname or around.pod["metadata"]["name"]}
    for source in container.env_from:
        for kind, ref in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
            if ref is None:
                continue
            content = _content(around.lookup, kind, ref.name, optional=ref.optional)
            env.update({f"{source.prefix}{key}": _text(value) for key, value in content.items()})
    for variable in container.env:
        value = _value(variable, spec, around, env)
        if value is not None:
            env[variable.name] = value
    return env


def _value(
    variable: EnvVar, spec: PodSpec, around: Surroundings, env: Mapping[str, str]
) -> str | None:
    """The variable's value, or None where an optional source has none."""
    source = variable.value_from
    if source is None:
        return _expanded(variable.value or "", env)
    if source.field_ref is not None:
        return _pod_field(source.field_ref.field_path, spec, around)
    kind = "ConfigMap" if source.config_map_key_ref is not None else "Secret"
    ref = source.config_map_key_ref or source.secret_key_ref
    if ref is None:
        return None
    content = _content(around.lookup, kind, ref.name, optional=ref.optional)
    if ref.key in content:
        return _text(content[ref.key])
    if ref.optional:
        return None
    raise NotYetError(f"{kind} {ref.name} has no key {ref.key}")


def _pod_field(path: str, spec: PodSpec, around: Surroundings) -> str:
    metadata = around.pod["metadata"]
    address = (around.pod.get("status") or {}).get("podIP", "")
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": around.node_name,
        "spec.serviceAccountName": spec.service_account_name or "default",
        "status.hostIP": around.host_address,
        "status.podIP": address,
        "status.podIPs": address,
    }
    if path in fields:
        return str(fields[path])
    section, _, key = path.removesuffix("']").partition("['")
    values: Mapping[str, str] = metadata.get(section.removeprefix("metadata.")) or {}
    return str(values.get(key, ""))


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """``$(NAME)`` replaced by a variable that is known; ``$$`` stands for one ``$``."""
    found: list[str] = []
    rest = text
    while rest:
        before, dollar, rest = rest.partition("$")
        found.append(before)
        name, end, after = rest[1:].partition(")")
        if rest.startswith("$"):
            found.append("$")
            rest = rest[1:]
        elif rest.startswith("(") and end and name in env:
            found.append(env[name])
            rest = after
        else:
            found.append(dollar)
    return "".join(found)


def _mounts(container: Container, spec: PodSpec, around: Surroundings) -> Iterator[Mount]:
    changeable = {volume.name for volume in spec.volumes if volume.empty_dir is not None}
    for mount in container.volume_mounts:
        place = around.volumes.get(mount.name)
        if place is None:
            raise NotYetError(f"volume {mount.name} is not there")
        sub_path = Path(mount.sub_path)
        if sub_path.is_absolute() or ".." in sub_path.parts:
            raise NotYetError(
                f"subPath {mount.sub_path} of {container.name} leads out of the volume"
            )
        yield Mount(
            source=place / sub_path,
            target=mount.mount_path,
            read_only=mount.read_only or mount.name not in changeable,
        )


def files_of(volume: Volume, lookup: Lookup) -> Content | None:
    """The files of a ConfigMap or Secret volume; None for a volume that begins empty."""
    if volume.config_map is not None:
        kind, name, items = "ConfigMap", volume.config_map.name, volume.config_map.items
        optional = volume.config_map.optional
    elif volume.secret is not None:
        kind, name, items = "Secret", volume.secret.secret_name, volume.secret.items
        optional = volume.secret.optional
    else:
        return None
    content = _content(lookup, kind, name, optional=optional)
    if not items:
        return content
    for item in items:
        if item.key not in content and not optional:
            raise NotYetError(f"{kind} {name} has no key {item.key}")
    return {item.path: content[item.key] for item in items if item.key in content}


def _content(lookup: Lookup, kind: str, name: str, *, optional: bool) -> Content:
    content = lookup(kind, name)
    if content is None and not optional:
        raise NotYetError(f"there is no {kind} {name}")
    return content or {}


def content_of(raw: RawObject) -> Content:
    """The keys of a ConfigMap or Secret as bytes; what is no base64 counts as empty."""
    if raw["kind"] == "ConfigMap":
        config = ConfigMap.model_validate(raw)
        text = {key: value.encode() for key, value in config.data.items()}
        return {**{key: _decoded(v) for key, v in config.binary_data.items()}, **text}
    secret = Secret.model_validate(raw)
    text = {key: value.encode() for key, value in secret.string_data.items()}
    return {**{key: _decoded(value) for key, value in secret.data.items()}, **text}


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
