"""A spent budget as a gate: who may extend it, and what waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from langgraph.runtime import Runtime

from phoenix.domain.approval import Decision
from phoenix.domain.identity import Principal
from phoenix.domain.run import Project, Run
from phoenix.engine.engine import Services
from phoenix.engine.work import open_work
from phoenix.errors import BudgetInvalid, BudgetSpent, Forbidden
from phoenix.flow import parallel, step
from phoenix.ports import ChildSpec, Ports
from tests.integration.engine.engine_toy import (
    System,
    Words,
    absorb,
    done,
    first,
    join,
    last,
    open_system,
)
from tests.integration.engine.gate_people import APPROVE, asked, happened, pass_time, person, rules, vote

PRICE = Decimal(5)


@step
async def spend(words: Words, runtime: Runtime[Ports]) -> Words:
    """Stand for a model call that the budget does not allow below a price."""
    words.mark("spend")
    while words.text == "slow" and not (Path(words.folder) / "go").exists():
        await asyncio.sleep(0.02)
    budget = runtime.context.budget_usd
    if budget is not None and budget < PRICE:
        raise BudgetSpent(f"The project has spent {budget} USD.")
    return words


@step
async def open_three(words: Words, runtime: Runtime[Ports]) -> Words:
    """Open three children that all spend."""
    specs = [
        ChildSpec(key=f"build/{n}", flow="spend", input=words.model_copy(update={"text": f"{n}"}))
        for n in range(3)
    ]
    await runtime.context.children.open(specs)
    return words


def ports_for(run: Run, project: Project, services: Services) -> Ports:
    """Return what these flows use."""
    found = {"events": services.events, "children": services.children, "budget_usd": project.budget_usd}
    return cast("Ports", SimpleNamespace(**found))


def flows() -> dict[str, Any]:
    """Return flows that spend."""
    from phoenix.flow import approve, loop_until, wait

    both = parallel(left=approve("left") >> first, right=spend)
    return {
        "spend": first >> spend >> last,
        "spenders": open_three >> loop_until(done, wait("build") >> absorb, cap=20),
        "both": both >> join >> last,
    }


@pytest.fixture
async def system(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """Return a system whose flows spend."""
    async with open_system(migrated_database_url, tmp_path, flows(), ports_for=ports_for) as opened:
        yield opened


async def test_an_approval_extends_the_budget_by_what_was_shown(system: System) -> None:
    """The step that could not be paid is done again, and no other."""
    project = await system.launch("spend", budget_usd=Decimal(3))
    async with system.engine.worker():
        approval = await asked(system, project.id, "budget")
        shown = {"budget_usd": "3", "spent_usd": "0", "extend_by_usd": "3"}
        assert approval.request.value.items() >= shown.items()
        await vote(system, approval, person("ada"))
        await system.until(project.id, "success")
    assert (await system.engine.overview(project.id)).project.budget_usd == Decimal(6)
    assert system.marks() == ["first", "spend", "spend", "last"]


async def test_all_runs_of_a_project_wait_for_one_approval(system: System) -> None:
    """One question, one answer, and all of them go on; the parent as well."""
    project = await system.launch("spenders", budget_usd=Decimal(3))
    async with system.engine.worker():
        approval = await asked(system, project.id, "budget")
        await happened(system, project.id, "run_waiting", 4)
        assert len((await system.engine.overview(project.id)).approvals) == 1
        await vote(system, approval, person("ada"))
        run = await system.until(project.id, "success", "failed")
    assert run.status == "success", run.error
    assert (await system.kinds(project.id)).count("approval_requested") == 1
    assert (await system.kinds(project.id)).count("budget_raised") == 1


async def test_a_refusal_ends_all_that_waits(system: System) -> None:
    """Nothing of it is left waiting, and the project says why it ended."""
    project = await system.launch("spenders", budget_usd=Decimal(3))
    no = Decision(verdict="reject", reason="Enough.")
    async with system.engine.worker():
        approval = await asked(system, project.id, "budget")
        await happened(system, project.id, "run_waiting", 4)
        await vote(system, approval, person("ada"), no)
        run = await system.until(project.id, "failed")
        children = (await system.engine.overview(project.id)).children
    assert run.error is not None
    assert (run.error.code, "Enough." in run.error.message) == ("budget_spent", True)
    assert {child.status for child in children} == {"failed"}


async def test_nobody_is_asked_where_the_level_asks_nobody(system: System) -> None:
    """The project fails as before, and a larger budget lets it go on."""
    project = await system.launch("spend", budget_usd=Decimal(3), approvals="auto")
    async with system.engine.worker():
        run = await system.until(project.id, "failed")
        assert run.error is not None
        assert run.error.code == "budget_spent"
        await system.engine.resume(project.id, budget_usd=PRICE)
        await system.until(project.id, "success")
    assert "approval_requested" not in await system.kinds(project.id)


async def test_a_branch_that_waits_for_a_person_keeps_the_other_from_nothing(system: System) -> None:
    """Beside an open gate in the same run, more money lets the branch that needed it go on."""
    project = await system.launch("both", budget_usd=Decimal(3))
    async with system.engine.worker():
        budget = await asked(system, project.id, "budget")
        await vote(system, budget, person("ada"))
        await system.until_marked("spend", 2)
        left = await asked(system, project.id, "left")
        await vote(system, left, person("ada"))
        await system.until(project.id, "success")


async def test_a_budget_raised_meanwhile_is_used(system: System) -> None:
    """A run that comes to the end of the old one is not stopped by it."""
    project = await system.launch("spend", "slow", budget_usd=Decimal(3))
    async with system.engine.worker():
        await system.until_marked("spend")
        await system.engine.resume(project.id, budget_usd=PRICE)
        system.go()
        await system.until(project.id, "success")
    assert "approval_requested" not in await system.kinds(project.id)


async def test_a_resume_with_money_is_a_decision(system: System) -> None:
    """Whoever may not decide the open approval cannot pay past it; on this machine it is decided by name."""
    project = await system.launch("spend", budget_usd=Decimal(3), gate_rules=rules("budget", role="admin"))
    async with system.engine.worker():
        approval = await asked(system, project.id, "budget")
        for role in ("developer", "approver"):

            async def find(_: object, role: Any = role) -> Principal:
                return person("dev", role)

            with pytest.raises(Forbidden):
                async with open_work(system.database, find) as work:
                    await system.engine.resume(project.id, budget_usd=PRICE, work=work)
        with pytest.raises(BudgetInvalid):
            await system.engine.resume(project.id, budget_usd=Decimal(3), by="ada")
        assert (await asked(system, project.id, "budget")).id == approval.id
        await system.engine.resume(project.id, budget_usd=PRICE, by="ada")
        await system.until(project.id, "success")
    decided = await system.engine.decisions.get(approval.id)
    assert (decided.decided_by, decided.decision and decided.decision.verdict) == ("ada", "approve")
    assert (await system.engine.overview(project.id)).project.budget_usd == PRICE


async def test_a_deadline_extends_as_its_rule_says(system: System) -> None:
    """By what was shown, and named as the deadline's."""
    rule = rules("budget", deadline_seconds=3600, when_over="approve")
    project = await system.launch("spend", budget_usd=Decimal(3), gate_rules=rule)
    async with system.engine.worker():
        await pass_time(system, await asked(system, project.id, "budget"), 3600)
        await system.until(project.id, "success")
    (decided,) = await happened(system, project.id, "approval_decided")
    assert (decided["by"], decided["verdict"]) == ("deadline", APPROVE.verdict)
    assert (await system.engine.overview(project.id)).project.budget_usd == Decimal(6)


async def test_a_quorum_extends_by_what_all_have_seen(system: System) -> None:
    """Two people approve the same amount."""
    project = await system.launch("spend", budget_usd=Decimal(3), gate_rules=rules("budget", quorum=2))
    async with system.engine.worker():
        approval = await asked(system, project.id, "budget")
        await vote(system, approval, person("ada"))
        assert (await system.run_of(project.id)).status == "waiting"
        await vote(system, approval, person("bob"))
        await system.until(project.id, "success")
