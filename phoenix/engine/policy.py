"""Which gates a person decides, and what is decided where nobody is asked, or nobody answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from phoenix.domain.approval import Decision, HumanKind, HumanRequest
from phoenix.domain.gates import MERGE, QUESTIONS, GateRule, Level
from phoenix.domain.permissions import TOOL_GATE
from phoenix.domain.project import Answer, Answers, Questions
from phoenix.domain.work import MergeRequest
from phoenix.errors import SettingInvalid

NOBODY = "This needs a person's approval, and nobody is asked in this project."
"""Why a call is denied where the rules ask and nobody is there."""
POLICY = "policy"
"""Who decided, in the row of an approval that nobody was asked for."""
DEADLINE = "deadline"
"""Who decided, in the row of an approval that nobody decided in time."""

LEVELS: tuple[str, ...] = get_args(Level)
RULE = GateRule()


def check_approvals(approvals: str) -> None:
    """Check a project's level, or its list of gates.

    Raises:
        SettingInvalid: it is neither.
    """
    if approvals not in LEVELS:
        gates(approvals)


def asks(
    approvals: str,
    gate: str,
    *,
    rule: GateRule = RULE,
    kind: HumanKind = "approve",
    value: Mapping[str, Any] | None = None,
) -> bool:
    """Tell whether a person decides at a gate.

    A rule that says so, or is fixed, goes before the level. A gate of somebody's own flow that happens to be
    called as one of Phoenix's is like any other:

    - manual: every gate, each task's merge included
    - ask: every gate but merges
    - guarded: every gate, but questions take their defaults, and merges pass that no agent had to settle
    - auto: none
    - a comma list: those gates, and tools, since where people decide anything they decide on tools as well
    """
    if rule.ask is not None:
        return rule.ask
    if rule.fixed or approvals == "manual":
        return True
    is_merge = gate == MERGE and value is not None and set(value) == set(MergeRequest.model_fields)
    if approvals == "guarded":
        is_clean_merge = is_merge and value is not None and value.get("resolved") is False
        return not is_clean_merge and not (gate == QUESTIONS and kind == "ask")
    if approvals in LEVELS:
        return approvals == "ask" and not is_merge
    return gate == TOOL_GATE or gate in gates(approvals)


def gates(approvals: str) -> list[str]:
    """Return the gates of a comma list.

    Raises:
        SettingInvalid: there is none, or a level is among them.
    """
    found = [gate.strip() for gate in approvals.split(",") if gate.strip()]
    if not found or set(found) & set(LEVELS):
        raise SettingInvalid(
            "These approvals are neither a level nor a list of gates.",
            field="approvals",
            hint=f"Give {', '.join(LEVELS)}, or gates such as spec,plan.",
        )
    return found


def is_red(request: HumanRequest) -> bool:
    """Tell whether evidence is asked about that did not pass: that is never delivered without a person."""
    return request.value.get("passed") is False


def decision_of_policy(approvals: str, request: HumanRequest, rule: GateRule = RULE) -> Decision | None:
    """Return what the policy decides on a request; None when a person must.

    No tool call that the permission rules ask about passes by itself.
    """
    asked = asks(approvals, request.name, rule=rule, kind=request.kind, value=request.value)
    if is_tool_call(request) and not asked:
        return Decision(verdict="reject", reason=NOBODY)
    if asked or is_red(request):
        return None
    # On a question, to approve is to take its defaults.
    if request.kind == "approve" or "approve" in request.verdicts:
        return Decision(verdict="approve")
    return default_answers(request)


def decision_of_deadline(request: HumanRequest, rule: GateRule) -> Decision | None:
    """Return what is decided on a request when its time is up; None when it waits on for a person."""
    if request.kind == "ask" and rule.when_over != "reject":
        return Decision(verdict="approve") if "approve" in request.verdicts else default_answers(request)
    if rule.when_over == "approve" and "approve" in request.verdicts and not is_red(request):
        return Decision(verdict="approve")
    if rule.when_over == "reject" and "reject" in request.verdicts:
        return Decision(verdict="reject", reason="Nobody decided in time, so the rule of this gate rejects.")
    return None


def default_answers(request: HumanRequest) -> Decision | None:
    """Return the decision that takes every default; None when the request has no defaults."""
    value = defaults(request)
    return None if value is None else Decision(verdict="respond", value=value)


def is_tool_call(request: HumanRequest) -> bool:
    """Tell whether a request is about a tool call that the permission rules ask about."""
    return request.name == TOOL_GATE and {"call", "tool", "arguments"} <= request.value.keys()


def defaults(request: HumanRequest) -> dict[str, object] | None:
    """Return the answer that takes every default; None when the request has no defaults."""
    if request.name != QUESTIONS:
        return None
    try:
        asked = Questions.model_validate(request.value)
    except ValidationError:
        return None  # questions of another kind, of somebody's own flow
    answers = Answers(
        request=asked.request,
        questions=asked.items,
        items=[Answer(question=q.id, text=q.default, assumed=True) for q in asked.items],
    )
    return answers.model_dump(mode="json")
