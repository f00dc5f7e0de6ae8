"""Approvals that nobody decides: reminders, escalation, and what the rule says at last."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.gates import GateRule
from phoenix.engine.deadlines import Deadlines
from phoenix.engine.policy import decision_of_deadline
from phoenix.errors import DecisionConflict, Forbidden
from tests.integration.engine.engine_toy import System, open_system
from tests.integration.engine.gate_people import (
    APPROVE,
    asked,
    happened,
    pass_time,
    person,
    rules,
    vote,
)

HOUR = 3600


async def test_a_deadline_passes_by_itself(system: System) -> None:
    """With a deadline of a second nobody has to move the clock."""
    project = await system.launch("gate", gate_rules=rules(deadline_seconds=1, when_over="approve"))
    async with system.engine.worker():
        await system.until(project.id, "success")
    (decided,) = await happened(system, project.id, "approval_decided")
    assert (decided["by"], decided["how"], decided["verdict"]) == ("deadline", "deadline", "approve")


async def test_reminders_come_when_they_are_due_and_once(migrated_database_url: str, tmp_path: Path) -> None:
    """Two workers sweep; each reminder is one event, and those missed in an outage are one."""
    rule = rules(remind_seconds=[HOUR, 2 * HOUR, 3 * HOUR])
    async with (
        open_system(migrated_database_url, tmp_path) as one,
        open_system(migrated_database_url, tmp_path) as two,
        one.engine.worker(),
        two.engine.worker(),
    ):
        project = await one.launch("gate", gate_rules=rule)
        approval = await asked(one, project.id)
        await asyncio.sleep(1.5)
        assert "approval_reminded" not in await one.kinds(project.id)
        await pass_time(one, approval, HOUR)
        (first,) = await happened(one, project.id, "approval_reminded")
        assert (first["number"], first["name"], first["needs"]["role"]) == (1, "spec", "approver")
        await pass_time(one, approval, 2 * HOUR)
        await happened(one, project.id, "approval_reminded", 2)
        await asyncio.sleep(2.5)
        reminded = await happened(one, project.id, "approval_reminded", 2)
        assert [r["number"] for r in reminded] == [1, 3]
        await vote(one, approval, person("ada"))
        await one.until(project.id, "success")


async def test_an_escalated_approval_needs_who_it_was_escalated_to(system: System) -> None:
    """An approver is too late; an administrator, or whom the rule names, decides. Earlier votes are over."""
    escalation = {"after_seconds": HOUR, "role": "admin", "users": ["cleo@example.org"]}
    rule = rules(escalation=escalation, quorum=2)
    project = await system.launch("gate", gate_rules=rule)
    ada, bob, cleo, dan = person("ada"), person("bob"), person("cleo"), person("dan", "admin")
    async with system.engine.worker():
        approval = await asked(system, project.id)
        assert (await vote(system, approval, ada)).approvals == 1
        await pass_time(system, approval, HOUR)
        (told,) = await happened(system, project.id, "approval_escalated")
        assert told["needs"] == {"role": "admin", "users": ["cleo@example.org"], "votes": 2}
        for who in (ada, bob):
            with pytest.raises(Forbidden, match="escalated"):
                await vote(system, approval, who)
        assert (await vote(system, approval, cleo)).decision is None
        assert (await vote(system, approval, dan)).decision == APPROVE
        await system.until(project.id, "success")
    assert (await system.kinds(project.id)).count("approval_escalated") == 1


@pytest.mark.parametrize(
    ("rule", "outcome", "status"),
    [
        ({"when_over": "approve"}, "approve", "success"),
        ({"when_over": "reject"}, "reject", "failed"),
        ({}, "waits", "waiting"),
    ],
)
async def test_the_rule_decides_when_the_time_is_up(
    system: System, rule: dict[str, Any], outcome: str, status: str
) -> None:
    """As stated, and named as the deadline's; without a statement it waits on, and people still decide."""
    project = await system.launch("delivery", gate_rules=rules("delivery", deadline_seconds=HOUR, **rule))
    async with system.engine.worker():
        approval = await asked(system, project.id, "delivery")
        await pass_time(system, approval, HOUR)
        (expired,) = await happened(system, project.id, "approval_expired")
        assert expired["outcome"] == outcome
        run = await system.until(project.id, status)
        decided = await system.engine.decisions.get(approval.id)
        if status == "waiting":
            assert (decided.decision, decided.decided_how) == (None, "")
            await vote(system, approval, person("ada"))
            await system.until(project.id, "success")
            return
        assert decided.decision is not None
        assert (decided.decision.verdict, decided.decided_by, decided.decided_how) == (
            outcome,
            "deadline",
            "deadline",
        )
        with pytest.raises(DecisionConflict):
            await vote(system, approval, person("ada"))
        assert run.error is None or "Nobody decided in time" in run.error.message
    assert (await system.kinds(project.id)).count("approval_expired") == 1


