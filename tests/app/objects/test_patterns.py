"""Users' patterns are compiled as Envoy compiles them, or refused in words."""

from __future__ import annotations

import pytest

from app.objects.patterns import MAX_LENGTH, PatternError, check_pattern, matches, may_match_path


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        pytest.param("/api/v[0-9]+(/.*)?", "", id="good"),
        pytest.param("x" * 996, "", id="as-large-as-envoy-takes"),
        pytest.param("", "is empty: write .* for any text", id="empty"),
        pytest.param(
            "x" * 997,
            "needs 1001 RE2 instructions, of which 1000 are allowed: shorten it, or use smaller "
            "counts",
            id="one-more-than-envoy-takes",
        ),
        pytest.param(
            "(?=a)b",
            "is not a pattern RE2 can compile: invalid perl operator: (?=",
            id="look-ahead",
        ),
        pytest.param("(a", "is not a pattern RE2 can compile: missing ): (a", id="open-group"),
        pytest.param(
            "x" * 100_000,
            f"has 100000 characters; a pattern may have at most {MAX_LENGTH}: shorten it",
            id="100-kB",
        ),
        pytest.param(
            "\ud800", "is not valid text: remove what is not UTF-8", id="half-a-character"
        ),
    ],
)
def test_pattern_is_checked(pattern: str, reason: str) -> None:
    assert check_pattern(pattern) == reason


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        pytest.param("/a", "/a", True, id="whole"),
        pytest.param("/a", "/ab", False, id="not-only-the-beginning"),
        pytest.param("a|ab", "ab", True, id="any-alternative"),
        pytest.param("/é", "/é", True, id="beyond-ascii"),
        pytest.param(".", "é", False, id="a-dot-is-one-byte"),
        pytest.param(".*", "a\nb", False, id="a-dot-is-no-line-end"),
    ],
)
def test_pattern_fits_the_whole_text(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


def test_bad_pattern_matches_nothing_but_says_so() -> None:
    with pytest.raises(PatternError, match="RE2"):
        matches("(", "x")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("/books", True, id="path"),
        pytest.param("^/$", True, id="anchored"),
        pytest.param(".*", True, id="anything"),
        pytest.param("(a|/b)", True, id="one-of-two"),
        pytest.param("(?i)/A", True, id="any-case"),
        pytest.param("books.*", False, id="no-slash"),
        pytest.param("\\.*", False, id="dots"),
        pytest.param("a{0}", False, id="nothing"),
    ],
)
def test_pattern_that_no_path_fits_is_known(pattern: str, expected: bool) -> None:
    assert may_match_path(pattern) is expected
