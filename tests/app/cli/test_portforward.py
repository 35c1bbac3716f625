"""HTTP through a tunnel into a Pod, and what users read when there is no way."""

from __future__ import annotations

import pytest
from fakes.tunnels import Asked, FakeAccess

from app.cli.portforward import Answer, PodHttp, PodPort
from app.errors import ForbiddenError, KubernetesError, NotFoundError, UnreachableError
from xds.resource import MeshError

TARGET = PodPort(namespace="shop", pod="web-0", port=15000)


def test_requests_of_one_conversation_share_a_tunnel() -> None:
    asked: list[Asked] = []

    def serve(request: Asked) -> tuple[int, bytes]:
        asked.append(request)
        return 200, request.path.encode()

    access = FakeAccess(serve={("web-0", 15000): serve})
    with PodHttp(access, TARGET) as pod:
        answers = [pod.request("GET", "/a"), pod.request("POST", "/b?c=d", body=b"text")]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"/a"), (200, b"/b?c=d")]
    assert [(a.method, a.path, a.body) for a in asked] == [
        ("GET", "/a", b""),
        ("POST", "/b?c=d", b"text"),
    ]
    assert asked[0].headers["host"] == "localhost:15000"
    assert [tunnel.fileno() for tunnel in access.opened] == [-1]


def test_an_answer_of_any_status_is_an_answer() -> None:
    access = FakeAccess(serve={("web-0", 15000): lambda _: (404, b"no such page")})
    with PodHttp(access, TARGET) as pod:
        answer = pod.request("GET", "/x")
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (404, b"no such page")


def test_a_large_answer_arrives_whole() -> None:
    content = b"0123456789abcdef" * 200_000
    access = FakeAccess(serve={("web-0", 15000): lambda _: (200, content)})
    with PodHttp(access, TARGET) as pod:
        assert pod.request("GET", "/config_dump").body == content


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        pytest.param(
            ForbiddenError('pods "web-0" is forbidden'),
            ForbiddenError,
            "namespace shop: your role there needs the verbs get and create of pods/portforward",
            id="no-right",
        ),
        pytest.param(
            NotFoundError("gone"), NotFoundError, "there is no Pod shop/web-0", id="no-pod"
        ),
        pytest.param(
            KubernetesError("pod is not running"),
            UnreachableError,
            "no way to port 15000 of Pod shop/web-0: pod is not running",
            id="refused-by-the-server",
        ),
    ],
)
def test_a_tunnel_that_does_not_open_says_why(
    error: MeshError, raised: type[MeshError], words: str
) -> None:
    with PodHttp(FakeAccess(refuse=error), TARGET) as pod, pytest.raises(raised) as found:
        pod.request("GET", "/")
    assert words in str(found.value)


def test_a_tunnel_that_ends_at_once_says_what_that_means() -> None:
    access = FakeAccess()
    with PodHttp(access, TARGET) as pod, pytest.raises(UnreachableError) as found:
        pod.request("GET", "/")
    words = (
        "port 15000 of Pod shop/web-0 does not answer: the connection was closed at once; nothing"
    )
    assert str(found.value).startswith(words)
    assert [tunnel.fileno() for tunnel in access.opened] == [-1]


def test_a_silent_pod_is_not_waited_for_for_ever() -> None:
    import threading

    answered = threading.Event()

    def serve(_: Asked) -> tuple[int, bytes]:
        answered.wait(10)
        return 200, b""

    access = FakeAccess(serve={("web-0", 15000): serve})
    with (
        PodHttp(access, TARGET, timeout_seconds=0.05) as pod,
        pytest.raises(UnreachableError, match="no answer in time"),
    ):
        pod.request("GET", "/")
    answered.set()
