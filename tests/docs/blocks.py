"""The blocks of code in the documentation, with the notes before them that say how they are run.

A note is an HTML comment on the line before a block: `<!-- not run: why -->`, `<!-- project: waiting -->`,
`<!-- alone -->` (no service is named), `<!-- exact -->` (what is shown is what is printed).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOTE = re.compile(r"<!-- ([a-z ]+)(?:: ((?:(?!-->).)*))? -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """What a reader types, and what the page shows after it."""

    text: str
    shown: str


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    notes: tuple[tuple[str, str], ...] = ()

    def note(self, name: str) -> str | None:
        """Return what a note says; empty when it says no more than its name, None without it."""
        return dict(self.notes).get(name)

    def commands(self) -> list[Command]:
        """Return a console's commands; a line that ends within quotes or in a backslash goes on."""
        if self.language in {"bash", "sh"}:
            return [Command(line, "") for line in self.text.splitlines() if line.strip()]
        found: list[tuple[list[str], list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(([line[2:]], []))
            elif found and not found[-1][1] and _is_open("\n".join(found[-1][0])):
                found[-1][0].append(line)
            elif found:
                found[-1][1].append(line)
        return [Command("\n".join(typed), "\n".join(shown)) for typed, shown in found]


def _is_open(text: str) -> bool:
    if text.endswith("\\"):
        return True
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return False


def blocks_of(page: Path) -> Iterator[Block]:
    """Return a page's blocks in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        before, notes = text[: found.start()], []
        while note := NOTE.search(before):
            notes.append((note[1], " ".join((note[2] or "").split())))
            before = before[: note.start()]
        line = text.count("\n", 0, found.start()) + 1
        name = str(page.relative_to(ROOT))
        yield Block(name, line, found[1], found[2], tuple(notes))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
