"""The code keeps the sizes and names of the style guide."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import phoenix

ROOT = Path(phoenix.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
MODULE_LINES, FUNCTION_LINES, NESTING = 500, 70, 4
"""The most that is allowed; about 300, 40 and 3 are what to aim at."""

FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
Function = ast.FunctionDef | ast.AsyncFunctionDef
Block = ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.Match


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def nesting(node: ast.AST) -> int:
    """Return how deep blocks lie inside each other; `elif` and inner functions do not count."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, Function | ast.ClassDef | ast.Lambda):
                continue
            is_elif = isinstance(node, ast.If) and field == "orelse" and isinstance(child, ast.If)
            deepest = max(deepest, nesting(child) + (isinstance(child, Block) and not is_elif))
    return deepest


def problems(source: str, name: str) -> list[str]:
    """Return what is too large in one module, or wrongly named."""
    found = []
    if Path(name).stem in FORBIDDEN:
        found.append(f"{name}: name it by what it holds")
    if len(source.splitlines()) > MODULE_LINES:
        found.append(f"{name}: {len(source.splitlines())} lines")
    for function in functions(ast.parse(source)):
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > FUNCTION_LINES:
            found.append(f"{name}: {function.name} has {lines} lines")
        if nesting(function) > NESTING:
            found.append(f"{name}: {function.name} nests {nesting(function)} deep")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_the_limits(path: Path) -> None:
    """No module, function or nesting is larger than allowed, and no module is a heap of odds and ends."""
    assert problems(path.read_text(), str(path.relative_to(ROOT))) == []


def test_no_folder_is_a_heap() -> None:
    """Folders are named by what they hold as well."""
    assert [path for path in ROOT.rglob("*") if path.is_dir() and path.name in FORBIDDEN] == []


@pytest.mark.parametrize(
    ("source", "name", "problem"),
    [
        ("x = 1\n" * 501, "long.py", "501 lines"),
        ("def f():\n" + "    x = 1\n" * 70, "f.py", "f has 71 lines"),
        ("", "flow/utils.py", "name it by what it holds"),
        (
            "async def f():\n if 1:\n  for x in y:\n   while 1:\n    with x:\n     if x: pass",
            "deep.py",
            "f nests 5 deep",
        ),
    ],
)
def test_the_limits_are_seen(source: str, name: str, problem: str) -> None:
    """What is over a limit is told with its place."""
    assert problems(source, name) == [f"{name}: {problem}"]


def test_a_chain_of_elifs_is_not_deep() -> None:
    """Alternatives beside each other are one level."""
    source = "def f(x):\n if x == 1: pass\n" + "".join(f" elif x == {n}: pass\n" for n in range(2, 9))
    assert problems(source, "flat.py") == []
