"""Find the classes, functions and methods of a source file, with their signatures."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from tree_sitter import Language, Node, Parser

SIGNATURE_CHARS = 160
FILE_CHARS = 200_000
LINE_CHARS = 5000
"""A file with a longer line is generated or minified: it has no symbols worth showing."""


@dataclass(frozen=True)
class Symbol:
    """One definition. `line` counts from 1; `owner` is the class of a method, else empty."""

    name: str
    line: int
    signature: str
    owner: str = ""


@dataclass(frozen=True)
class _Grammar:
    module: str
    function: str
    definitions: frozenset[str]
    containers: frozenset[str]
    classes: frozenset[str] = frozenset()


_JAVASCRIPT = {
    "definitions": frozenset(
        {"function_declaration", "generator_function_declaration", "method_definition"}
        | {"class_declaration", "abstract_class_declaration", "interface_declaration"}
        | {"type_alias_declaration", "enum_declaration", "variable_declarator"}
    ),
    "containers": frozenset(
        {"export_statement", "lexical_declaration", "variable_declaration", "class_body"}
        | {"internal_module", "expression_statement", "statement_block"}
    ),
    "classes": frozenset({"class_declaration", "abstract_class_declaration"}),
}
_PYTHON = _Grammar(
    "tree_sitter_python",
    "language",
    definitions=frozenset({"function_definition", "class_definition"}),
    containers=frozenset(
        {"decorated_definition", "if_statement", "else_clause", "try_statement", "except_clause", "block"}
    ),
    classes=frozenset({"class_definition"}),
)
_GO = _Grammar(
    "tree_sitter_go",
    "language",
    definitions=frozenset({"function_declaration", "method_declaration", "type_spec", "type_alias"}),
    containers=frozenset({"type_declaration"}),
)
_JS = _Grammar("tree_sitter_javascript", "language", **_JAVASCRIPT)
_TS = _Grammar("tree_sitter_typescript", "language_typescript", **_JAVASCRIPT)
_TSX = _Grammar("tree_sitter_typescript", "language_tsx", **_JAVASCRIPT)
GRAMMARS = {
    ".py": _PYTHON,
    ".pyi": _PYTHON,
    ".go": _GO,
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), _JS),
    **dict.fromkeys((".ts", ".mts", ".cts"), _TS),
    ".tsx": _TSX,
}
_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function"})


@cache
def _language(module: str, function: str) -> Language:
    return Language(getattr(importlib.import_module(module), function)())


def find_symbols(path: str, text: str) -> list[Symbol]:
    """Return a file's symbols in order; none for a language that is not known.

    A file that does not parse gives those symbols that can still be told.
    """
    grammar = GRAMMARS.get(PurePosixPath(path).suffix.lower())
    if grammar is None or len(text) > FILE_CHARS or max(map(len, text.splitlines()), default=0) > LINE_CHARS:
        return []
    source = text.encode("utf-8", "replace")
    tree = Parser(_language(grammar.module, grammar.function)).parse(source)
    return list(_walk(tree.root_node, grammar, source))


def _walk(root: Node, grammar: _Grammar, source: bytes) -> Iterator[Symbol]:
    """Visit what may hold definitions: never the inside of a function, so that large files stay quick."""
    stack: list[tuple[Node, str]] = [(child, "") for child in reversed(root.named_children)]
    while stack:
        node, owner = stack.pop()
        if node.type in grammar.definitions:
            symbol = _symbol(node, owner, source)
            if symbol is None:
                continue
            yield symbol
            body = node.child_by_field_name("body") if node.type in grammar.classes else None
            if body is not None and not owner:
                stack.extend((child, symbol.name) for child in reversed(body.named_children))
        elif node.type in grammar.containers:
            stack.extend((child, owner) for child in reversed(node.named_children))


def _symbol(node: Node, owner: str, source: bytes) -> Symbol | None:
    named, value = node.child_by_field_name("name"), node
    if node.type == "variable_declarator":
        given = node.child_by_field_name("value")
        if given is None or given.type not in _FUNCTIONS:
            return None
        value = given
    if named is None:
        return None
    body = value.child_by_field_name("body")
    whole = node.type in {"type_spec", "type_alias", "type_alias_declaration"}
    end = min(node.end_byte, node.start_byte + 400) if whole or body is None else body.start_byte
    text = source[node.start_byte : end].decode("utf-8", "replace")
    if whole:
        text = text.partition("{")[0]
    if node.type in {"type_spec", "type_alias"}:
        text = f"type {text}"
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return Symbol(
        name=source[named.start_byte : named.end_byte].decode("utf-8", "replace"),
        line=node.start_point[0] + 1,
        signature=shown.removesuffix("{").removesuffix("=>").rstrip(" :=")[:SIGNATURE_CHARS],
        owner=_receiver(node, source) or owner,
    )


def _receiver(node: Node, source: bytes) -> str:
    """Return the type that a Go method belongs to."""
    receiver = node.child_by_field_name("receiver")
    if receiver is None:
        return ""
    text = source[receiver.start_byte : receiver.end_byte].decode("utf-8", "replace")
    return text.strip("()").split()[-1].lstrip("*").partition("[")[0] if text.strip("() ") else ""
