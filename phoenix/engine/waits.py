"""Runs that wait for the budget of their organisation look again: the day has turned, or it was raised."""

from __future__ import annotations

from uuid import UUID

from phoenix.engine.admission import Admission
from phoenix.storage import budgets, runs


async def let_look_again(admission: Admission) -> list[UUID]:
    """Put runs back to work whose time to look again has come, and return them."""
    async with admission.transaction() as change:
        found = await budgets.resumable(change.connection)
        for run_id in found:
            locked = await runs.lock(change.connection, run_id)
            if locked.run.status == "waiting" and not locked.wake:
                await runs.set_wake(change.connection, run_id)
                await change.due(locked.run)
    return found
