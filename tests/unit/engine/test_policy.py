"""Which gates a person decides, and what is decided elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.frozen import digest_of
from phoenix.domain.gates import GateRule
from phoenix.domain.project import Answers, Question, Questions
from phoenix.domain.work import MergeRequest
from phoenix.engine.policy import asks, decision_of_deadline, decision_of_policy, defaults
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


@pytest.mark.parametrize(
    ("level", "asked"),
    [
        ("manual", {"questions", "spec", "merge", "settled", "budget", "other"}),
        ("ask", {"questions", "spec", "budget", "other"}),
        ("guarded", {"spec", "settled", "budget", "other"}),
        ("auto", set()),
        ("merge,spec", {"spec", "merge", "settled"}),
    ],
)
def test_each_level_asks_at_its_gates(level: str, asked: set[str]) -> None:
    """`settled` is a merge that an agent had to settle; a gate that no level knows is asked at."""

    def is_asked(gate: str) -> bool:
        commit = "a" * 40
        merge = MergeRequest(task="T1", title="t", head=commit, commit=commit, resolved=gate == "settled")
        value = merge.model_dump(mode="json") if gate in ("merge", "settled") else {}
        kind: Any = "ask" if gate == "questions" else "approve"
        return asks(level, gate.replace("settled", "merge"), kind=kind, value=value)

    gates = ("questions", "spec", "merge", "settled", "budget", "other")
    assert {gate for gate in gates if is_asked(gate)} == asked


@pytest.mark.parametrize("level", ["manual", "ask", "guarded"])
@pytest.mark.parametrize("gate", ["merge", "questions"])
def test_a_gate_of_ones_own_with_a_known_name_is_asked_at(level: str, gate: str) -> None:
    """What is decided there is not what Phoenix's own gate of that name passes."""
    assert decision_of_policy(level, request(gate, value={"resolved": False, "x": 1})) is None


def test_questions_of_another_kind_have_no_defaults() -> None:
    """They wait for a person, whatever the level."""
    asked = request("questions", "ask", value={"text": "Colour?"}, verdicts=["respond"])
    assert decision_of_policy("auto", asked) is None


def test_a_rule_that_says_whether_to_ask_goes_before_the_level() -> None:
    """And a fixed one asks at every level, unless it says otherwise itself."""
    assert asks("auto", "spec", rule=GateRule(ask=True)) is True
    assert asks("manual", "spec", rule=GateRule(ask=False)) is False
    assert asks("auto", "spec", rule=GateRule(fixed=True)) is True
    assert asks("auto", "spec", rule=GateRule(fixed=True, ask=False)) is False


@pytest.mark.parametrize("wrong", [" ,", "auto,spec", ""])
def test_a_list_without_gates_is_refused(wrong: str) -> None:
    """Commas alone name nothing, and a level is no gate."""
    with pytest.raises(SettingInvalid):
        asks(wrong, "spec")


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


@pytest.mark.parametrize(
    ("kind", "verdicts", "rule", "verdict"),
    [
        ("approve", ["approve", "reject"], {}, None),
        ("approve", ["approve", "reject"], {"when_over": "approve"}, "approve"),
        ("approve", ["approve", "reject"], {"when_over": "reject"}, "reject"),
        ("approve", ["approve", "reject"], {"when_over": "defaults"}, None),
        ("approve", ["approve"], {"when_over": "reject"}, None),
        ("ask", ["respond", "approve"], {}, "approve"),
        ("ask", ["respond", "approve"], {"when_over": "defaults"}, "approve"),
        ("ask", ["respond", "approve"], {"when_over": "reject"}, None),
        ("ask", ["respond"], {}, None),
    ],
)
def test_a_deadline_decides_what_the_rule_says_and_the_request_takes(
    kind: Any, verdicts: list[Any], rule: dict[str, Any], verdict: str | None
) -> None:
    """What does not fit is not decided: it waits for a person."""
    given = GateRule(deadline_seconds=5, **rule)
    decision = decision_of_deadline(request("colour", kind, verdicts=verdicts), given)
    assert (decision and decision.verdict) == verdict


def test_a_tool_call_is_never_let_pass_by_itself() -> None:
    """Only rules let a call pass: without people it is rejected, with them it is theirs."""
    call = request("tool", value={"call": "sha256:1", "tool": "bash", "arguments": {"command": "make"}})
    decided = decision_of_policy("auto", call)
    assert decided is not None
    assert decided.verdict == "reject"
    assert decision_of_policy("ask", call) is None
    assert decision_of_policy("spec,plan", call) is None
