"""Paths as Envoy 1.40 resolves them; a law test in tests/e2e compares random ones with Envoy."""

from __future__ import annotations

import pytest

from app.mesh.paths import normalized


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/", "/"),
        ("/a/./b/../c", "/a/c"),
        ("/../../a", "/a"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/a/...", "/a/..."),
        ("/.a/b.", "/.a/b."),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e", "/"),
        ("/a%2e", "/a."),
        ("/a%2f..%2Fb", "/b"),
        ("/a%5c..%5Cb", "/b"),
        ("/a\\..\\b", "/b"),
        ("/a%252fb", "/a%252fb"),
        ("/a//b///c", "/a/b/c"),
        ("//a//", "/a/"),
        ("//", "//"),
        ("/%2f%2f", "//"),
        ("/a/..//b", "/b"),
        ("/a/..;x=1/b", "/b"),
        ("/a/.;x", "/a/"),
        ("/a/b;x/c", "/a/b;x/c"),
        ("/a/%2e%2e;/b", "/a/..;/b"),
        ("/%41%7e%2d%5F", "/A~-_"),
        ("/%20%3f%23%c3%a9", "/%20%3f%23%c3%a9"),
        ('/<a>"{b}|^`', "/%3Ca%3E%22%7Bb%7D%7C%5E%60"),
        ("/%", "/%"),
        ("/%2", "/%2"),
        ("/%zz", "/%zz"),
        ("/%a%zz", "/%a%zz"),
        ("/%%32%65", "/%252e"),
        ("/%2%65%2e/a", "/%252e./a"),
        ("/%2%7e", "/%2~"),
        ("/%%7e", "/%~"),
        ("/%%32", "/%2"),
        ("/%2%46%7e/../%2f%32b", "/2b"),
        ("/%/%32b", "/%/2b"),
        ("/%00", None),
        ("/a%00b", None),
    ],
)
def test_path_is_resolved(path: str, resolved: str | None) -> None:
    assert normalized(path) == resolved
