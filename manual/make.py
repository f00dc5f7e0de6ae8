"""Writes the pages of the reference that say what the code says: `python -m manual.make`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from manual import commands, error_codes, events, metrics, routes

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
MADE = "<!-- Written by `python -m manual.make` from the code; change it there. -->\n\n"
PAGES: Mapping[str, Callable[[], str]] = {
    "commands": commands.page,
    "http-api": routes.page,
    "events": events.page,
    "metrics": metrics.page,
    "error-codes": error_codes.page,
}


def text(name: str) -> str:
    """Return a page as Markdown."""
    return MADE + PAGES[name]().rstrip() + "\n"


def main() -> None:
    """Write all pages."""
    for name in PAGES:
        (FOLDER / f"{name}.md").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
