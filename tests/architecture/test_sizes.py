"""Files and functions stay within the house's budget: over it, they are two ideas."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("xds/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))
FILE_LINES, TEST_FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 600, 40, 6


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    ("path", "limit"),
    [pytest.param(p, FILE_LINES, id=name(p)) for p in SOURCES]
    + [pytest.param(p, TEST_FILE_LINES, id=name(p)) for p in TESTS],
)
def test_file_is_one_idea(path: Path, limit: int) -> None:
    assert len(path.read_text().splitlines()) <= limit


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the function without its docstring."""
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([n for n in names if n not in ("self", "cls")])


@pytest.mark.parametrize("path", [pytest.param(p, id=name(p)) for p in SOURCES])
def test_functions_are_short(path: Path) -> None:
    long = {f.name: lines_of(f) for f in functions(path) if lines_of(f) > FUNCTION_LINES}
    assert long == {}


@pytest.mark.parametrize("path", [pytest.param(p, id=name(p)) for p in SOURCES])
def test_functions_have_few_parameters(path: Path) -> None:
    # A command's parameters are its options: the CLI's grammar, not a call somebody has to read.
    commands = "app/cli/" in name(path)
    wide = {f.name for f in functions(path) if parameters_of(f) > PARAMETERS and not commands}
    assert wide == set()


@pytest.mark.parametrize("path", [pytest.param(p, id=name(p)) for p in SOURCES])
def test_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
