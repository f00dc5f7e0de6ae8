"""Child runs: opened by a run, advanced like any other, waking their parent when they end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.run import Run
from phoenix.engine.admission import Admission, Change
from phoenix.errors import BudgetSpent, RunSuperseded
from phoenix.ports import ChildSpec
from phoenix.storage import events, runs
from phoenix.storage.database import transaction
from phoenix.storage.runs import LockedRun

SPENT = BudgetSpent().code


class RunChildren:
    """The port `ChildRuns` of one attempt of a run."""

    def __init__(self, database: AsyncEngine, admission: Admission, parent: Run) -> None:
        self._database = database
        self._admission = admission
        self._parent = parent

    async def open(self, children: Sequence[ChildSpec]) -> None:
        """Open child runs in one transaction; those already open under their key are left as they are.

        Raises:
            RunSuperseded: another attempt of the parent has taken over.
        """
        parent = self._parent
        async with self._admission.transaction() as change:
            connection = change.connection
            locked = await runs.lock(connection, parent.id)
            if locked.run.attempt != parent.attempt:
                raise RunSuperseded(f"Another attempt of run {parent.id} opens its children.")
            opened = [run for spec in children if (run := await self._add(change, spec, locked))]
            for run in opened:
                data = {"key": run.key, "flow": run.flow}
                await events.append(connection, run.project_id, "run_opened", data, run_id=run.id)

    async def _add(self, change: Change, spec: ChildSpec, parent: LockedRun) -> Run | None:
        run = Run(
            id=uuid4(),
            project_id=parent.run.project_id,
            organisation_id=parent.run.organisation_id,
            parent_id=parent.run.id,
            key=spec.key,
            flow=spec.flow,
            queue=parent.run.queue,
            status="pending",
            # The parent's row is locked, so a pause has either marked it already or will find this child.
            paused=parent.run.paused,
            created_at=datetime.now(UTC),
        )
        body = spec.input.model_dump(mode="json")
        if not await runs.add(change.connection, run, flow_input={"value": body}, priority=parent.priority):
            return None
        await change.due(run)
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
