"""A repository's conventions are found, capped, and marked as its own words."""

from __future__ import annotations

import json

import pytest

from phoenix.agents.conventions import GUIDANCE_CHARS, LAYOUT_LINES, Conventions, find_conventions


def test_guidance_for_agents_comes_first_and_is_marked_as_foreign() -> None:
    """Each document is headed by its path; a copy is not shown twice; other documents are not read."""
    files = {
        "README.md": "# Shop\nSells things.",
        "docs/CONTRIBUTING.md": "Sign your work.",
        "AGENTS.md": "Use tabs.\x1b\x00",
        "CLAUDE.md": "Use tabs.\x1b\x00",
        "docs/other.md": "No.",
        "sub/AGENTS.md": "No.",
    }
    assert find_conventions(files).guidance == (
        "[AGENTS.md, the repository's own words]\nUse tabs.\n\n"
        "[docs/CONTRIBUTING.md, the repository's own words]\nSign your work.\n\n"
        "[README.md, the repository's own words]\n# Shop\nSells things."
    )


def test_guidance_is_capped_and_says_so() -> None:
    """A book of rules keeps its start."""
    files = {
        name: f"Rule of {name}\n" * 2000 for name in ("AGENTS.md", "CLAUDE.md", "CONTRIBUTING.md", "README")
    }
    guidance = find_conventions(files).guidance
    assert len(guidance) <= GUIDANCE_CHARS
    assert guidance.startswith("[AGENTS.md, the repository's own words]\nRule of AGENTS.md\n")
    assert "[CLAUDE.md, " in guidance
    assert guidance.endswith("[... cut]")


@pytest.mark.parametrize(
    ("files", "language", "command"),
    [
        ({}, "", ""),
        ({"pyproject.toml": ""}, "", "python -m pytest"),
        ({"a.py": "", "b.py": "", "c.js": ""}, "Python", "python -m pytest"),
        ({"a.ts": "", "package.json": json.dumps({"scripts": {"test": "vitest"}})}, "TypeScript", "npm test"),
        (
            {"a.js": "", "package.json": json.dumps({"scripts": {"test": 'echo "no test specified"'}})},
            "JavaScript",
            "",
        ),
        ({"a.js": "", "package.json": "[" * 5000}, "JavaScript", ""),
        ({"a.c": "", "Makefile": "all:\ntest: all\n\t./t\n"}, "C", "make test"),
        ({"a.c": "", "Makefile": "test := 1\n"}, "C", ""),
        ({"a.go": "", "go.mod": ""}, "Go", "go test ./..."),
        ({"src/a.rs": "", "Cargo.toml": ""}, "Rust", "cargo test"),
    ],
)
def test_language_and_test_command_are_told_by_the_files(
    files: dict[str, str], language: str, command: str
) -> None:
    """The most common language counts, and the repository's own test command where it names one."""
    found = find_conventions(files)
    assert (found.language, found.test_command) == (language, command)


def test_the_layout_shows_folders_with_their_files() -> None:
    """Each folder has a line; long ones are counted."""
    files = {"README.md": "", "src/shop/a.py": "", **{f"tests/test_{n:02}.py": "" for n in range(20)}}
    assert find_conventions(files).layout.splitlines() == [
        "./ README.md",
        "src/",
        "src/shop/ a.py",
        "tests/ " + ", ".join(f"test_{n:02}.py" for n in range(12)) + ", ... 8 more",
    ]


def test_a_large_layout_is_drawn_less_deep() -> None:
    """Thousands of folders still fit, and so does one flat folder of folders."""
    deep = {f"a/b{n}/c{m}/d/e.py": "" for n in range(20) for m in range(30)}
    lines = find_conventions(deep).layout.splitlines()
    assert len(lines) <= LAYOUT_LINES
    assert "a/b0/ ... 30 more" in lines
    flat = find_conventions({f"p{n}/a.py": "" for n in range(500)}).layout.splitlines()
    assert len(flat) == LAYOUT_LINES + 1
    assert flat[-1] == "... 420 more"


def test_conventions_round_trip() -> None:
    """They may live in a checkpoint."""
    found = find_conventions({"a.py": "", "README.md": "x"})
    assert Conventions.model_validate_json(found.model_dump_json()) == found
