"""Which gates a person decides, and what is decided where nobody is asked."""

from __future__ import annotations

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.project import Answer, Answers, Questions
from phoenix.errors import SettingInvalid

POLICY = "policy"
"""Who decided, in the row of an approval that nobody was asked for."""


def asks(approvals: str, gate: str) -> bool:
    """Tell whether a person decides this gate: `ask` all, `auto` none, else those of a comma list."""
    if approvals in ("ask", "auto"):
        return approvals == "ask"
    return gate in gates(approvals)


def gates(approvals: str) -> list[str]:
    """Return the gates of a comma list.

    Raises:
        SettingInvalid: there is none.
    """
    found = [gate.strip() for gate in approvals.split(",") if gate.strip()]
    if not found:
        raise SettingInvalid(
            "No approvals are named.", field="approvals", hint="Give ask, auto, or gates such as spec,plan."
        )
    return found


def decision_of_policy(approvals: str, request: HumanRequest) -> Decision | None:
    """Return what the policy decides on a request; None when a person must.

    Evidence that did not pass is never delivered without a person.
    """
    if asks(approvals, request.name) or request.value.get("passed") is False:
        return None
    # On a question, to approve is to take its defaults.
    if request.kind == "approve" or "approve" in request.verdicts:
        return Decision(verdict="approve")
    value = defaults(request)
    return None if value is None else Decision(verdict="respond", value=value)


def defaults(request: HumanRequest) -> dict[str, object] | None:
    """Return the answer that takes every default; None when the request has no defaults."""
    if request.name != "questions":
        return None
    asked = Questions.model_validate(request.value)
    answers = Answers(
        request=asked.request,
        questions=asked.items,
        items=[Answer(question=q.id, text=q.default, assumed=True) for q in asked.items],
    )
    return answers.model_dump(mode="json")
