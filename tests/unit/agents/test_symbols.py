"""Symbols are found in each language that has a grammar."""

from __future__ import annotations

import pytest

from phoenix.agents.symbols import LINE_CHARS, find_symbols

PYTHON = """
@decorated
async def fetch(
    url: str, *, tries: int = 3,
) -> bytes:
    def inner(): pass

class Shop(Base, metaclass=Meta):
    '''Sells.'''
    @property
    def total(self) -> int:
        return 1
    class Inner:
        pass

if True:
    def conditional(): pass
CONSTANT = 1
"""
JAVASCRIPT = """
export default function main(a, b) { function inner() {} }
export class Shop extends Base { static total(x) { return x } }
export const pick = async (a) => a
const n = 1
function* numbers() {}
"""
TYPESCRIPT = """
export interface Item { name: string }
export type Price = { amount: number }
export abstract class Shop<T> extends Base implements Kept { private total(x: T): number { return 1 } }
enum Colour { Red }
export const pick = async (a: string): Promise<string> => a
"""
GO = """package shop
type Shop struct { Name string }
type Seller interface { Sell() error }
func New(name string) *Shop { return nil }
func (s *Shop) Sell(n int) (int, error) { return 0, nil }
"""


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (
            "a.py",
            PYTHON,
            [
                ("fetch", "", "async def fetch( url: str, *, tries: int = 3, ) -> bytes"),
                ("Shop", "", "class Shop(Base, metaclass=Meta)"),
                ("total", "Shop", "def total(self) -> int"),
                ("Inner", "Shop", "class Inner"),
                ("conditional", "", "def conditional()"),
            ],
        ),
        (
            "a.js",
            JAVASCRIPT,
            [
                ("main", "", "function main(a, b)"),
                ("Shop", "", "class Shop extends Base"),
                ("total", "Shop", "static total(x)"),
                ("pick", "", "pick = async (a)"),
                ("numbers", "", "function* numbers()"),
            ],
        ),
        (
            "a.ts",
            TYPESCRIPT,
            [
                ("Item", "", "interface Item"),
                ("Price", "", "type Price"),
                ("Shop", "", "abstract class Shop<T> extends Base implements Kept"),
                ("total", "Shop", "private total(x: T): number"),
                ("Colour", "", "enum Colour"),
                ("pick", "", "pick = async (a: string): Promise<string>"),
            ],
        ),
        (
            "a.go",
            GO,
            [
                ("Shop", "", "type Shop struct"),
                ("Seller", "", "type Seller interface"),
                ("New", "", "func New(name string) *Shop"),
                ("Sell", "Shop", "func (s *Shop) Sell(n int) (int, error)"),
            ],
        ),
    ],
)
def test_definitions_have_signatures(path: str, text: str, expected: list[tuple[str, str, str]]) -> None:
    """Classes, functions and methods are found; what is inside a function is not."""
    assert [(s.name, s.owner, s.signature) for s in find_symbols(path, text)] == expected


def test_lines_count_from_one() -> None:
    """The line is where the definition starts."""
    assert [s.line for s in find_symbols("a.py", "\n\ndef f(): pass\n")] == [3]


@pytest.mark.parametrize(
    "text",
    ["def (\nclass A:\n def f(", "\ud800def f(): pass", "\x00" * 50, "(" * 20_000, "class A:\n" * 300, ""],
)
def test_what_does_not_parse_does_no_harm(text: str) -> None:
    """Broken, binary and deeply nested files give what can be told."""
    for path in ("a.py", "a.ts", "a.go", "a.txt", "noending"):
        for symbol in find_symbols(path, text):
            assert symbol.signature.isprintable()


def test_generated_files_have_no_symbols() -> None:
    """A minified file would fill the map with nonsense."""
    assert find_symbols("a.js", "function a(){}" + ";" * LINE_CHARS) == []
