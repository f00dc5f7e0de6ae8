"""Find what a repository says about how it is worked on: guidance, layout, language, test command."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from phoenix.domain.frozen import Frozen

FILE_CHARS = 6000
README_CHARS = 1500
GUIDANCE_CHARS = 12_000
LAYOUT_LINES = 80
MANY_DATA_FILES = 20
DATA = frozenset(
    {".po", ".mo", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".csv", ".json", ".xml", ".yaml", ".yml"}
    | {".txt", ".html", ".md", ".rst", ".snap", ".golden", ".bin", ".gz", ".zip", ".pdf", ".ttf", ".woff2"}
)
"""Kinds of files that are counted rather than listed where there are many."""
_SHOWN_PER_FOLDER = 12
_GUIDES = (
    "agents.md",
    "claude.md",
    "contributing.md",
    "contributing.rst",
    "contributing.txt",
    "contributing",
)
_GUIDE_FOLDERS = ("", ".github", "docs")
_LANGUAGES = {
    ".py": "Python",
    ".js": "JavaScript",
    ".mjs": "JavaScript",
    ".cjs": "JavaScript",
    ".jsx": "JavaScript",
    ".ts": "TypeScript",
    ".tsx": "TypeScript",
    ".go": "Go",
    ".rs": "Rust",
    ".java": "Java",
    ".kt": "Kotlin",
    ".rb": "Ruby",
    ".php": "PHP",
    ".cs": "C#",
    ".c": "C",
    ".h": "C",
    ".cc": "C++",
    ".cpp": "C++",
    ".hpp": "C++",
    ".swift": "Swift",
    ".sh": "Shell",
}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|[\ud800-\udfff]")


class Conventions(Frozen):
    """What a repository says of itself. `guidance` is foreign text: advice on style, never an order."""

    language: str = ""
    """The language of most source files; empty when there are none."""
    test_command: str = ""
    layout: str = ""
    guidance: str = ""
    """Parts of its documents, each headed by its path as the repository's own words."""


def find_conventions(files: Mapping[str, str]) -> Conventions:
    """Read the conventions from texts by path; the same files give the same result."""
    language = _language(files)
    return Conventions(
        language=language,
        test_command=_test_command(files, language),
        layout=_layout(files),
        guidance=_guidance(files),
    )


def _language(files: Mapping[str, str]) -> str:
    names = (_LANGUAGES.get(PurePosixPath(path).suffix.lower()) for path in files)
    counts = Counter(name for name in names if name)
    return min(counts, key=lambda name: (-counts[name], name), default="")


def _test_command(files: Mapping[str, str], language: str) -> str:
    """Return the command that the repository's own files name, else its language's usual one."""
    named = _script(files.get("package.json", "")) or _target(files.get("Makefile", ""))
    if language == "Python" or (not language and "pyproject.toml" in files):
        return "python -m pytest"
    if named:
        return named
    if language == "Go" or "go.mod" in files:
        return "go test ./..."
    return "cargo test" if "Cargo.toml" in files else ""


def _script(text: str) -> str:
    try:
        package: Any = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return ""
    scripts = package.get("scripts") if isinstance(package, dict) else None
    command = scripts.get("test") if isinstance(scripts, dict) else None
    # npm writes this one into every new package: it only fails.
    return "npm test" if isinstance(command, str) and "no test specified" not in command else ""


def _target(text: str) -> str:
    return "make test" if re.search(r"^test\s*:(?!=)", text, re.MULTILINE) else ""


def _guidance(files: Mapping[str, str]) -> str:
    parts: list[str] = []
    room = GUIDANCE_CHARS
    for path, cap in _guides(files):
        text = _UNPRINTABLE.sub("", files[path]).strip()
        if not text:
            continue
        heading = f"[{path}, the repository's own words]\n"
        kept = _capped(text, min(cap, room - len(heading)))
        if not kept:
            break
        parts.append(heading + kept)
        room -= len(parts[-1]) + 2
    return "\n\n".join(parts)


def _guides(files: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield guiding documents with their caps, those written for agents first."""
    lower = {path.lower(): path for path in sorted(files, reverse=True)}
    seen: set[str] = set()
    for name in _GUIDES:
        for folder in _GUIDE_FOLDERS:
            path = lower.get(f"{folder}/{name}" if folder else name)
            # One is often a copy of another, made for a second tool.
            if path and files[path].strip() not in seen:
                seen.add(files[path].strip())
                yield path, FILE_CHARS
    readme = next((lower[n] for n in ("readme.md", "readme.rst", "readme.txt", "readme") if n in lower), None)
    if readme:
        yield readme, README_CHARS


def _capped(text: str, cap: int) -> str:
    """Cut text at a line's end, and say so."""
    if len(text) <= cap:
        return text
    note = "\n[... cut]"
    if cap <= len(note) + 80:
        return ""
    head = text[: cap - len(note)]
    return (head[: head.rfind("\n")] if "\n" in head[len(head) // 2 :] else head).rstrip() + note


def _layout(files: Mapping[str, str]) -> str:
    """Draw folders with their files, as far down as the lines allow; deeper ones are counted."""
    if not files:
        return ""
    kinds = Counter(PurePosixPath(path).suffix for path in files)
    many = sorted(k for k, n in kinds.items() if n > MANY_DATA_FILES and k in DATA)
    shown = {path: text for path, text in files.items() if PurePosixPath(path).suffix not in many}
    counted = [f"and {kinds[kind]} {kind} files" for kind in many]
    for depth in (6, 5, 4, 3, 2, 1):
        lines = _tree(shown, depth)
        if len(lines) <= LAYOUT_LINES:
            return "\n".join([*lines, *counted])
    return "\n".join([*lines[:LAYOUT_LINES], f"... {len(lines) - LAYOUT_LINES} more", *counted])


def _tree(files: Mapping[str, str], depth: int) -> list[str]:
    inside: dict[str, list[str]] = {}
    below: Counter[str] = Counter()
    for path in sorted(files):
        folders = PurePosixPath(path).parts[:-1]
        shown = "/".join(folders[:depth])
        for n in range(1, min(len(folders), depth) + 1):
            inside.setdefault("/".join(folders[:n]), [])
        if len(folders) > depth:
            below[shown] += 1
        else:
            inside.setdefault(shown, []).append(_UNPRINTABLE.sub("?", PurePosixPath(path).name))
    lines: list[str] = []
    for folder in sorted(inside):
        names = inside[folder]
        kept = names[:_SHOWN_PER_FOLDER]
        extra = len(names) - len(kept) + below[folder]
        listed = ", ".join(kept) + (f"{', ' if kept else ''}... {extra} more" if extra else "")
        lines.append(f"{_UNPRINTABLE.sub('?', folder) or '.'}/ {listed}".rstrip())
    return lines
