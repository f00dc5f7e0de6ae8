"""A project that comes to its budget's end, and goes on with more."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from phoenix.engine.launch import Launch
from phoenix.errors import BudgetInvalid
from phoenix.llm.scripted import ScriptedModel
from phoenix.settings import Settings
from tests.e2e.conftest import LONGEST_SECONDS, stopped, system_of
from tests.e2e.script import MODEL, script

PRICE = Decimal("0.10")
CALLS = 12
"""Of the script: six before the tasks, two for each task's coder and one for its reviewer."""


@pytest.mark.parametrize(
    ("budget", "step"),
    [pytest.param("0.25", "decompose", id="in a step"), pytest.param("0.55", "absorb", id="in a task")],
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
