"""What file names and licence texts tell of code: its language, and under what it may be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

LANGUAGES = {
    ".py": "python", ".pyi": "python", ".ts": "typescript", ".tsx": "typescript", ".js": "javascript",
    ".jsx": "javascript", ".mjs": "javascript", ".go": "go", ".rs": "rust", ".java": "java", ".kt": "kotlin",
    ".c": "c", ".h": "c", ".cc": "c++", ".cpp": "c++", ".hpp": "c++", ".cs": "c#", ".rb": "ruby",
    ".php": "php",
    ".swift": "swift", ".scala": "scala", ".sh": "bash", ".bash": "bash", ".sql": "sql", ".css": "css",
    ".html": "html", ".ex": "elixir", ".exs": "elixir", ".lua": "lua", ".r": "r",
}  # fmt: skip

LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING", "COPYING.txt")

_LICENCES = (
    ("gnu affero general public license", "AGPL-3.0"),
    ("gnu lesser general public license", "LGPL-3.0"),
    ("gnu general public license", "GPL-3.0"),
    ("mozilla public license", "MPL-2.0"),
    ("apache license", "Apache-2.0"),
    ("this is free and unencumbered software", "Unlicense"),
    ("permission to use, copy, modify, and/or distribute this software", "ISC"),
    ("permission is hereby granted, free of charge", "MIT"),
    ("neither the name of", "BSD-3-Clause"),
    ("redistribution and use in source and binary forms", "BSD-2-Clause"),
)
"""Words that a licence's text has, and those of no licence before it."""


def language_of(files: Iterable[str]) -> str:
    """Return the language of most files; empty when none is known."""
    found = (LANGUAGES.get(PurePosixPath(name).suffix.lower()) for name in files)
    counted = Counter(language for language in found if language)
    return counted.most_common(1)[0][0] if counted else ""


def changed_in(diff: str) -> list[str]:
    """Return the files that a unified diff of git adds to or changes, by their names in it."""
    return [line[6:] for line in diff.splitlines() if line.startswith("+++ b/")]


def licence_of(text: str) -> str:
    """Return the SPDX identifier of a licence's text; empty when it is none of the common ones."""
    said = " ".join(text.lower().split())
    return next((licence for words, licence in _LICENCES if words in said), "")
