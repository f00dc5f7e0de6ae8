"""The reference says what the code says, and the pages that name tests name tests that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from manual.events import ALL
from manual.make import FOLDER, PAGES, text
from tests.docs.blocks import ROOT
from tests.unit.telemetry.test_alerts import NAME, known

CODE = sorted((ROOT / "phoenix").rglob("*.py"))
EMITTERS = {"append", "emit", "_say", "_tell"}
KIND = re.compile(r"[a-z]+(_[a-z]+)+")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_written(name: str) -> None:
    """`python -m manual.make` writes it anew."""
    assert (FOLDER / f"{name}.md").read_text() == text(name)


def emitted() -> Iterator[tuple[str, set[str] | None, str]]:
    """Return each event that code names where it emits it: kind, fields (None: not all named), place."""
    for path in CODE:
        if "migrations" in path.parts or "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name not in EMITTERS:
                continue
            kinds = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            for kind in kinds:
                if KIND.fullmatch(kind):
                    yield kind, _fields(node), f"{path.relative_to(ROOT)}:{node.lineno}"


def _fields(call: ast.Call) -> set[str] | None:
    names = {keyword.arg for keyword in call.keywords}
    is_whole = isinstance(call.func, ast.Attribute) and call.func.attr == "emit" and None not in names
    return {name for name in names if name} if is_whole and names else None


def test_every_event_that_is_emitted_is_described() -> None:
    """With all its fields, where the code gives them by name."""
    found = [*emitted()]
    assert len({kind for kind, _, _ in found}) > 40
    for kind, fields, place in found:
        assert kind in ALL, f"{place} emits {kind}, which manual/events.py does not know"
        described = {name.rstrip("?") for name in ALL[kind].fields.split()}
        assert fields is None or fields <= described, f"{place}: {kind} has {fields - described}"


def test_every_event_that_is_described_is_in_the_code() -> None:
    """A kind that nothing emits any more leaves the page."""
    whole = "\n".join(path.read_text() for path in CODE if "cli" not in path.parts)
    gone = [kind for kind in ALL if not re.search(rf"['\"]{kind}['\"]", whole)]
    assert gone == []


def test_the_page_of_metrics_has_all_of_them() -> None:
    """By the names that a process exposes."""
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known()}
    assert set(NAME.findall(text("metrics"))) == families


@pytest.mark.parametrize("page", ["security.md", "how-it-works.md", "deployment.md"])
def test_tests_that_a_page_names_exist(page: str) -> None:
    """A threat whose test is gone is not stopped by what the page says."""
    named = set(re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs" / page).read_text()))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert page != "security.md" or len(named) > 10


def test_tests_that_notes_name_exist() -> None:
    """A block that is not run points at what is."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for note in re.findall(r"<!-- not run: (.*?) -->", page.read_text()):
            for name in re.findall(r"\b(?:tests|benchmarks)/[\w/.]*\w", note):
                assert (ROOT / name).exists(), f"{page.name}: {name}"
