from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.standalone.launch import (
    Content,
    NotYetError,
    Surroundings,
    User,
    content_of,
    default_user,
    files_of,
    program_of,
)
from app.standalone.process import Mount, Program
from app.standalone.specs import Container, PodSpec, Volume

ME = User(uid=1000, gid=1001)
NOBODY = User(uid=65534, gid=65534)
CONTENTS = {
    ("ConfigMap", "map"): {"colour": b"red", "size": b"9"},
    ("Secret", "keys"): {"token": b"t0k"},
}


def lookup(kind: str, name: str) -> Content | None:
    return CONTENTS.get((kind, name))


POD = {
    "metadata": {
        "name": "web-0",
        "namespace": "shop",
        "uid": "u-1",
        "labels": {"app": "web"},
        "annotations": {"a.b/c": "d"},
    },
    "status": {"podIP": "10.0.0.7"},
}


def around(**changes: Any) -> Surroundings:
    fields: dict[str, Any] = {
        "pod": POD,
        "host_address": "10.1.0.1",
        "node_name": "laptop",
        "lookup": lookup,
        "volumes": {"files": Path("/state/files"), "scratch": Path("/state/scratch")},
        "default_user": ME,
        "default_folder": "/yaml",
        "binaries": (("envoy", Path("/opt/envoy")),),
    }
    return Surroundings(**{**fields, **changes})


def program(container: dict[str, Any], **spec: Any) -> Program:
    fields = {"name": "app", "command": ["run"], **container}
    whole = PodSpec.model_validate(
        {
            "containers": [fields],
            "volumes": [
                {"name": "files", "configMap": {"name": "map"}},
                {"name": "scratch", "emptyDir": {}},
            ],
            **spec,
        }
    )
    return program_of(whole.containers[0], whole, around())


def test_a_plain_container() -> None:
    assert program({"args": ["-x"]}) == Program(
        name="app",
        argv=("run", "-x"),
        env=(("HOSTNAME", "web-0"),),
        uid=1000,
        gid=1001,
        working_dir="/yaml",
        binaries=(("envoy", Path("/opt/envoy")),),
    )


@pytest.mark.parametrize(
    ("own", "pod", "user"),
    [
        pytest.param({}, {}, ME, id="the-one-who-called"),
        pytest.param({"runAsUser": 7}, {}, User(uid=7, gid=7), id="as-the-container-says"),
        pytest.param({}, {"runAsUser": 8}, User(uid=8, gid=8), id="as-the-pod-says"),
        pytest.param({"runAsUser": 7}, {"runAsUser": 8}, User(uid=7, gid=7), id="container-first"),
        pytest.param({"runAsUser": 7, "runAsGroup": 9}, {}, User(uid=7, gid=9), id="group"),
        pytest.param({"runAsGroup": 9}, {}, User(uid=1000, gid=9), id="group-alone"),
        pytest.param({"runAsUser": 0}, {}, User(uid=0, gid=0), id="root-when-said"),
    ],
)
def test_the_user_of_a_container(own: dict[str, int], pod: dict[str, int], user: User) -> None:
    found = program({"securityContext": own}, securityContext=pod)
    assert User(uid=found.uid, gid=found.gid) == user


def test_only_root_keeps_capabilities() -> None:
    added = {"capabilities": {"add": ["NET_ADMIN"]}}
    assert program({"securityContext": added}).capabilities == ()
    root = program({"securityContext": {**added, "runAsUser": 0}})
    assert root.capabilities == ("NET_ADMIN",)


@pytest.mark.parametrize(
    ("environment", "user"),
    [
        pytest.param({}, NOBODY, id="nobody-called-sudo"),
        pytest.param({"SUDO_UID": "1000", "SUDO_GID": "1001"}, ME, id="who-called-sudo"),
        pytest.param({"SUDO_UID": "1000"}, User(uid=1000, gid=1000), id="without-group"),
        pytest.param(
            {"SUDO_UID": "1000", "SUDO_GID": "0"}, User(uid=1000, gid=1000), id="no-root-group"
        ),
        pytest.param({"SUDO_UID": "0", "SUDO_GID": "0"}, NOBODY, id="root-called-sudo"),
        pytest.param({"SUDO_UID": "1500"}, NOBODY, id="never-the-sidecars-user"),
        pytest.param({"SUDO_UID": "me"}, NOBODY, id="no-number"),
    ],
)
def test_the_default_user_is_never_root(environment: dict[str, str], user: User) -> None:
    assert default_user(environment) == user


def env(*variables: dict[str, Any], **container: Any) -> dict[str, str]:
    found = dict(program({"env": list(variables), **container}).env)
    found.pop("HOSTNAME")
    return found


def from_field(path: str) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web-0"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['a.b/c']", "d"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "laptop"),
        ("spec.serviceAccountName", "default"),
        ("status.hostIP", "10.1.0.1"),
        ("status.podIP", "10.0.0.7"),
        ("status.podIPs", "10.0.0.7"),
    ],
)
def test_a_pod_tells_its_containers_about_itself(path: str, value: str) -> None:
    assert env(from_field(path)) == {"V": value}


def key_ref(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **more}}}


