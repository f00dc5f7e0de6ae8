"""What tests of budgets share: projects with limits, and calls that hold and are counted."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.budget import Hold, Most, ProjectLimits, Spent
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall, Project, Run
from phoenix.engine.queue import open_queue
from phoenix.ports import Caller
from phoenix.storage import projects, runs
from phoenix.storage.budgets import Holds, RunBudgets
from phoenix.storage.database import connect, conninfo, transaction
from phoenix.storage.direct import Direct
from phoenix.storage.journal import JournalRows
from phoenix.storage.settling import Settlements
from phoenix.storage.tables import events, model_calls, organisations
from phoenix.storage.tables_budgets import budget_holds

ANSWER = KeptAnswer(message={"content": "ok"}, model="m")


def most(usd: str | None, *, tokens: int = 10, output: int = 2048) -> Most:
    """Return what a call may use."""
    return Most(output_tokens=output, tokens=tokens, usd=None if usd is None else Decimal(usd))


def call(usd: str | None, *, tokens: int = 10, task: str = "", recorded: bool = False) -> ModelCall:
    """Return an answered call."""
    cost = None if usd is None else Decimal(usd)
    return ModelCall(
        agent="coding", task=task, model="m", input_tokens=tokens, cost_usd=cost, recorded=recorded
    )


@dataclass
class Process:
    """One process with its own connections."""

    database: AsyncEngine
    holds: Holds
    settlements: Settlements

    def budgets(self, run: Run, project: Project) -> RunBudgets:
        """Return the budgets of a run, as this process sees them."""
        return RunBudgets(self.holds, run, project)

    async def hold(
        self, run: Run, project: Project, *choices: Most, task: str = "", seconds: float = 60.0
    ) -> Hold | Spent | None:
        """Ask for what a call may use."""
        caller = Caller("coding", task)
        return await self.budgets(run, project).hold(caller, choices, seconds=seconds)

    async def settle(self, run: Run, hold: Hold | None, made: ModelCall) -> None:
        """Count a call whose answer arrived."""
        key = CallKey(step="s", request=str(uuid4()), ordinal=0)
        await JournalRows(self.database, run, self.settlements).keep(key, ANSWER, made, hold=hold)

    async def launch(
        self,
        budget_usd: str | None = None,
        *,
        limits: ProjectLimits | None = None,
        worker: int | None = None,
        organisation_id: UUID | None = None,
    ) -> tuple[Run, Project]:
        """Return a running run of a new project."""
        now = datetime.now(UTC)
        own: dict[str, Any] = {} if organisation_id is None else {"organisation_id": organisation_id}
        project = Project(
            id=uuid4(),
            title="t",
            requirement="r",
            model="m",
            budget_usd=None if budget_usd is None else Decimal(budget_usd),
            limits=limits or ProjectLimits(),
            created_at=now,
            **own,
        )
        run = Run(
            id=uuid4(),
            project_id=project.id,
            flow="develop",
            status="running",
            attempt=1,
            created_at=now,
            **own,
        )
        async with transaction(self.database) as connection:
            await projects.add(connection, project)
            await runs.add(connection, run, flow_input={})
            row = runs.runs.c
            held = update(runs.runs).where(row.id == run.id).values(worker=worker, started_at=func.now())
            await connection.execute(held)
        return run, project

    async def organisation(self, **values: Any) -> UUID:
        """Return a new organisation."""
        made = uuid4()
        async with transaction(self.database) as connection:
            row = {"id": made, "name": str(made), **values}
            await connection.execute(insert(organisations).values(row))
        return made

    async def count_holds(self) -> int:
        """Return how many calls hold something."""
        async with transaction(self.database) as connection:
            query = select(func.count()).select_from(budget_holds)
            return int((await connection.execute(query)).scalar_one())

    async def spent(self, project_id: UUID) -> Decimal:
        """Return what a project's calls have cost."""
        query = select(func.coalesce(func.sum(model_calls.c.cost_usd), 0))
        async with transaction(self.database) as connection:
            found = await connection.execute(query.where(model_calls.c.project_id == project_id))
            return Decimal(found.scalar_one())

    async def told(self, project_id: UUID, kind: str) -> list[dict[str, Any]]:
        """Return what a project's events of a kind say."""
        query = select(events.c.data).where(events.c.project_id == project_id, events.c.kind == kind)
        async with transaction(self.database) as connection:
            return list((await connection.execute(query.order_by(events.c.seq))).scalars())


async def open_process(url: str, stack: AsyncExitStack) -> Process:
    """Return a process of its own, closed with the stack."""
    database = connect(url, pool_size=5)
    stack.push_async_callback(database.dispose)
    queue = open_queue(conninfo(url))
    await stack.enter_async_context(queue.open_async())
    direct = Direct(queue)
    return Process(database, Holds(direct), Settlements(direct))
