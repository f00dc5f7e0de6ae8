"""What a run costs: rows, events, budgets and `phoenix costs` say the same, to the last digit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from phoenix.bootstrap import System, open_system
from phoenix.domain.budget import ProjectLimits
from phoenix.engine.launch import Launch
from phoenix.settings import Settings
from phoenix.storage.database import transaction
from phoenix.storage.tables import model_calls
from phoenix.storage.tables_budgets import budget_accounts, budget_holds
from tests.e2e.conftest import LONGEST_SECONDS, process_of, stopped
from tests.e2e.crash import environment_of
from tests.e2e.paying import CATALOGUE, FLOWS, PAID
from tests.unit.llm.server import Reply, Server, serving

ROOT = Path(__file__).parents[2]
MILLION = Decimal(1_000_000)
USAGE = [(1000, 100), (900, 10), (950, 7), (40, 3)]
CACHED, WRITTEN = [0, 600, 800, 0], [500, 100, 0, 0]
MICRO_USD = [
    500 * 2 + 500 * Decimal("2.5") + 100 * 8,
    200 * 2 + 600 * Decimal("0.5") + 100 * Decimal("2.5") + 10 * 8,
    150 * 2 + 800 * Decimal("0.5") + 7 * 8,
    Decimal(40 * 2 + 3 * 8),
]
"""USD per million tokens times tokens: new ones, those read from the provider's cache and those put there."""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A model server whose answers say what each has used."""
    async with serving() as running:
        running.choose = lambda _: reply(len(running.requests) - 1)
        yield running


def reply(number: int) -> Reply:
    """Return the answer to a request by its number."""
    known = {"usage": USAGE[number], "cached": CACHED[number], "written": WRITTEN[number]}
    return Reply(calls=[("look", '{"where": "home"}')], **known) if number == 1 else Reply("ok", **known)


@pytest.fixture
def paid(settings: Settings, server: Server, tmp_path: Path) -> Settings:
    """Settings with a catalogue whose model has a price."""
    path = tmp_path / "models.yaml"
    path.write_text(CATALOGUE % server.url)
    return settings.model_copy(update={"models": path})


def order(flow: str) -> Launch:
    """Return a project with limits of its own and of its tasks."""
    limits = ProjectLimits.model_validate({"task": {"usd": "1"}})
    return Launch(requirement="r", model="auto", flow=flow, input="x", budget_usd=Decimal(1), limits=limits)


async def killed(settings: Settings) -> None:
    """Run a worker until it ends right after it has paid for an answer."""
    assert settings.database_url is not None
    environment = environment_of(settings.home, settings.database_url.get_secret_value())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.paying"),
        cwd=ROOT,
        env=environment | {"PHOENIX_MODELS": str(settings.models)},
    )
    try:
        assert await asyncio.wait_for(process.wait(), 60) == -9
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def rows_of(system: System, project_id: UUID) -> list[Any]:
    """Return the calls of a project, in order."""
    query = select(model_calls).where(model_calls.c.project_id == project_id).order_by(model_calls.c.id)
    async with transaction(system.rows) as connection:
        return list(await connection.execute(query))


async def all_agree(
    system: System, settings: Settings, project_id: UUID, micro: list[Decimal], *, untold: int = 0
) -> None:
    """Check that whoever is asked gives the same amounts, and that nothing is held any more.

    Of the first so many calls no event tells: their worker ended before it could.
    """
    total = sum(micro, Decimal(0)) / MILLION
    rows = await rows_of(system, project_id)
    assert [row.cost_usd for row in rows] == [one / MILLION for one in micro]
    events = await system.engine.log.read(project_id, limit=10_000)
    called = [event.data for event in events if event.kind == "model_called"]
    assert [Decimal(data["cost_usd"]) for data in called] == [one / MILLION for one in micro[untold:]]
    async with transaction(system.rows) as connection:
        used = select(budget_accounts.c.scope, budget_accounts.c.usd, budget_accounts.c.tokens)
        found = {r.scope: r for r in await connection.execute(used.filter_by(project_id=project_id))}
        held = (await connection.execute(select(func.count()).select_from(budget_holds))).scalar_one()
    tokens = [row.input_tokens + row.output_tokens for row in rows]
    if total:
        assert (found["project"].usd, found["project"].tokens) == (total, sum(tokens))
    of_task = [one for row, one in zip(rows, micro, strict=True) if row.task]
    if of_task:
        assert found["task"].usd == sum(of_task) / MILLION
    # What asked for nothing has no account.
    assert {one.usd for one in found.values()} <= {total, sum(of_task) / MILLION}
    assert held == 0
    assert (await system.engine.overview(project_id)).usage.cost_usd == total
    command = process_of(settings)
    assert await asyncio.to_thread(command.run, "costs", str(project_id)) == 0
    shown = command.result
    assert sum(Decimal(line["usage"]["cost_usd"]) for line in shown["lines"]) == total
    assert Decimal(shown["project"]["total"]["cost_usd"]) == total


async def test_a_run_that_is_killed_after_each_answer_pays_each_once(paid: Settings, server: Server) -> None:
    """kill -9 between an answer and its checkpoint: the next worker replays it, at no cost."""
    async with open_system(paid, execution=False, flows=FLOWS) as system:
        project = await system.engine.launch(order("pay"))
        for count in range(1, PAID):
            await killed(paid)
            assert len(server.requests) == count
        async with system.engine.worker(), asyncio.timeout(LONGEST_SECONDS):
            overview = await stopped(system, project.id)
        assert overview.run.status == "success", overview.run.error
        assert len(server.requests) == PAID
        told = [event.kind for event in await system.engine.log.read(project.id, limit=10_000)]
        assert told.count("model_replayed") >= PAID - 1
        await all_agree(system, paid, project.id, MICRO_USD, untold=PAID - 1)


async def test_a_hit_of_the_response_cache_costs_nothing_anywhere(paid: Settings, server: Server) -> None:
    """The project that asked first has paid; the one after it is counted at 0."""
    async with open_system(paid, flows=FLOWS) as system, system.engine.worker():
        for hit in (False, True):
            project = await system.engine.launch(order("size"))
            async with asyncio.timeout(LONGEST_SECONDS):
                overview = await stopped(system, project.id)
            assert overview.run.status == "success", overview.run.error
            assert len(server.requests) == 1
            (row,) = await rows_of(system, project.id)
            assert (row.cached, row.input_tokens, row.cached_tokens) == (hit, 0 if hit else 1000, 0)
            await all_agree(system, paid, project.id, [Decimal(0)] if hit else MICRO_USD[:1])
