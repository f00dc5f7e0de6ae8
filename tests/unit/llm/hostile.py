"""Hostile outputs of a model: what makes parsers slow, deep, huge or wrong. Deterministic by seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

PIECES = (
    *('{"a": ', '"', "'", "`", "\u201c", "\u201d", "\\", '\\"', "\\u", "\\ud800", "\x00", "\ud800", "\ufeff"),
    *(
        "{",
        "}",
        "[",
        "]",
        "{{",
        "}}",
        ":",
        ",",
        ",,",
        "\n",
        "\t",
        " ",
        "//",
        "/*",
        "*/",
        "#",
        "```json\n",
        "```",
    ),
    *(
        "<think>",
        "</think>",
        "NaN",
        "Infinity",
        "-",
        "1e999",
        "0x1F",
        "007",
        "9" * 50,
        "None",
        "True",
        "null",
    ),
    *(
        '"key": ',
        "key: ",
        "'key': ",
        '"b": [1, 2]',
        '{"c": "d"}',
        "text",
        "é",
        "日本",
        "\U0001f600",
        "...",
        "=",
    ),
)

REPEATED = (
    *(
        "{",
        "[",
        '{"a":',
        '[{"a":',
        '{"a": [',
        "{{",
        '"',
        "'",
        "\\",
        '\\"',
        '"//',
        '"#',
        '"/*',
        "/*",
        "*/",
        "//\n",
    ),
    *(
        '", "',
        "', '",
        "\u201c', '",
        '"a", "',
        ' "',
        '\n"',
        '"a"\n',
        "{a",
        "{a:",
        '{"a":"',
        "}",
        "]",
        ",",
        " ",
        "\n",
    ),
    *(
        "9",
        "1e",
        "-",
        ".",
        "\x00",
        "\ud800",
        "```",
        "<think>",
        "``` {",
        '{"a": 1}',
        '{"a": 1},',
        "{}",
        '{"a": "b" ',
        ":",
    ),
    *('{"a": "', "a b ", '"a": ', '"a\\"', "'a', \u201c", "\\u00", "# {", '{"a": //', "{ /*"),
)


def _pieces(random_: random.Random, size: int) -> str:
    return "".join(random_.choice(PIECES) for _ in range(random_.randint(1, max(2, size // 4))))


def _repeated(random_: random.Random, size: int) -> str:
    piece = random_.choice(REPEATED)
    start = random_.choice(("", '{"a": ', '{"a": "', '{"a": [', "[", "{'a': '", "{a: "))
    return (
        start + piece * random_.randint(1, max(1, size // len(piece))) + random_.choice(("", '"}', "]}", "}"))
    )


def _two(random_: random.Random, size: int) -> str:
    first, second = random_.choice(REPEATED), random_.choice(REPEATED)
    return '{"a": ' + (first + second) * random_.randint(1, max(1, size // (len(first) + len(second))))


def _deep(random_: random.Random, size: int) -> str:
    opening, closing = random_.choice((("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ("{{", "}}")))
    depth = random_.randint(1, size)
    return (
        '{"a":'
        + opening * depth
        + random_.choice(("1", '"x"', ""))
        + closing * (depth - random_.choice((0, 1, 2)))
    )


def _number(random_: random.Random, size: int) -> str:
    digits = "9" * random_.randint(1, size)
    sign, end = random_.choice(("", "-", "+", ".")), random_.choice(("", ".5", "e999", "e", "."))
    return f'{{"a": {sign}{digits}{end}}}'


MAKERS: tuple[Callable[[random.Random, int], str], ...] = (_pieces, _repeated, _two, _deep, _number)


def hostile(count: int, *, seed: int = 0, size: int = 4000) -> Iterator[str]:
    """Give so many outputs of up to about `size` characters."""
    random_ = random.Random(seed)
    for number in range(count):
        yield MAKERS[number % len(MAKERS)](random_, random_.choice((20, 200, size)))
