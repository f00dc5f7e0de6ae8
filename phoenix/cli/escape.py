"""Foreign text, such as a model's or a tool's, made harmless for a terminal."""

from __future__ import annotations

from functools import cache

_KEPT = "\n\t"
_ESCAPE = 0x1B
_INVISIBLE = (0x200B, 0x200E, 0x200F, 0xFEFF, *range(0x202A, 0x202F), *range(0x2060, 0x206A))
"""Marks that hide text or turn its direction round."""


@cache
def _table() -> dict[int, str | None]:
    table: dict[int, str | None] = {
        c: "\ufffd" for c in (*range(0x20), *range(0x7F, 0xA0)) if chr(c) not in _KEPT
    }
    table |= {_ESCAPE: "\u241b", ord("\r"): None}
    table |= dict.fromkeys(_INVISIBLE, "\ufffd")
    table |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
    return table


def clean(text: str) -> str:
    """Return the text without control characters: what it says is seen, and does nothing."""
    return text.translate(_table())


def one_line(text: str, width: int = 100) -> str:
    """Return the text's words on one line of at most `width` characters."""
    line = " ".join(clean(text[: width * 8]).split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
