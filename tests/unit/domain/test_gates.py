"""Rules of gates hold together, and are found in one order."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from phoenix.domain.gates import GateRule, GateRules, rule_for


def rules(**gates: Any) -> GateRules:
    """Return rules by gate; `others` stands for `*`."""
    return GateRules.model_validate(
        {"gates": {name.replace("others", "*"): rule for name, rule in gates.items()}}
    )


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"quorum": 0}, "quorum"),
        ({"quorum": 21}, "quorum"),
        ({"quorum": True}, "quorum"),
        ({"role": "developer"}, "role"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"when_over": "reject"}, "needs deadline_seconds"),
        ({"deadline_seconds": 5, "remind_seconds": [1, 5]}, "reminders come before"),
        ({"deadline_seconds": 5, "escalation": {"after_seconds": 5}}, "escalation"),
        ({"escalation": {"after_seconds": 5, "users": ["nobody"]}}, "users"),
        ({"ask": "yes"}, "ask"),
    ],
)
def test_a_rule_that_does_not_hold_together_is_refused(rule: dict[str, Any], why: str) -> None:
    """Naming what is wrong."""
    with pytest.raises(ValidationError, match=why):
        GateRule.model_validate(rule)


def test_questions_take_nothing_but_their_defaults() -> None:
    """Nobody approves a question."""
    with pytest.raises(ValidationError, match="only take their defaults"):
        rules(questions={"deadline_seconds": 5, "when_over": "approve"})
    assert rules(questions={"deadline_seconds": 5, "when_over": "defaults"})


def test_what_happens_comes_in_order() -> None:
    """Reminders, the escalation, and the deadline last."""
    rule = GateRule.model_validate(
        {"remind_seconds": [30, 10], "escalation": {"after_seconds": 20}, "deadline_seconds": 40}
    )
    assert rule.times() == [10, 20, 30, 40]
    assert GateRule().times() == []


@pytest.mark.parametrize(
    ("project", "organisation", "quorum"),
    [
        ({}, {}, 1),
        ({}, {"spec": {"quorum": 2}}, 2),
        ({}, {"others": {"quorum": 3}}, 3),
        ({"spec": {"quorum": 4}}, {"spec": {"quorum": 2}}, 4),
        ({"others": {"quorum": 5}}, {"spec": {"quorum": 2}}, 5),
        ({"plan": {"quorum": 6}}, {"spec": {"quorum": 2}}, 2),
        ({"spec": {"quorum": 4}}, {"spec": {"quorum": 2, "fixed": True}}, 2),
        ({"spec": {"quorum": 4}}, {"others": {"quorum": 2, "fixed": True}}, 2),
        ({"spec": {"quorum": 4}}, {"spec": {"quorum": 2}, "others": {"quorum": 3, "fixed": True}}, 4),
    ],
)
def test_a_projects_rule_goes_before_its_organisations_but_for_a_fixed_one(
    project: dict[str, Any], organisation: dict[str, Any], quorum: int
) -> None:
    """And a gate's own before that of all others."""
    assert rule_for("spec", rules(**project), rules(**organisation)).quorum == quorum


def test_no_project_fixes_a_rule() -> None:
    """Only an organisation's holds at every level."""
    assert rule_for("spec", rules(spec={"fixed": True}), rules()).fixed is False
