"""Decisions of people and of the policy."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from phoenix.domain.approval import Approval, Decision, HumanRequest
from phoenix.errors import DecisionConflict, NotFound
from tests.integration.engine.engine_toy import System

APPROVE = Decision(verdict="approve")


async def only_approval(system: System, project_id: object) -> Approval:
    """Return the one open approval."""
    (approval,) = (await system.engine.overview(project_id)).approvals  # type: ignore[arg-type]
    return approval


async def test_a_waiting_run_goes_on_with_the_decision(system: System) -> None:
    """The run waits at its gate, and a decision lets it end."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        approval = await only_approval(system, project.id)
        assert (approval.request.name, approval.decision) == ("spec", None)
        decided = await system.engine.decide(approval.id, APPROVE, by="ada")
        assert (decided.decided_by, decided.decision) == ("ada", APPROVE)
        await system.until(project.id, "success")
    assert system.marks() == ["first", "last"]
    assert (await system.engine.overview(project.id)).approvals == []
    kinds = [k for k in await system.kinds(project.id) if not k.startswith("step")]
    assert kinds[2:5] == ["approval_requested", "run_waiting", "approval_decided"]


async def test_a_rejection_comes_back_as_another_approval(system: System) -> None:
    """Each visit of a gate is an approval of its own, bound to its own value."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        first = await only_approval(system, project.id)
        await system.engine.decide(first.id, Decision(verdict="reject", reason="again"), by="ada")
        async with asyncio.timeout(5):
            while (await system.kinds(project.id)).count("run_waiting") < 2:
                await asyncio.sleep(0.02)
        second = await only_approval(system, project.id)
        assert second.id != first.id
        assert second.request.value["text"] == "again"
        assert second.request.value_digest != first.request.value_digest
        with pytest.raises(DecisionConflict):
            await system.engine.decide(first.id, APPROVE, by="late")
        await system.engine.decide(second.id, APPROVE, by="ada")
        await system.until(project.id, "success")
    assert system.marks() == ["first", "first", "last"]


async def test_of_eight_racing_deciders_one_wins(system: System) -> None:
    """One decision is written and the run goes on once; the others are told."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        approval = await only_approval(system, project.id)
        results = await asyncio.gather(
            *(system.engine.decide(approval.id, APPROVE, by=f"racer {n}") for n in range(8)),
            return_exceptions=True,
        )
        await system.until(project.id, "success")
    won = [r for r in results if isinstance(r, Approval)]
    assert len(won) == 1
    assert sum(isinstance(r, DecisionConflict) for r in results) == 7
    assert (await system.kinds(project.id)).count("approval_decided") == 1
    assert system.marks() == ["first", "last"]


async def test_a_decision_on_another_value_is_refused(system: System) -> None:
    """Whoever looked at something else decides nothing."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        approval = await only_approval(system, project.id)
        with pytest.raises(DecisionConflict, match="changed"):
            await system.engine.decide(approval.id, APPROVE, by="ada", digest="sha256:" + "0" * 64)
    assert (await only_approval(system, project.id)).decision is None


async def test_a_decision_after_cancelling_is_refused(system: System) -> None:
    """A cancelled run takes no decisions, and none is written."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        approval = await only_approval(system, project.id)
        await system.engine.cancel(project.id)
        with pytest.raises(DecisionConflict):
            await system.engine.decide(approval.id, APPROVE, by="ada")
    assert "approval_decided" not in await system.kinds(project.id)


async def test_an_unknown_approval_is_not_found(system: System) -> None:
    """A decision needs an approval."""
    with pytest.raises(NotFound):
        await system.engine.decide(uuid4(), APPROVE, by="ada")


async def test_several_pending_approvals_are_decided_one_by_one(system: System) -> None:
    """Deciding one gate leaves the other open; its answer is kept meanwhile."""
    project = await system.launch("two_gates")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        opened = {a.request.name: a for a in (await system.engine.overview(project.id)).approvals}
        await system.engine.decide(opened["right"].id, APPROVE, by="ada")
        await system.until_marked("first")
        await system.until(project.id, "waiting")
        assert (await only_approval(system, project.id)).id == opened["left"].id
        await system.engine.decide(opened["left"].id, APPROVE, by="ada")
        await system.until(project.id, "success")
    assert sorted(system.marks()) == ["first", "first", "last"]


async def test_both_approvals_may_be_decided_at_once(system: System) -> None:
    """No decision is lost when two come together."""
    project = await system.launch("two_gates")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        opened = (await system.engine.overview(project.id)).approvals
        await asyncio.gather(*(system.engine.decide(a.id, APPROVE, by="ada") for a in opened))
        await system.until(project.id, "success")
    assert sorted(system.marks()) == ["first", "first", "last"]


async def test_the_policy_passes_gates_and_leaves_a_row(system: System) -> None:
    """With `auto` a run never waits, and everybody can see who decided."""
    project = await system.launch("gate", approvals="auto")
    async with system.engine.worker():
        await system.until(project.id, "success")
    events = [e for e in await system.events(project.id) if e.kind.startswith("approval")]
    assert [e.kind for e in events] == ["approval_requested", "approval_decided"]
    assert (events[1].data["by"], events[1].data["verdict"]) == ("policy", "approve")
    assert "run_waiting" not in await system.kinds(project.id)


async def test_only_named_gates_ask(system: System) -> None:
    """A comma list asks at its gates; others pass by themselves."""
    project = await system.launch("two_gates", approvals="left")
    async with system.engine.worker():
        await system.until_marked("first")
        await system.until(project.id, "waiting")
        approval = await only_approval(system, project.id)
        assert approval.request.name == "left"
        await system.engine.decide(approval.id, APPROVE, by="ada")
        await system.until(project.id, "success")


async def test_the_policy_delivers_nothing_that_is_red(system: System) -> None:
    """Evidence that did not pass goes to a person, whatever the policy."""
    from phoenix.engine.policy import decision_of_policy

    project = await system.launch("delivery", approvals="auto")
    async with system.engine.worker():
        await system.until(project.id, "success")
    asked = HumanRequest(kind="approve", name="delivery", value_digest="", value={"passed": False})
    assert decision_of_policy("auto", asked) is None


async def test_questions_take_their_defaults_by_policy(system: System) -> None:
    """Where nobody is asked, the defaults are the answers, marked as assumed."""
    project = await system.launch("ask", approvals="auto")
    async with system.engine.worker():
        run = await system.until(project.id, "success", "failed")
    assert run.output is not None
    assert run.output == {"value": "blue True"}