def test_values_come_from_objects() -> None:
    assert env(key_ref("configMap", "map", "colour")) == {"V": "red"}
    assert env(key_ref("secret", "keys", "token")) == {"V": "t0k"}
    assert env(key_ref("configMap", "gone", "x", optional=True)) == {}
    assert env(key_ref("configMap", "map", "x", optional=True)) == {}


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        pytest.param(key_ref("configMap", "gone", "x"), "there is no ConfigMap gone", id="object"),
        pytest.param(key_ref("secret", "keys", "x"), "Secret keys has no key x", id="key"),
    ],
)
def test_a_container_waits_for_what_is_missing(variable: dict[str, Any], words: str) -> None:
    with pytest.raises(NotYetError, match=words):
        env(variable)


def test_whole_objects_become_variables_and_own_ones_win() -> None:
    sources = [
        {"configMapRef": {"name": "map"}, "prefix": "P_"},
        {"secretRef": {"name": "keys"}},
        {"configMapRef": {"name": "gone", "optional": True}},
    ]
    assert env({"name": "P_size", "value": "10"}, envFrom=sources) == {
        "P_colour": "red",
        "P_size": "10",
        "token": "t0k",
    }


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)/x", "a/x"),
        ("$(A)$(A)", "aa"),
        ("$$(A)", "$(A)"),
        ("$(NONE)", "$(NONE)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("100$", "100$"),
        ("", ""),
    ],
)
def test_variables_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    first = {"name": "A", "value": "a"}
    assert env(first, {"name": "B", "value": text})["B"] == expanded
    assert program({"env": [first], "args": [text]}).argv == ("run", expanded)


def test_later_variables_are_not_known_to_earlier_ones() -> None:
    assert env({"name": "B", "value": "$(A)"}, {"name": "A", "value": "a"})["B"] == "$(A)"


def test_volumes_are_mounted_and_only_empty_ones_are_writable() -> None:
    mounts = [
        {"name": "files", "mountPath": "/etc/files"},
        {"name": "files", "mountPath": "/one", "subPath": "colour"},
        {"name": "scratch", "mountPath": "/tmp/x"},
        {"name": "scratch", "mountPath": "/ro", "readOnly": True},
    ]
    assert program({"volumeMounts": mounts, "workingDir": "/w"}).mounts == (
        Mount(source=Path("/state/files"), target="/etc/files"),
        Mount(source=Path("/state/files/colour"), target="/one"),
        Mount(source=Path("/state/scratch"), target="/tmp/x", read_only=False),
        Mount(source=Path("/state/scratch"), target="/ro"),
    )


@pytest.mark.parametrize(
    "mount",
    [
        pytest.param({"name": "files", "mountPath": "/x", "subPath": "../.."}, id="upwards"),
        pytest.param({"name": "files", "mountPath": "/x", "subPath": "/etc"}, id="absolute"),
        pytest.param({"name": "none", "mountPath": "/x"}, id="no-such-volume"),
    ],
)
def test_a_mount_cannot_leave_its_volume(mount: dict[str, Any]) -> None:
    with pytest.raises(NotYetError):
        program({"volumeMounts": [mount]})


@pytest.mark.parametrize(
    ("volume", "files"),
    [
        pytest.param({"configMap": {"name": "map"}}, CONTENTS["ConfigMap", "map"], id="all-keys"),
        pytest.param({"secret": {"secretName": "keys"}}, {"token": b"t0k"}, id="secret"),
        pytest.param(
            {"configMap": {"name": "map", "items": [{"key": "size", "path": "s.txt"}]}},
            {"s.txt": b"9"},
            id="one-key",
        ),
        pytest.param({"emptyDir": {}}, None, id="empty"),
        pytest.param({"configMap": {"name": "gone", "optional": True}}, {}, id="optional"),
    ],
)
def test_files_of_a_volume(volume: dict[str, Any], files: Content | None) -> None:
    assert files_of(Volume.model_validate({"name": "v", **volume}), lookup) == files


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({"name": "gone"}, id="object"),
        pytest.param({"name": "map", "items": [{"key": "x", "path": "x"}]}, id="key"),
    ],
)
def test_a_volume_waits_for_what_is_missing(source: dict[str, Any]) -> None:
    with pytest.raises(NotYetError):
        files_of(Volume.model_validate({"name": "v", "configMap": source}), lookup)


@pytest.mark.parametrize(
    ("raw", "content"),
    [
        pytest.param(
            {"kind": "ConfigMap", "data": {"a": "ä"}, "binaryData": {"b": "AP8="}},
            {"b": b"\x00\xff", "a": "ä".encode()},
            id="config-map",
        ),
        pytest.param(
            {"kind": "Secret", "data": {"a": "eA=="}, "stringData": {"a": "y", "b": "z"}},
            {"a": b"y", "b": b"z"},
            id="secret",
        ),
        pytest.param({"kind": "Secret", "data": {"a": "?"}}, {"a": b""}, id="no-base64"),
    ],
)
def test_the_content_of_an_object(raw: dict[str, Any], content: Content) -> None:
    assert content_of(raw) == content


def test_a_port_is_found_by_number_or_name() -> None:
    container = Container.model_validate(
        {"name": "a", "ports": [{"name": "web", "containerPort": 80}]}
    )
    assert [container.port_number(port) for port in ("web", 81, "none")] == [80, 81, None]
