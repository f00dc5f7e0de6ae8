"""Asking a person at the terminal to decide."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phoenix.cli.documents import document, line
from phoenix.cli.forms import answered, decision_from, form_of, questions_of
from phoenix.cli.screen import present
from phoenix.domain.approval import Approval, Decision, HumanRequest, Verdict
from phoenix.domain.plan import PlanDraft, check_plan
from phoenix.domain.project import Question
from phoenix.domain.spec import SpecDraft
from phoenix.errors import DomainInvalid, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from phoenix.cli.terminal import Terminal

KEYS: dict[str, Verdict] = {"a": "approve", "e": "edit", "r": "reject", "s": "respond"}
LABELS: dict[Verdict, str] = {
    "approve": "(a)pprove",
    "edit": "(e)dit",
    "reject": "(r)eject with a reason",
    "respond": "re(s)pond",
}


def who() -> str:
    """Return the name a decision goes under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "terminal"


@dataclass
class TerminalAsker:
    """Shows what is decided on and asks until there is a decision that fits."""

    console: Console
    terminal: Terminal

    async def ask(self, approval: Approval, artifacts: dict[str, dict[str, Any]]) -> Decision:
        """Return the person's decision.

        Raises:
            EOFError: the person closed the input without deciding.
        """
        request = approval.request
        questions = questions_of(request)
        if questions is not None:
            return await self._answers(request, questions)
        present(self.console, f"To decide: {request.name}", document(request))
        while True:
            verdict = await self._verdict(request)
            decision = await self._completed(request, verdict, artifacts)
            if decision is not None:
                return decision

    async def _answers(self, request: HumanRequest, questions: list[Question]) -> Decision:
        present(self.console, "Questions: Enter takes the default")
        given: dict[str, str] = {}
        for question in questions:
            self._say(f"{question.id}  {question.text}")
            for number, option in enumerate(question.options, 1):
                self._say(f"    {number}. {option}")
            said = await self.terminal.line(f"[{_short(question.default)}] > ")
            if said.isdigit() and 1 <= int(said) <= len(question.options):
                said = question.options[int(said) - 1]
            given[question.id] = said
        return answered(request, questions, given)

    async def _verdict(self, request: HumanRequest) -> Verdict:
        offered = [v for v in KEYS.values() if v in request.verdicts]
        while True:
            said = (await self.terminal.line(f"{', '.join(LABELS[v] for v in offered)}: ")).lower()
            chosen = KEYS.get(said) or next((v for v in offered if v == said), None)
            if chosen in offered:
                return chosen
            self._say(f"Type one of: {', '.join(k for k, v in KEYS.items() if v in offered)}")

    async def _completed(
        self, request: HumanRequest, verdict: Verdict, artifacts: dict[str, dict[str, Any]]
    ) -> Decision | None:
        """Ask for what a verdict needs; None goes back to the choice."""
        if verdict == "approve":
            return Decision(verdict="approve")
        if verdict == "reject":
            reason = await self.terminal.line("Why? The agent reads it: ")
            return Decision(verdict="reject", reason=reason) if reason else None
        return await self._edited(request, artifacts)

    async def _edited(self, request: HumanRequest, artifacts: dict[str, dict[str, Any]]) -> Decision | None:
        before = text = form_of(request)
        while True:
            try:
                text = await self.terminal.edit(text)
            except InputError as error:
                self._say(str(error), "red")
                return None
            if text == before:
                self._say("Nothing was changed.")
                return None
            try:
                return checked(request, decision_from(request, text), artifacts)
            except DomainInvalid as error:
                for field, problem in error.problems:
                    self._say(f"  {field}: {problem}", "red")
            if (await self.terminal.line("Enter opens the editor again, n leaves it: ")).lower() == "n":
                return None

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(line(text, style), soft_wrap=True)


def checked(request: HumanRequest, decision: Decision, artifacts: dict[str, dict[str, Any]]) -> Decision:
    """Return a decision that fits its request; an edited plan also has to fit the project's spec.

    Raises:
        DomainInvalid: naming each field that is wrong.
    """
    from phoenix.flow import check_decision

    value = check_decision(request, decision)
    spec = artifacts.get("spec")
    if isinstance(value, PlanDraft) and spec is not None:
        check_plan(value, SpecDraft.model_validate({k: spec[k] for k in SpecDraft.model_fields if k in spec}))
    return decision


def _short(text: str) -> str:
    from phoenix.cli.escape import one_line

    return one_line(text, 80)
