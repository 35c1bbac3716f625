"""``osm proxy get|set``: the checks before, the way there, and Envoy's answer."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fakes.tunnels import Asked, FakeAccess
from typer.testing import CliRunner

from app.cli.client import AdminClient
from app.cli.envoy import admin_path, check_pod, through_api, through_tunnel
from app.cli.main import app
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


# On one machine


class Api:
    """An admin API that knows one proxy."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def client(self) -> AdminClient:
        return AdminClient("http://127.0.0.1:9091", transport=httpx2.MockTransport(self.answer))

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        self.asked.append(f"{request.method} {path}")
        if path == "/api/v1/proxies":
            return httpx2.Response(200, json=[{"uuid": UUID, "namespace": "shop", "pod": "web"}])
        return httpx2.Response(200, text="stats\n")


def test_on_one_machine_the_api_hands_through() -> None:
    api = Api()
    found = through_api(api.client(), "GET", "/stats?filter=a", namespace="shop", pod="web")
    assert found == "stats\n"
    assert api.asked[1:] == [f"GET /api/v1/proxies/{UUID}/envoy/stats?filter=a"]


def test_on_one_machine_a_pod_without_proxy_is_told_with_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="shop/db has no connected proxy; connected: shop/web"):
        through_api(Api().client(), "GET", "/stats", namespace="shop", pod="db")


def test_on_one_machine_changes_have_another_way() -> None:
    api = Api()
    with pytest.raises(SettingError, match="osm standalone exec shop/web -c envoy -- curl -X POST"):
        through_api(api.client(), "POST", "/reset_counters", namespace="shop", pod="web")
    assert api.asked == []


def test_the_answer_is_written_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = socket.create_server(("127.0.0.1", 0))
    body = json.dumps([{"uuid": UUID, "namespace": "shop", "pod": "web"}]).encode()
    answers = [body, b"LIVE"]

    def serve() -> None:
        for content in answers:
            link, _ = served.accept()
            with link:
                link.recv(65536)
                head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(content)}"
                link.sendall(f"{head}\r\n\r\n".encode() + content)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    monkeypatch.setenv("OSM_API", f"http://127.0.0.1:{served.getsockname()[1]}")
    target = tmp_path / "ready.txt"
    words = ["proxy", "get", "ready", "web", "-n", "shop", "-p", "15000", "-f", str(target)]
    with served:
        result = CliRunner().invoke(app, words)
        thread.join(10)
    assert (result.exit_code, result.output, target.read_text()) == (0, "", "LIVE")
