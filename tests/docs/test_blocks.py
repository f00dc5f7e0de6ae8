"""Everything that the documentation tells readers to type: it parses, and what it names exists."""

from __future__ import annotations

import pytest

from tests.docs.blocks import BLOCKS, PAGES, Block, Command
from tests.docs.checks import of_command, problems

RUN = {"console", "bash", "sh"}
SHOWN = {"", "mermaid", "text"}
"""What is only looked at."""


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_what_a_page_tells_to_type_exists(page: str) -> None:
    """Commands, options, targets, modules, routes, manifests, services exist; the rest parses."""
    wrong = [f"{b.page}:{b.line}: {p}" for b in BLOCKS if b.page == page for p in problems(b)]
    assert not wrong, "\n".join(wrong)


def test_a_block_that_is_not_run_says_why() -> None:
    """In a comment before it; a language that nobody knows is no way around."""
    for block in BLOCKS:
        why = block.note("not run")
        assert why is None or len(why) > 10, f"{block.page}:{block.line}"
        assert block.language in RUN | SHOWN | {"python", "json", "yaml"}, f"{block.page}:{block.line}"
    assert len(PAGES) > 40


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("phoenix new --no-such-option x", "has no option --no-such-option"),
        ("phoenix no-such", "there is no command"),
        ("make no-such", "has no target"),
        ("python benchmarks/no_such.py", "there is no file"),
        ("python -m phoenix.nosuch", "there is no module"),
        ("curl -X PUT $URL/projects", "there is no route"),
        ("curl --json '{' $URL/projects", "not JSON"),
        ("kubectl apply -k k8s/nowhere", "there is no k8s/nowhere"),
        ("docker compose logs nobody", "has no service"),
        ("cd x && frobnicate", "is no program"),
    ],
)
def test_the_checks_notice(typed: str, says: str) -> None:
    """Each of them, on a command that is wrong."""
    assert any(says in problem for problem in of_command(Command(typed, ""))), typed


def test_commands_are_read_as_typed() -> None:
    """Quotes and backslashes go over lines; what follows a command is what it printed."""
    text = "$ one 'a\nb' \\\n  c\nshown\n$ two\n"
    assert Block("p", 1, "console", text).commands() == [
        Command("one 'a\nb' \\\n  c", "shown"),
        Command("two", ""),
    ]
