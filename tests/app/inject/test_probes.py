"""Probes that the sidecar answers for the container, and those it cannot answer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from injections import container, pod

from app.errors import InjectionError
from app.inject.pod import parse_pod
from app.inject.probes import MovedProbes, move_probes
from app.objects.meta import RawObject
from xds.policy.bootstrap import Probe, ProbeCheck, ProbeType


def moved(raw: RawObject) -> tuple[RawObject, MovedProbes]:
    edited = copy.deepcopy(raw)
    found = move_probes(edited, parse_pod(edited))
    return edited, found


def app(kind: str = "livenessProbe", name: str = "app", **action: Any) -> RawObject:
    return container(name, **{kind: action}, ports=[{"name": "web", "containerPort": 8080}])


def probe(kind: ProbeType = ProbeType.LIVENESS, **fields: Any) -> Probe:
    return Probe(
        **{"container": "app", "type": kind, "check": ProbeCheck.HTTP, "port": 8080, **fields}
    )


@pytest.mark.parametrize(
    ("kind", "field", "port", "path"),
    [
        (ProbeType.LIVENESS, "livenessProbe", 15901, "/osm-liveness-probe/app"),
        (ProbeType.READINESS, "readinessProbe", 15902, "/osm-readiness-probe/app"),
        (ProbeType.STARTUP, "startupProbe", 15903, "/osm-startup-probe/app"),
    ],
)
def test_each_type_has_its_port_and_path(kind: ProbeType, field: str, port: int, path: str) -> None:
    edited, found = moved(pod(app(field, httpGet={"path": "/up", "port": "web"}, timeoutSeconds=4)))
    assert edited["spec"]["containers"][0][field] == {
        "httpGet": {"path": path, "port": port},
        "timeoutSeconds": 4,
    }
    assert found == MovedProbes(
        probes=(probe(kind, path="/up", timeout_seconds=4),), direct_ports=()
    )


@pytest.mark.parametrize(
    ("written", "asked", "forwarded"),
    [
        pytest.param(None, "", "/", id="no-path"),
        pytest.param("", "", "/", id="empty"),
        pytest.param("up", "", "/up", id="no-slash"),
        pytest.param("/up?a=/b?c&d=%2F", "?a=/b?c&d=%2F", "/up", id="query-stays-in-the-request"),
        pytest.param("?a", "?a", "/", id="query-only"),
        pytest.param("/up?", "?", "/up", id="empty-query"),
        pytest.param("/up#part?no-query", "", "/up", id="fragment-is-dropped"),
        pytest.param("/a b/ü%20", "", "/a%20b/%C3%BC%20", id="escaped-as-the-kubelet-does"),
        pytest.param("//a//b/../c", "", "//a//b/../c", id="not-normalized"),
    ],
)
def test_path_is_forwarded_and_query_kept(written: str | None, asked: str, forwarded: str) -> None:
    action = {"port": 8080} | ({} if written is None else {"path": written})
    edited, found = moved(pod(app(httpGet=action)))
    asked_for = edited["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"]
    assert asked_for == f"/osm-liveness-probe/app{asked}"
    assert found.probes == (probe(path=forwarded),)


def test_tcp_probe_becomes_an_http_probe() -> None:
    raw = pod(app(tcpSocket={"port": "web"}, periodSeconds=3, initialDelaySeconds=2))
    edited, found = moved(raw)
    assert edited["spec"]["containers"][0]["livenessProbe"] == {
        "httpGet": {"path": "/osm-liveness-probe/app", "port": 15901},
        "periodSeconds": 3,
        "initialDelaySeconds": 2,
    }
    assert found.probes == (probe(check=ProbeCheck.TCP, period_seconds=3),)


@pytest.mark.parametrize(
    "action",
    [
        pytest.param({"exec": {"command": ["true"]}}, id="exec"),
        pytest.param({}, id="no-action"),
        pytest.param({"httpGet": None, "tcpSocket": None}, id="null-actions"),
    ],
)
def test_probe_without_a_port_stays(action: RawObject) -> None:
    raw = pod(app(**action))
    assert moved(raw) == (raw, MovedProbes(probes=(), direct_ports=()))


def test_probe_of_an_init_container_stays() -> None:
    raw = pod(spec={"initContainers": [app(httpGet={"port": 1})]})
    assert moved(raw) == (raw, MovedProbes(probes=(), direct_ports=()))


@pytest.mark.parametrize(("seconds", "kept"), [(None, 1), (0, 1), (-3, 1), (1, 1), (30, 30)])
def test_timeout_is_at_least_one_second(seconds: int | None, kept: int) -> None:
    _, found = moved(pod(app(httpGet={"port": 8080}, timeoutSeconds=seconds)))
    assert found.probes == (probe(timeout_seconds=kept),)


def test_second_grpc_probe_of_a_type_stays_and_its_port_is_direct() -> None:
    first, second = app(name="a", grpc={"port": 1}), app(name="b", grpc={"port": 2, "service": "s"})
    third = app("readinessProbe", name="c", grpc={"port": 3})
    edited, found = moved(pod(first, second, third))
    assert [c.get("livenessProbe") for c in edited["spec"]["containers"]] == [
        {"grpc": {"port": 15901}},
        {"grpc": {"port": 2, "service": "s"}},
        None,
    ]
    assert found == MovedProbes(
        probes=(
            probe(container="a", check=ProbeCheck.GRPC, port=1),
            probe(ProbeType.READINESS, container="c", check=ProbeCheck.GRPC, port=3),
        ),
        direct_ports=(2,),
    )


@pytest.mark.parametrize(
    ("action", "message"),
    [
        pytest.param(
            {"httpGet": {"port": "http"}},
            "spec.containers[0].livenessProbe.httpGet.port: container app has no port named 'http'",
            id="unknown-name",
        ),
        pytest.param(
            {"tcpSocket": {"port": ""}},
            "spec.containers[0].livenessProbe.tcpSocket.port: container app has no port named ''",
            id="empty-name",
        ),
        pytest.param(
            {"grpc": {"port": 0}},
            "spec.containers[0].livenessProbe.grpc.port: 0 is not a port number",
            id="zero",
        ),
        pytest.param(
            {"httpGet": {"port": "65536"}},
            "spec.containers[0].livenessProbe.httpGet.port: 65536 is not a port number",
            id="too-big",
        ),
        pytest.param(
            {"httpGet": {"port": 80, "path": "/a\r\nb"}},
            "spec.containers[0].livenessProbe.httpGet.path: '/a\\r\\nb' has characters that no "
            "path may have",
            id="line-break-in-path",
        ),
    ],
)
def test_probe_that_cannot_be_answered_is_refused(action: RawObject, message: str) -> None:
    with pytest.raises(InjectionError) as error:
        moved(pod(app(**action)))
    assert str(error.value) == message
