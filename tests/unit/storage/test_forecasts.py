"""What past tasks say of a plan that people are to decide on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from phoenix.domain.approval import HumanRequest
from phoenix.domain.forecast import ASSUMED, Range
from phoenix.engine.forecasts import with_forecast
from phoenix.storage import approvals, forecasts
from phoenix.storage.database import transaction
from tests.unit.storage.budget_rows import Process, call, open_process

PLAN = {"tasks": [{"id": "T1", "size": "S"}, {"id": "T2", "size": "L"}, {"id": "T3", "size": "S"}]}
REQUEST = HumanRequest(kind="approve", name="plan", value_digest="", value=PLAN)


@pytest.fixture
async def process(migrated_database_url: str) -> AsyncIterator[Process]:
    """Return a process on a migrated database."""
    async with AsyncExitStack() as stack:
        yield await open_process(migrated_database_url, stack)


async def finished(
    process: Process, cost: str | None, *, status: str = "success", recorded: bool = False, size: str = "S"
) -> UUID:
    """Return a project one task of which has cost so much, in two calls."""
    run, project = await process.launch()
    for part in (cost, "0.01"):
        await process.settle(
            run, None, call(part, task="T7/review" if part == "0.01" else "T7", recorded=recorded)
        )
    body = json.dumps({"tasks": [{"id": "T7", "size": size}]})
    plan = text(
        "INSERT INTO artifacts (project_id, digest, kind, body)"
        " VALUES (:p, 'd', 'Plan', CAST(:body AS jsonb))"
    )
    thread = text("INSERT INTO threads (id, project_id) VALUES (:id, :p)")
    child = text(
        "INSERT INTO runs (id, project_id, thread_id, parent_id, key, flow, status, input)"
        " VALUES (:id, :p, :id, :parent, 'build/1/T7', 'task', :status, '{}')"
    )
    about = {"p": project.id, "id": uuid4(), "parent": run.id, "status": status, "body": body}
    async with transaction(process.database) as connection:
        for statement in (plan, thread, child):
            await connection.execute(statement, about)
    return project.id


async def test_quantiles_of_finished_tasks_of_the_same_size(process: Process) -> None:
    """Failed, replayed and unpriced tasks say nothing, nor do those of other organisations."""
    for cost in ("0.09", "0.19", "0.29", "0.39", "0.99"):
        await finished(process, cost)
    await finished(process, "70", status="failed")
    await finished(process, "80", recorded=True)
    await finished(process, None)
    await finished(process, "2.99", size="L")
    _, foreign = await process.launch(organisation_id=await process.organisation())
    _, mine = await process.launch()
    async with transaction(process.database) as connection:
        past = await forecasts.past(connection, mine.id)
        assert await forecasts.past(connection, foreign.id) == {}
        shown = await with_forecast(connection, mine.id, REQUEST)
    known = Range(usd=Decimal("0.30"), low=Decimal("0.10"), high=Decimal("1.00"), tasks=5)
    assert past["S"] == known
    assert past["L"].tasks == 1
    tasks = shown.notes["forecast"]["tasks"]
    assert [Range.model_validate(t["cost"]) for t in tasks] == [known, ASSUMED["L"], known]
    assert Decimal(shown.notes["forecast"]["usd"]) == Decimal("3.60")


async def test_what_was_shown_is_kept_beside_what_it_cost(process: Process) -> None:
    """With the approval, whatever past tasks come to later."""
    run, project = await process.launch()
    async with transaction(process.database) as connection:
        assert await forecasts.of_project(connection, project.id) is None
        asked = await with_forecast(connection, project.id, REQUEST)
        await approvals.request(connection, project.id, run.id, "i", asked)
    await process.settle(run, None, call("0.25", task="T2/review"))
    await process.settle(run, None, call("0.50"))
    async with transaction(process.database) as connection:
        kept = await forecasts.of_project(connection, project.id)
        used = await forecasts.used_by_tasks(connection, project.id)
    assert kept is not None
    assert [t.task for t in kept.tasks] == ["T1", "T2", "T3"]
    assert {task: usage.cost_usd for task, usage in used.items()} == {
        "": Decimal("0.50"),
        "T2": Decimal("0.25"),
    }


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST.model_copy(update={"name": "spec"}),
        REQUEST.model_copy(update={"value": {"tasks": "none"}}),
        REQUEST.model_copy(update={"value": {"tasks": [{"id": "T1", "size": "huge"}, 3]}}),
    ],
)
async def test_what_is_no_plan_has_no_forecast(process: Process, request_: HumanRequest) -> None:
    """A flow of one's own may have a gate of that name."""
    async with transaction(process.database) as connection:
        assert (await with_forecast(connection, uuid4(), request_)).notes == {}
