"""Runs that wait for their organisation's budget, and the limits that people extend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from langgraph.runtime import Runtime
from sqlalchemy import text

from phoenix.domain.approval import Decision
from phoenix.domain.budget import Budget, ProjectLimits
from phoenix.domain.run import Project, Run
from phoenix.engine.engine import Services
from phoenix.engine.quotas import Organisations
from phoenix.engine.work import open_work
from phoenix.errors import BudgetSpent, DomainInvalid
from phoenix.flow import step
from phoenix.ports import Ports
from phoenix.storage import organisations
from phoenix.storage.database import transaction
from tests.integration.engine.engine_toy import System, Words, first, last, open_system
from tests.integration.engine.gate_people import asked, happened, person, vote


@step
async def spend(words: Words, runtime: Runtime[Ports]) -> Words:
    """Stand for a model call that a budget does not allow until a file is there, or its limit is raised."""
    words.mark("spend")
    scope, _, measure = words.text.partition(" ")
    limits = cast("ProjectLimits", runtime.context.limits)  # type: ignore[attr-defined]
    limit = limits.task.calls if scope == "task" else limits.tokens
    if not (Path(words.folder) / "go").exists() and (limit is None or limit < 30):
        raise BudgetSpent("It is spent.", scope=scope, measure=measure, task="T1" if scope == "task" else "")
    return words


def ports_for(run: Run, project: Project, services: Services) -> Ports:
    """Return what these flows use."""
    found = {"events": services.events, "children": services.children, "limits": project.limits}
    return cast("Ports", SimpleNamespace(**found))


@pytest.fixture
async def system(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """Return a system whose flow spends."""
    flows = {"spend": first >> spend >> last}
    async with open_system(migrated_database_url, tmp_path, flows, ports_for=ports_for) as opened:
        yield opened


@pytest.mark.parametrize("turns", [True, False], ids=["the day turns", "the limit is raised"])
async def test_a_run_waits_for_its_organisation_and_goes_on_by_itself(system: System, turns: bool) -> None:
    """Nobody is asked in the project; it says what it waits for, and until when."""
    project = await system.launch("spend", "day usd", approvals="auto")
    async with system.engine.worker():
        (waiting,) = await happened(system, project.id, "run_waiting")
        assert (waiting["scope"], waiting["reason"]) == ("day", "It is spent.")
        assert (await system.run_of(project.id)).status == "waiting"
        async with transaction(system.database) as connection:
            query = text(
                "SELECT resume_at = (date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day')"
                " AT TIME ZONE 'UTC' FROM runs"
            )
            assert (await connection.execute(query)).scalar_one()
        system.go()
        if turns:
            async with transaction(system.database) as connection:
                await connection.execute(text("UPDATE runs SET resume_at = now()"))
        else:

            async def find(_: object) -> object:
                return person("root", "admin")

            async with open_work(system.database, find) as work:  # type: ignore[arg-type]
                desk = Organisations(system.database)
                await desk.change(work.who, version=None, work=work, max_usd_day=Decimal(9))
        await system.until(project.id, "success")
    assert system.marks() == ["first", "spend", "spend", "last"]
    assert "approval_requested" not in await system.kinds(project.id)


@pytest.mark.parametrize(
    ("about", "limits", "after"),
    [
        ("project tokens", ProjectLimits(tokens=20), ProjectLimits(tokens=40)),
        ("task calls", ProjectLimits(task=Budget(calls=20)), ProjectLimits(task=Budget(calls=40))),
    ],
)
async def test_other_limits_are_extended_at_the_same_gate(
    system: System, about: str, limits: ProjectLimits, after: ProjectLimits
) -> None:
    """By as much again, or by what people say; an amount of another measure is refused."""
    project = await system.launch("spend", about, limits=limits)
    async with system.engine.worker():
        approval = await asked(system, project.id, "budget")
        assert (approval.request.value["limit"], approval.request.value["extend_by"]) == (20, 20)
        wrong = Decision(verdict="edit", value={"extend_by_usd": "5"})
        with pytest.raises(DomainInvalid):
            await vote(system, approval, person("ada"), wrong)
        await vote(system, approval, person("ada"))
        await system.until(project.id, "success")
    assert (await system.engine.overview(project.id)).project.limits == after
    assert (await happened(system, project.id, "limit_raised"))[0]["limit"] == "40"


async def test_recorded_calls_are_none_of_the_days_spending(system: System) -> None:
    """What a replay shows as cost was paid before."""
    project = await system.launch("spend", "day usd")
    run = await system.run_of(project.id)
    insert = (
        "INSERT INTO model_calls (project_id, run_id, agent, model, input_tokens, output_tokens, cost_usd,"
        " recorded) VALUES (:p, :r, 'a', 'm', 1, 1, :usd, :recorded)"
    )
    async with transaction(system.database) as connection:
        for usd, recorded in (("5", True), ("0.25", False)):
            values = {"p": project.id, "r": run.id, "usd": Decimal(usd), "recorded": recorded}
            await connection.execute(text(insert), values)
        spent, _ = await organisations.spent_today(connection, project.organisation_id)
    assert spent == Decimal("0.25")
