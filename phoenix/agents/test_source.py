"""Single tests of a test file: taken out of it, or compared apart from how they are laid out."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(test_id: str) -> str:
    """Return a pytest id without its file: `test_x` or `Class::test_x`."""
    return test_id.partition("::")[2].partition("[")[0]


def without_tests(source: str, names: Collection[str]) -> str:
    """Return a file's text without some tests; everything else stays as its author wrote it.

    A file that is not Python, which then holds none of them, stays as it is.
    """
    tree = _parsed(source)
    if tree is None or not names:
        return source
    dropped: set[int] = set()
    for node in _dropped(tree, names):
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        dropped |= set(range(first, (node.end_lineno or node.lineno) + 1))
    lines = source.splitlines(keepends=True)
    return "".join(line for n, line in enumerate(lines, 1) if n not in dropped)


def plain_tests(source: str, names: Collection[str]) -> str:
    """Return what a file says without some tests, whatever its layout and comments."""
    tree = _parsed(without_tests(source, names))
    return source if tree is None else ast.unparse(tree)


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def _dropped(tree: ast.Module, names: Collection[str]) -> Iterator[Function | ast.ClassDef]:
    """Yield the tests of these names, and classes of which they are all there is."""
    for node in tree.body:
        if isinstance(node, Function) and node.name in names:
            yield node
        if isinstance(node, ast.ClassDef):
            inside = [n for n in node.body if isinstance(n, Function) and f"{node.name}::{n.name}" in names]
            if inside and len(inside) == len([n for n in node.body if not _says_nothing(n)]):
                yield node
            else:
                yield from inside


def _says_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
