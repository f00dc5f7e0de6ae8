"""Votes, four eyes, and who may decide."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from phoenix.domain.approval import Approval, Decision
from phoenix.domain.identity import Principal, Role
from phoenix.errors import DecisionConflict, DomainInvalid, Forbidden
from phoenix.storage.database import transaction
from tests.integration.engine.engine_toy import System, open_system
from tests.integration.engine.gate_people import APPROVE, REJECT, asked, happened, person, rules, vote


async def refusals(system: System, approval: Approval) -> list[tuple[str, str]]:
    """Return who was refused on an approval, and why, as the audit log has it."""
    query = text(
        "SELECT actor, data->>'why' FROM audit WHERE action = 'approval.refused' AND object_id = :id"
    )
    async with transaction(system.database) as connection:
        return [(a, w) for a, w in (await connection.execute(query, {"id": str(approval.id)})).all()]


async def test_a_quorum_takes_different_people(system: System) -> None:
    """Each counts once; the last one that is needed decides, and all of them stay on record."""
    project = await system.launch("gate", gate_rules=rules(quorum=2))
    ada, bob = person("ada"), person("bob")
    async with system.engine.worker():
        approval = await asked(system, project.id)
        first = await vote(system, approval, ada)
        assert (first.decision, first.approvals, first.needs().votes) == (None, 1, 1)
        with pytest.raises(DecisionConflict, match="voted"):
            await vote(system, approval, ada)
        assert (await system.run_of(project.id)).status == "waiting"
        done = await vote(system, approval, bob)
        assert [(v.voter, v.verdict) for v in done.votes] == [(ada.email, "approve"), (bob.email, "approve")]
        assert (done.decided_by, done.decided_how) == (bob.email, "person")
        await system.until(project.id, "success")
        with pytest.raises(DecisionConflict):
            await vote(system, approval, person("cleo"))
    (voted,) = await happened(system, project.id, "approval_voted")
    assert (voted["by"], voted["votes"], voted["quorum"]) == (ada.email, 1, 2)
    assert system.marks() == ["first", "last"]


async def test_the_first_rejection_decides(system: System) -> None:
    """However many have approved."""
    project = await system.launch("gate", gate_rules=rules(quorum=3))
    async with system.engine.worker():
        approval = await asked(system, project.id)
        await vote(system, approval, person("ada"))
        done = await vote(system, approval, person("bob"), REJECT)
        assert done.decision == REJECT
        again = await asked(system, project.id)
        assert (again.id != approval.id, again.approvals, again.request.value["text"]) == (True, 0, "No.")


async def test_a_quorum_is_not_met_with_another_value(system: System) -> None:
    """An edit is one person's value, and several are to approve the same."""
    project = await system.launch("gate", gate_rules=rules(quorum=2))
    async with system.engine.worker():
        approval = await asked(system, project.id)
        edit = Decision(verdict="edit", value=approval.request.value | {"text": "mine"})
        with pytest.raises(DomainInvalid, match="2 approvals of the same value"):
            await vote(system, approval, person("ada"), edit)
        assert (await asked(system, project.id)).votes == []


async def test_votes_outlive_the_worker(migrated_database_url: str, tmp_path: Path) -> None:
    """Between two votes every process ends; the second one still decides."""
    async with open_system(migrated_database_url, tmp_path) as system:
        project = await system.launch("gate", gate_rules=rules(quorum=2))
        async with system.engine.worker():
            approval = await asked(system, project.id)
            await vote(system, approval, person("ada"))
    async with open_system(migrated_database_url, tmp_path) as system:
        assert (await asked(system, project.id)).approvals == 1
        async with system.engine.worker():
            await vote(system, approval, person("bob"))
            await system.until(project.id, "success")
    assert system.marks() == ["first", "last"]


async def test_many_voters_at_once_are_counted_once_each(system: System) -> None:
    """Of eight that race for a quorum of three, three votes are taken, and the run goes on once."""
    project = await system.launch("gate", gate_rules=rules(quorum=3))
    people = [person(f"racer{n}") for n in range(4)]
    async with system.engine.worker():
        approval = await asked(system, project.id)
        votes = [vote(system, approval, who) for who in people * 2]
        results = await asyncio.gather(*votes, return_exceptions=True)
        await system.until(project.id, "success")
    taken = [r for r in results if isinstance(r, Approval)]
    assert len(taken) == 3
    assert all(isinstance(r, Approval | DecisionConflict) for r in results)
    decided = (await system.engine.decisions.get(approval.id)).votes
    assert len({v.voter for v in decided}) == len(decided) == 3
    assert (await system.kinds(project.id)).count("approval_decided") == 1


async def test_of_eight_racers_on_each_of_many_approvals_one_wins(system: System) -> None:
    """200 approvals, 1,600 decisions: one winner each, the others are told."""
    projects = [await system.launch("gate") for _ in range(200)]
    async with system.engine.worker():
        for project in projects:
            await system.until(project.id, "waiting", seconds=200)
    people = [person(f"racer{n}") for n in range(8)]
    for project in projects:
        approval = await asked(system, project.id)
        votes = [vote(system, approval, who) for who in people]
        results = await asyncio.gather(*votes, return_exceptions=True)
        assert sum(isinstance(r, Approval) for r in results) == 1
        assert sum(isinstance(r, DecisionConflict) for r in results) == 7
    query = text("SELECT count(*), count(DISTINCT approval_id) FROM approval_votes")
    async with transaction(system.database) as connection:
        assert tuple((await connection.execute(query)).one()) == (200, 200)


