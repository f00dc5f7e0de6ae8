"""Which gates a person decides, and what is decided elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.frozen import digest_of
from phoenix.domain.project import Answers, Question, Questions
from phoenix.engine.policy import asks, decision_of_policy, defaults
from phoenix.errors import SettingInvalid


def request(name: str, kind: Any = "approve", **options: Any) -> HumanRequest:
    """Return a request at a gate."""
    return HumanRequest(kind=kind, name=name, value_digest="d", **{"value": {}, **options})


@pytest.mark.parametrize(
    ("approvals", "gate", "asked"),
    [
        ("ask", "spec", True),
        ("auto", "spec", False),
        ("spec,plan", "spec", True),
        ("spec, plan", "plan", True),
        ("spec,plan", "delivery", False),
    ],
)
def test_a_project_says_which_gates_ask(approvals: str, gate: str, asked: bool) -> None:
    """`ask` asks everywhere, `auto` nowhere, a list at its gates."""
    assert asks(approvals, gate) is asked


def test_a_list_without_gates_is_refused() -> None:
    """Commas alone name nothing."""
    with pytest.raises(SettingInvalid):
        asks(" ,", "spec")


def test_a_gate_that_does_not_ask_is_approved() -> None:
    """The policy approves the value as it is."""
    assert decision_of_policy("auto", request("spec")) == Decision(verdict="approve")
    assert decision_of_policy("ask", request("spec")) is None


def test_evidence_that_did_not_pass_needs_a_person() -> None:
    """No policy delivers what is red."""
    assert decision_of_policy("auto", request("delivery", value={"passed": False})) is None
    assert decision_of_policy("auto", request("delivery", value={"passed": True})) is not None


def test_questions_are_answered_by_their_defaults() -> None:
    """Each default is an answer, marked as assumed."""
    items = [
        Question(id="Q1", text="Colour?", default="blue"),
        Question(id="Q2", text="Size?", default="small"),
    ]
    asked = Questions(request=digest_of("x"), items=items)
    decision = decision_of_policy(
        "auto", request("questions", "ask", value=asked.model_dump(mode="json"), verdicts=["respond"])
    )
    assert decision is not None
    answers = Answers.model_validate(decision.value)
    assert (answers.request, answers.questions) == (asked.request, items)
    assert [(a.question, a.text, a.assumed) for a in answers.items] == [
        ("Q1", "blue", True),
        ("Q2", "small", True),
    ]


def test_a_question_with_a_default_of_its_own_is_approved() -> None:
    """Where approving takes the defaults, the flow fills them in."""
    asked = request("colour", "ask", verdicts=["respond", "approve"])
    assert decision_of_policy("auto", asked) == Decision(verdict="approve")


def test_a_question_without_defaults_needs_a_person() -> None:
    """Nothing is invented."""
    assert defaults(request("colour", "ask", verdicts=["respond"])) is None
    assert decision_of_policy("auto", request("colour", "ask", verdicts=["respond"])) is None
