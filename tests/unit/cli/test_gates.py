"""A person at a pseudo-terminal decides."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console

from phoenix.cli.gates import TerminalAsker
from phoenix.cli.terminal import Terminal, editor_command
from phoenix.domain.approval import Approval, Decision, HumanRequest
from phoenix.domain.project import Answers
from phoenix.errors import InputError
from tests.unit.cli.test_forms import questions_request, spec_request


class Person:
    """Types at one end of a pseudo-terminal; the asker reads from the other."""

    def __init__(self, keyboard: int, line: int) -> None:
        self.keyboard = keyboard
        self.screen = io.StringIO()
        console = Console(file=self.screen, width=100, markup=False, highlight=False)
        self.asker = TerminalAsker(console, Terminal(console, line))

    @property
    def saw(self) -> str:
        return self.screen.getvalue()

    async def decides(self, request: HumanRequest, *lines: str) -> Decision:
        """Return the decision that these lines lead to."""
        for typed in lines:
            os.write(self.keyboard, f"{typed}\n".encode())
        approval = Approval(
            id=uuid4(),
            project_id=uuid4(),
            run_id=uuid4(),
            interrupt_id="i",
            request=request,
            created_at=datetime.now(UTC),
        )
        async with asyncio.timeout(10):
            return await self.asker.ask(approval, {})


@pytest.fixture
def person() -> Iterator[Person]:
    keyboard, line = pty.openpty()
    yield Person(keyboard, line)
    os.close(keyboard)
    os.close(line)


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a script to be written, which is then the person's editor."""
    script = tmp_path / "editor"
    monkeypatch.setenv("EDITOR", str(script))
    monkeypatch.delenv("VISUAL", raising=False)
    return script


def write(script: Path, body: str) -> None:
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


async def test_a_person_sees_the_document_and_approves(person: Person) -> None:
    """Requirements and criteria are there to be read."""
    decision = await person.decides(spec_request(), "a")
    assert decision == Decision(verdict="approve")
    assert "C1  An item is kept: yes" in person.saw


async def test_a_wrong_key_asks_again(person: Person) -> None:
    """Nothing is decided by a slip."""
    assert (await person.decides(spec_request(), "", "y", "approve")).verdict == "approve"
    assert person.saw.count("Type one of: a, e, r") == 2


async def test_a_rejection_needs_a_reason(person: Person) -> None:
    """Without one the choice comes again."""
    decision = await person.decides(spec_request(), "r", "", "r", "too long")
    assert (decision.verdict, decision.reason) == ("reject", "too long")


async def test_questions_take_defaults_options_and_words(person: Person) -> None:
    """Enter is the default, a number an option."""
    decision = await person.decides(questions_request(), "2", "")
    answers = Answers.model_validate(decision.value)
    assert [(a.text, a.assumed) for a in answers.items] == [("in memory", False), ("yes", True)]


async def test_the_editor_changes_the_document(person: Person, editor: Path) -> None:
    """What is saved is the decision's value."""
    write(editor, 'sed -i "s/title: A list/title: A shorter list/" "$1"')
    decision = await person.decides(spec_request(), "e")
    assert decision.verdict == "edit"
    assert (decision.value or {})["title"] == "A shorter list"


async def test_a_wrong_edit_is_explained_and_opened_again(person: Person, editor: Path) -> None:
    """The text as it was left comes back to the editor."""
    write(
        editor,
        'if grep -q WRONG "$1"; then sed -i "s/WRONG/R1/" "$1"; else sed -i "s/id: R1/id: WRONG/" "$1"; fi',
    )
    decision = await person.decides(spec_request(), "e", "", "n", "a")
    assert "requirements.0.id: String should match pattern" in person.saw
    assert decision.verdict == "approve"
    assert "Nothing was changed." in person.saw


async def test_an_edit_can_be_given_up(person: Person, editor: Path) -> None:
    """The choice comes again, and nothing is lost."""
    write(editor, 'echo "title: 1" > "$1"')
    assert (await person.decides(spec_request(), "e", "n", "a")).verdict == "approve"


async def test_an_editor_that_fails_decides_nothing(person: Person, editor: Path) -> None:
    """Leaving vi with :cq is a way out."""
    write(editor, "exit 1")
    assert (await person.decides(spec_request(), "e", "a")).verdict == "approve"
    assert "ended with code 1" in person.saw


async def test_a_missing_editor_is_said(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable to set is named."""
    monkeypatch.setenv("VISUAL", "no-such-editor")
    assert (await person.decides(spec_request(), "e", "a")).verdict == "approve"
    assert "Set EDITOR" in person.saw


def test_an_editor_may_have_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as `code --wait`."""
    monkeypatch.setenv("VISUAL", "sh -e")
    assert editor_command() == ["sh", "-e"]
    monkeypatch.setenv("VISUAL", 'sh "')
    with pytest.raises(InputError):
        editor_command()


async def test_closing_the_input_leaves_the_decision_open(person: Person) -> None:
    """Ctrl-D decides nothing."""
    os.write(person.keyboard, b"\x04")
    with pytest.raises(EOFError):
        await person.decides(spec_request())


async def test_waiting_for_a_person_holds_nothing_up(person: Person) -> None:
    """Work goes on while somebody thinks."""
    asked = asyncio.create_task(person.decides(spec_request()))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not asked.done()
    os.write(person.keyboard, b"a\n")
    assert (await asked).verdict == "approve"


async def test_markup_and_escapes_in_a_document_are_shown_as_text(person: Person) -> None:
    """A model cannot paint the approval screen."""
    request = spec_request()
    evil = request.value | {"title": "[bold]x[/bold]\x1b[2J"}
    await person.decides(request.model_copy(update={"value": evil}), "a")
    assert "[bold]x[/bold]␛[2J" in person.saw
    assert "\x1b" not in person.saw
