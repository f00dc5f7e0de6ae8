"""A project that comes to its budget's end, and goes on with more."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from phoenix.domain.approval import Decision
from phoenix.engine.launch import Launch
from phoenix.errors import BudgetInvalid
from phoenix.llm.scripted import ScriptedModel
from phoenix.settings import Settings
from tests.e2e.conftest import LONGEST_SECONDS, asks_for, stopped, system_of
from tests.e2e.script import MODEL, script

PRICE = Decimal("0.10")
CALLS = 12
"""Of the script: six before the tasks, two for each task's coder and one for its reviewer."""


@pytest.mark.parametrize(
    ("budget", "step"),
    [pytest.param("0.35", "decompose", id="in a step"), pytest.param("0.65", "absorb", id="in a task")],
)
async def test_a_spent_budget_fails_the_project_and_more_delivers_it(
    settings: Settings, budget: str, step: str
) -> None:
    """No call is made beyond it, none is paid twice, and a task that could not be paid has not failed."""
    model = ScriptedModel(script(), cost_usd=PRICE)
    async with system_of(settings, model) as system:
        engine = system.engine
        order: dict[str, Any] = {"requirement": "A calculator.", "model": MODEL, "approvals": "auto"}
        project = await engine.launch(Launch(**order, budget_usd=Decimal(budget)))
        async with asyncio.timeout(LONGEST_SECONDS):
            failed = await stopped(system, project.id)
            while any(run.status == "running" for run in failed.children):
                await asyncio.sleep(0.05)
                failed = await engine.overview(project.id)
        assert failed.run.error is not None
        assert (failed.run.status, failed.run.error.code) == ("failed", "budget_spent")
        assert failed.run.error.step == step
        assert f"phoenix resume {str(project.id)[:8]} --budget-usd" in failed.run.error.message
        for wrong in (budget, "0", "-1", "NaN", "Infinity"):
            with pytest.raises(BudgetInvalid):
                await engine.resume(project.id, budget_usd=Decimal(wrong))
        assert (await engine.overview(project.id)).run.status == "failed"

        await engine.resume(project.id, budget_usd=Decimal(5))
        async with asyncio.timeout(LONGEST_SECONDS):
            done = await stopped(system, project.id)
        assert done.run.status == "success", done.run.error
        assert (done.project.budget_usd, done.usage.calls) == (Decimal(5), CALLS)
        events = await engine.log.read(project.id, limit=10_000)
        (raised,) = [e.data for e in events if e.kind == "budget_raised"]
        assert raised == {"from_usd": budget, "budget_usd": "5"}


@pytest.mark.parametrize(
    ("value", "stopped_why"),
    [
        pytest.param({"leave_out": ["T2"]}, "", id="cut"),
        pytest.param({"stop": True}, "left out by ada when the budget was spent: Enough.", id="stop"),
    ],
)
async def test_what_is_done_is_delivered_when_the_scope_is_cut(
    settings: Settings, value: dict[str, Any], stopped_why: str
) -> None:
    """The task ends skipped with the reason, nobody mends what is missing, and a person takes the rest."""
    model = ScriptedModel(script(), cost_usd=PRICE)
    async with system_of(settings, model) as system:
        engine = system.engine
        order = Launch(
            requirement="A calculator.",
            model=MODEL,
            approvals="budget,delivery",
            budget_usd=Decimal("0.95"),
            max_runs=1,
        )
        project = await engine.launch(order)
        (approval,) = (await asks_for(system, project.id, "budget")).approvals
        decision = Decision(verdict="edit", value=value, reason="Enough.")
        await engine.decide(approval.id, decision, by="ada")
        overview = await asks_for(system, project.id, "delivery")
        (approval,) = overview.approvals
        await engine.decide(approval.id, Decision(verdict="approve"), by="ada")
        async with asyncio.timeout(LONGEST_SECONDS):
            done = await stopped(system, project.id)
        assert done.run.status == "success", done.run.error
        evidence, build = done.artifacts["evidence"], done.artifacts["build"]
        assert (evidence["passed"], evidence["left_out"], evidence["stopped"]) == (False, ["C2"], stopped_why)
        assert [(t["task"], t["status"]) for t in build["tasks"]] == [("T1", "done"), ("T2", "skipped")]
        assert build["tasks"][1]["reason"] == "left out by ada when the budget was spent: Enough."
        assert (done.usage.calls, done.usage.cost_usd) == (9, Decimal("0.90"))
        assert done.project.budget_usd == Decimal("0.95")
        report = Path(done.artifacts["delivery"]["report"]).read_text()
        assert "- C2 does not hold: the tasks for it were left out." in report
        assert "T2 Task 2: skipped: left out by ada when the budget was spent: Enough." in report
        (cut,) = [e.data for e in await engine.log.read(project.id, limit=10_000) if e.kind == "scope_cut"]
        assert cut["by"] == "ada"


async def test_stopped_before_anything_is_built_it_ends(settings: Settings) -> None:
    """There is nothing to deliver: the project fails with the reason, as after a rejection."""
    async with system_of(settings, ScriptedModel(script(), cost_usd=PRICE)) as system:
        order = Launch(requirement="A calculator.", model=MODEL, approvals="budget", budget_usd=PRICE)
        project = await system.engine.launch(order)
        (approval,) = (await asks_for(system, project.id, "budget")).approvals
        decision = Decision(verdict="edit", value={"stop": True}, reason="Enough.")
        await system.engine.decide(approval.id, decision, by="ada")
        async with asyncio.timeout(LONGEST_SECONDS):
            done = await stopped(system, project.id)
        assert done.run.status == "failed"
        assert done.run.error is not None
        assert "stopped at its budget by ada: Enough." in done.run.error.message