async def test_racers_of_one_process_take_turns_and_are_told_who_won(system: System) -> None:
    """One transaction locks the approval, however many decide at once; the others hear who did, and what."""
    project = await system.launch("gate")
    people = [person(f"racer{n}") for n in range(8)]
    locked: list[str] = []

    def count(*said: Any) -> None:
        locked.extend(s for s in said if isinstance(s, str) and "FOR UPDATE OF approvals" in s)

    async with system.engine.worker():
        approval = await asked(system, project.id)
    event.listen(system.database.sync_engine, "before_cursor_execute", count)
    votes = [vote(system, approval, who) for who in people]
    results = await asyncio.gather(*votes, return_exceptions=True)
    event.remove(system.database.sync_engine, "before_cursor_execute", count)
    (winner,) = [r.decided_by for r in results if isinstance(r, Approval)]
    late = [r.message for r in results if isinstance(r, DecisionConflict)]
    assert late == [f"This approval is no longer open: the decision of {winner} was approve."] * 7
    assert len(locked) == 1


@pytest.mark.parametrize(
    ("role", "needed", "may"),
    [
        ("viewer", "approver", False),
        ("developer", "approver", False),
        ("approver", "approver", True),
        ("admin", "approver", True),
        ("viewer", "admin", False),
        ("developer", "admin", False),
        ("approver", "admin", False),
        ("admin", "admin", True),
    ],
)
async def test_a_gate_is_decided_by_a_role(system: System, role: Role, needed: Any, may: bool) -> None:
    """Who is below it is refused, by their grant in the project as well, and the audit log says so."""
    project = await system.launch("gate", gate_rules=rules(role=needed))
    async with system.engine.worker():
        approval = await asked(system, project.id)
        for who in (person("ada", role), person("eve", "viewer", grants={project.id: role})):
            if may:
                continue
            for decision in (APPROVE, REJECT):
                with pytest.raises(Forbidden):
                    await vote(system, approval, who, decision)
        tried = await refusals(system, approval)
        assert len(tried) == (0 if may else 4)
        assert (await asked(system, project.id)).votes == []
        if may:
            await vote(system, approval, person("ada", role))
            await system.until(project.id, "success")


async def test_a_key_that_may_not_approve_does_not(system: System) -> None:
    """Whatever its user's role."""
    project = await system.launch("gate")
    async with system.engine.worker():
        approval = await asked(system, project.id)
        with pytest.raises(Forbidden):
            await vote(system, approval, person("ada", "admin", scopes=["read", "develop"]))
        assert (await asked(system, project.id)).votes == []


async def refused(system: System, approval: Approval, who: Principal, decision: Decision = APPROVE) -> None:
    """See that four eyes keep somebody from a decision, and that the audit log says so."""
    before = len(await refusals(system, approval))
    with pytest.raises(Forbidden, match="Four eyes"):
        await vote(system, approval, who, decision)
    tried = await refusals(system, approval)
    assert len(tried) == before + 1
    assert tried[-1][0] == who.email
    assert "Four eyes" in tried[-1][1]


async def test_whoever_launched_it_does_not_approve_it(system: System) -> None:
    """Nor edits it through; but they may reject it, and others approve."""
    ada, bob = person("ada", "admin"), person("bob")
    project = await system.launch("gate", gate_rules=rules(four_eyes=True), created_by=ada.user_id)
    async with system.engine.worker():
        approval = await asked(system, project.id)
        edit = Decision(verdict="edit", value=approval.request.value | {"text": "mine"})
        await refused(system, approval, ada)
        await refused(system, approval, ada, edit)
        assert (await vote(system, approval, ada, REJECT)).decision == REJECT
        again = await asked(system, project.id)
        await refused(system, again, ada)
        await vote(system, again, bob)
        await system.until(project.id, "success")


async def test_whoever_edited_or_steered_does_not_approve_later(system: System) -> None:
    """What they approved would be their own."""
    ada, bob, cleo = person("ada"), person("bob"), person("cleo")
    project = await system.launch("two_gates", gate_rules=rules("*", four_eyes=True))
    async with transaction(system.database) as connection:
        from phoenix.storage import audit

        await audit.note(connection, bob, "project.message", project.id)
    async with system.engine.worker():
        left = await asked(system, project.id, "left")
        edit = Decision(verdict="edit", value=left.request.value | {"text": "mine"})
        await vote(system, left, ada, edit)
        right = await asked(system, project.id, "right")
        await refused(system, right, ada)
        await refused(system, right, bob)
        await vote(system, right, cleo)
        await system.until(project.id, "success")


@pytest.mark.parametrize("rule", [{"four_eyes": True}, {"quorum": 2}])
async def test_nobody_unknown_decides_where_it_matters_who(system: System, rule: dict[str, Any]) -> None:
    """The command line on the service's own machine signs nobody in."""
    project = await system.launch("gate", gate_rules=rules(**rule))
    async with system.engine.worker():
        approval = await asked(system, project.id)
        with pytest.raises(Forbidden, match="nobody is signed in"):
            await system.engine.decide(approval.id, APPROVE, by="root")
    assert (await asked(system, project.id)).votes == []
