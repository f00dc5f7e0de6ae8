"""Who may decide, without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from phoenix.domain.approval import Approval, HumanRequest, Vote
from phoenix.domain.gates import GateRule
from phoenix.domain.identity import Principal, Role
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.deciders import reaches, refusal, refusal_here

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLES: tuple[Role, ...] = ("viewer", "developer", "approver", "admin")


def approval(*, escalated: bool = False, votes: list[Vote] | None = None, **rule: Any) -> Approval:
    """Return an open approval."""
    return Approval(
        id=uuid4(),
        project_id=uuid4(),
        run_id=uuid4(),
        interrupt_id="i",
        request=HumanRequest(kind="approve", name="spec", value_digest="d", value={}),
        rule=GateRule(**rule),
        escalated_at=NOW if escalated else None,
        created_at=NOW,
        votes=votes or [],
    )


def person(role: Role, **options: Any) -> Principal:
    """Return somebody in a role."""
    return Principal(
        user_id=uuid4(),
        organisation_id=DEFAULT_ORGANISATION,
        email="ada@example.org",
        role=role,
        via="token",
        credential_id=uuid4(),
        **options,
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("needed", ["approver", "admin"])
@pytest.mark.parametrize("escalated", [False, True])
def test_a_decision_takes_the_role_or_more(role: Role, needed: Any, escalated: bool) -> None:
    """And from an escalation on the role that it went to, if that is not less."""
    asked = approval(escalated=escalated, role=needed, escalation={"after_seconds": 5, "role": "admin"})
    least: Role = "admin" if escalated else needed
    assert bool(refusal(person(role), asked, set())) is not reaches(role, least)


def test_a_grant_in_the_project_goes_before_the_role() -> None:
    """Upwards and downwards."""
    asked = approval()
    assert refusal(person("viewer", grants={asked.project_id: "approver"}), asked, set()) == ""
    assert "viewer" in refusal(person("admin", grants={asked.project_id: "viewer"}), asked, set())
    assert refusal(person("viewer", grants={uuid4(): "admin"}), asked, set())


def test_named_users_may_after_the_escalation_if_they_may_approve_at_all() -> None:
    """A name in a rule makes nobody an approver."""
    escalation = {"after_seconds": 5, "users": ["ada@example.org"]}
    late = approval(escalated=True, escalation=escalation)
    assert refusal(person("approver"), late, set()) == ""
    assert refusal(person("developer"), late, set())
    assert refusal(person("approver"), approval(escalation=escalation, role="admin"), set())


@pytest.mark.parametrize("verdict", ["approve", "edit", "reject", "respond"])
def test_four_eyes_keep_authors_from_all_but_rejecting(verdict: Any) -> None:
    """Only where they are asked for."""
    who = person("admin")
    assert bool(refusal(who, approval(four_eyes=True), {who.user_id}, verdict)) is (verdict != "reject")
    assert refusal(who, approval(), {who.user_id}, verdict) == ""
    assert refusal(who, approval(four_eyes=True), {uuid4()}, verdict) == ""


def test_only_votes_since_the_escalation_count() -> None:
    """And only approvals."""
    given = [
        Vote(voter=f"{n}", verdict=verdict, value_digest="d", escalated=escalated, at=NOW)
        for n, (verdict, escalated) in enumerate(
            [("approve", False), ("approve", False), ("approve", True), ("reject", True)]
        )
    ]
    rule: dict[str, Any] = {"quorum": 3, "escalation": {"after_seconds": 5}}
    assert approval(votes=given, **rule).needs().votes == 1
    assert approval(votes=given, escalated=True, **rule).needs().votes == 2


def test_names_that_nobody_checked_decide_only_where_names_do_not_matter() -> None:
    """On the service's own machine."""
    assert refusal_here(approval(role="admin")) == ""
    assert refusal_here(approval(quorum=2))
    assert refusal_here(approval(four_eyes=True))
