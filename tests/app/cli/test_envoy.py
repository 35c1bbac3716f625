"""``osm proxy get|set``: the checks before, the way there, and Envoy's answer."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.tunnels import Asked, FakeAccess

from app.cli.envoy import admin_path, check_pod, through_tunnel
from app.cli.portforward import PodPort
from app.errors import NotFoundError, SettingError, UnreachableError
from app.objects.meta import RawObject

UUID = "0b6bd3f1-5e08-4a58-bd87-0ab7a7c0a3c4"
TARGET = PodPort(namespace="shop", pod="web", port=15000)


def pod(uuid: str | None = UUID, phase: str = "Running") -> RawObject:
    labels: dict[str, Any] = {} if uuid is None else {"osm-proxy-uuid": uuid}
    return {
        "metadata": {"name": "web", "namespace": "shop", "labels": labels},
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("query", "path"),
    [
        pytest.param("config_dump", "/config_dump", id="path"),
        pytest.param("/ready", "/ready", id="leading-slash"),
        pytest.param("stats?filter=a.*&usedonly", "/stats?filter=a.*&usedonly", id="query"),
        pytest.param("stats/prometheus", "/stats/prometheus", id="nested"),
        pytest.param("logging?level=debug", "/logging?level=debug", id="setting"),
    ],
)
def test_admin_path(query: str, path: str) -> None:
    assert admin_path(query) == path


@pytest.mark.parametrize(
    "query",
    [
        "",
        "/",
        "http://elsewhere/x",
        "//elsewhere/x",
        "stats#x",
        "a b",
        "a\r\nHost: b",
        "é",
        "a\x00",
    ],
)
def test_what_is_no_admin_path_is_refused(query: str) -> None:
    with pytest.raises(SettingError):
        admin_path(query)


@pytest.mark.parametrize(
    ("raw", "raised", "words"),
    [
        pytest.param(None, NotFoundError, "no Pod shop/web; say its namespace", id="no-pod"),
        pytest.param(pod(None), NotFoundError, "has no sidecar", id="no-sidecar"),
        pytest.param(pod("x"), NotFoundError, "'x', which is no UUID", id="no-uuid"),
        pytest.param(pod(phase="Pending"), UnreachableError, "is Pending, not Running", id="early"),
        pytest.param(pod(phase="Succeeded"), UnreachableError, "is Succeeded", id="late"),
    ],
)
def test_pod_without_a_sidecar_to_ask(
    raw: RawObject | None, raised: type[Exception], words: str
) -> None:
    with pytest.raises(raised, match=words):
        check_pod(raw, TARGET)


def test_envoys_answer_is_handed_over() -> None:
    asked: list[Asked] = []

    def serve(request: Asked) -> tuple[int, bytes]:
        asked.append(request)
        return 200, b"LIVE\n"

    access = FakeAccess(pods=[pod()], serve={("web", 15000): serve})
    assert through_tunnel(access, "POST", "/logging?level=debug", target=TARGET) == "LIVE\n"
    assert (asked[0].method, asked[0].path) == ("POST", "/logging?level=debug")


def test_envoys_refusal_is_an_error_in_its_words() -> None:
    access = FakeAccess(
        pods=[pod()], serve={("web", 15000): lambda _: (405, b"Method Not Allowed")}
    )
    with pytest.raises(UnreachableError, match=r"answers 405 to GET /quitquitquit: Method Not All"):
        through_tunnel(access, "GET", "/quitquitquit", target=TARGET)