async def test_questions_take_their_defaults_when_the_time_is_up(system: System) -> None:
    """They are marked as assumed, as where the policy takes them."""
    project = await system.launch("ask", gate_rules=rules("questions", deadline_seconds=HOUR))
    async with system.engine.worker():
        await pass_time(system, await asked(system, project.id, "questions"), HOUR)
        run = await system.until(project.id, "success", "failed")
    assert run.output == {"value": "blue True"}
    (expired,) = await happened(system, project.id, "approval_expired")
    assert expired["outcome"] == "defaults"


async def test_a_decision_and_the_deadline_race_for_one_end(system: System) -> None:
    """Whoever comes first decides, and the other finds it decided."""
    rule = rules(deadline_seconds=HOUR, when_over="approve")
    projects = [await system.launch("gate", gate_rules=rule) for _ in range(8)]
    async with system.engine.worker():
        opened = [await asked(system, project.id) for project in projects]

        async def race(n: int) -> None:
            await pass_time(system, opened[n], HOUR)
            await asyncio.sleep(n * 0.15)
            try:
                await vote(system, opened[n], person("ada"))
            except DecisionConflict:
                return

        await asyncio.gather(*(race(n) for n in range(len(opened))))
        for project in projects:
            await system.until(project.id, "success")
            assert (await system.kinds(project.id)).count("approval_decided") == 1


async def test_a_deadline_holds_up_no_run(system: System) -> None:
    """While it is far away, a decision lets the run go on at once."""
    project = await system.launch("gate", gate_rules=rules(deadline_seconds=HOUR, when_over="reject"))
    async with system.engine.worker():
        await vote(system, await asked(system, project.id), person("ada"))
        await system.until(project.id, "success", seconds=20)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"remind_seconds": [HOUR]}, "approval_reminded"),
        ({"escalation": {"after_seconds": HOUR}}, "approval_escalated"),
        ({"deadline_seconds": HOUR, "when_over": "approve"}, "approval_expired"),
        ({"deadline_seconds": HOUR}, "approval_expired"),
    ],
)
async def test_of_many_sweeps_at_once_one_does_what_is_due(
    system: System, rule: dict[str, Any], kind: str
) -> None:
    """All of them have found it due before any has its row, and it happens once."""
    project = await system.launch("gate", gate_rules=rules(**rule))
    async with system.engine.worker():
        approval = await asked(system, project.id)
        await system.until(project.id, "waiting")
    await pass_time(system, approval, HOUR)
    admission = system.engine._admission
    assert await asyncio.gather(*(Deadlines(admission).sweep() for _ in range(8))) == [1] * 8
    assert (await system.kinds(project.id)).count(kind) == 1
    assert await Deadlines(admission).sweep() == 0


async def test_a_cancelled_projects_deadline_says_nothing(system: System) -> None:
    """What nobody waits for any more is looked at once, and not reminded of."""
    rule = rules(deadline_seconds=HOUR, remind_seconds=[1], when_over="approve")
    project = await system.launch("gate", gate_rules=rule)
    async with system.engine.worker():
        approval = await asked(system, project.id)
    await system.engine.cancel(project.id)
    await pass_time(system, approval, 2 * HOUR)
    deadlines = Deadlines(system.engine._admission)
    assert (await deadlines.sweep(), await deadlines.sweep()) == (1, 0)
    kinds = await system.kinds(project.id)
    assert not {"approval_reminded", "approval_expired", "approval_decided"} & set(kinds)


def test_no_deadline_delivers_what_is_red() -> None:
    """Evidence that did not pass waits for a person, whatever the rule says."""
    rule = GateRule(deadline_seconds=1, when_over="approve")
    verdicts: list[Any] = ["approve", "edit", "reject"]
    for passed, decision in ((True, Decision(verdict="approve")), (False, None)):
        asked_for = HumanRequest(
            kind="approve", name="delivery", value_digest="", value={"passed": passed}, verdicts=verdicts
        )
        assert decision_of_deadline(asked_for, rule) == decision
