"""Documentation says what the code does: generated pages are current, links lead somewhere."""

import re
from pathlib import Path

import pytest
from architecture.generated_docs import DOCS, PAGES

from app.errors import FINDINGS

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("xds/**/*.py")])
WRITTEN = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md")])


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in WRITTEN])
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def codes_in(path: Path) -> set[str]:
    """Error codes that the module has as texts; prose may name more."""
    return set(re.findall(r"""["'](E\d{4})["']""", path.read_text(encoding="utf-8")))


def test_every_error_code_is_documented() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| (E\d{4}) \|", page, re.MULTILINE))
    undocumented = {name(path): codes for path in SOURCES if (codes := codes_in(path) - documented)}
    assert undocumented == {}


def test_every_finding_is_found_somewhere() -> None:
    home = ROOT / "app" / "errors.py"
    used = set().union(*(codes_in(path) for path in SOURCES if path != home))
    assert FINDINGS.keys() - used == set()


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))
