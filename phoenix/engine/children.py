"""Child runs: opened by a run, advanced like any other, waking their parent when they end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.run import Run
from phoenix.engine.queue import RunQueue
from phoenix.errors import BudgetSpent, RunSuperseded
from phoenix.ports import ChildSpec
from phoenix.storage import events, runs
from phoenix.storage.database import transaction

SPENT = BudgetSpent().code


class RunChildren:
    """The port `ChildRuns` of one attempt of a run."""

    def __init__(self, database: AsyncEngine, queue: RunQueue, parent: Run) -> None:
        self._database = database
        self._queue = queue
        self._parent = parent

    async def open(self, children: Sequence[ChildSpec]) -> None:
        """Open child runs in one transaction; those already open under their key are left as they are.

        Raises:
            RunSuperseded: another attempt of the parent has taken over.
        """
        parent = self._parent
        async with transaction(self._database) as connection:
            locked = await runs.lock(connection, parent.id)
            if locked.run.attempt != parent.attempt:
                raise RunSuperseded(f"Another attempt of run {parent.id} opens its children.")
            opened = [run for spec in children if (run := await self._add(connection, spec, locked.priority))]
            for run in opened:
                data = {"key": run.key, "flow": run.flow}
                await events.append(connection, run.project_id, "run_opened", data, run_id=run.id)

    async def _add(self, connection: AsyncConnection, spec: ChildSpec, priority: int) -> Run | None:
        run = Run(
            id=uuid4(),
            project_id=self._parent.project_id,
            parent_id=self._parent.id,
            key=spec.key,
            flow=spec.flow,
            status="pending",
            created_at=datetime.now(UTC),
        )
        body = spec.input.model_dump(mode="json")
        if not await runs.add(connection, run, flow_input={"value": body}, priority=priority):
            return None
        await self._queue.put(connection, run.id, flow=run.flow, priority=priority)
        return run

    async def read(self, prefix: str = "") -> list[Run]:
        """Return this run's children whose key starts so, in order of opening.

        Raises:
            BudgetSpent: a child stopped at the project's budget. Its parent must stop there as well, or
                it would take unpaid work for failed; both are tried again by `resume`.
        """
        async with transaction(self._database) as connection:
            found = await runs.children(connection, self._parent.id, prefix=prefix)
        spent = next((r.error for r in found if r.error is not None and r.error.code == SPENT), None)
        if spent is not None:
            raise BudgetSpent(spent.message)
        return found
