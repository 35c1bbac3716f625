"""Streams of lines: cut anywhere, silent, endless, closed by another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import urllib3
from fakes import kube_api
from fakes.kube_api import FakeApi, Reply

from app.compute.kube_answers import Answer
from app.compute.kube_http import KubeHttp, Question, Stream
from app.errors import UnreachableError

WATCH = Question(path="/watch")


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with kube_api.running() as api:
        yield api


def open_stream(api: FakeApi, silence_seconds: float = 20.0) -> Stream:
    http = KubeHttp(urllib3.PoolManager(), api.url, lambda: None)
    stream = http.stream(WATCH, silence_seconds=silence_seconds)
    assert isinstance(stream, Stream)
    return stream


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        pytest.param((b"one\ntwo\n",), [b"one", b"two"], id="two-lines-in-a-chunk"),
        pytest.param((b"on", b"e\nt", b"wo\n"), [b"one", b"two"], id="cut-anywhere"),
        pytest.param((b"\n\none\n\n",), [b"one"], id="empty-lines-are-left-out"),
        pytest.param((b"one\nhal",), [b"one"], id="half-a-line-at-the-end-is-none"),
        pytest.param((b"x" * 200_000 + b"\n",), [b"x" * 200_000], id="longer-than-a-buffer"),
    ],
)
def test_lines_of_a_stream(api: FakeApi, chunks: tuple[bytes, ...], lines: list[bytes]) -> None:
    api.on("/watch", Reply(chunks=chunks))
    assert list(open_stream(api)) == lines


def test_refusal_is_an_answer(api: FakeApi) -> None:
    api.on("/watch", Reply(status=410, body=b"old", headers={"Retry-After": "7"}))
    http = KubeHttp(urllib3.PoolManager(), api.url, lambda: None)
    found = http.stream(WATCH, silence_seconds=5)
    assert found == Answer(status=410, body=b"old", retry_after_seconds=7.0)


def test_silence_breaks_a_stream_off(api: FakeApi) -> None:
    api.on("/watch", Reply(chunks=(b"one\n",), silent=True))
    began, lines = time.monotonic(), iter(open_stream(api, silence_seconds=0.3))
    assert next(lines) == b"one"
    with pytest.raises(UnreachableError, match="broke off"):
        next(lines)
    assert time.monotonic() - began < 5


def test_line_without_end_is_not_kept(api: FakeApi) -> None:
    api.on("/watch", Reply(chunks=(b"x" * 2**20,) * 9, silent=True))
    with pytest.raises(UnreachableError, match="longer than 8388608 bytes"):
        list(open_stream(api))


def test_another_thread_ends_a_silent_stream_at_once(api: FakeApi) -> None:
    api.on("/watch", Reply(chunks=(b"one\n",), silent=True))
    stream, heard, ended = open_stream(api), threading.Event(), threading.Event()

    def read() -> None:
        try:
            for _ in stream:
                heard.set()
        except UnreachableError:
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    assert heard.wait(10)
    stream.close()
    assert ended.wait(2)
    stream.close()
