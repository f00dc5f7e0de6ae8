"""The port `Gates` of one project."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.approval import Approval, GateDecision, HumanRequest
from phoenix.domain.forecast import TaskCost, beside
from phoenix.domain.gates import LeftOut
from phoenix.engine import budget
from phoenix.engine.policy import asks
from phoenix.storage import approvals, forecasts, gate_rules
from phoenix.storage.database import transaction


class ProjectGates:
    """How people decide in one project, as its rows are now."""

    def __init__(self, database: AsyncEngine, project_id: UUID) -> None:
        self._database = database
        self._project_id = project_id

    async def asks(self, gate: str, value: Mapping[str, Any]) -> bool:
        """Tell whether people are to decide on this value at a gate."""
        request = HumanRequest(kind="approve", name=gate, value_digest="", value=dict(value))
        async with transaction(self._database) as connection:
            gates = await gate_rules.of_project(connection, self._project_id)
        return asks(gates.approvals, gate, rule=gates.rule(request), value=value)

    async def decisions(self) -> list[GateDecision]:
        """Return how the project's gates were decided so far, oldest first."""
        async with transaction(self._database) as connection:
            found = await approvals.decided_of(connection, self._project_id)
        return [one for approval, key in found if (one := decision_of(approval, key)) is not None]

    async def costs(self) -> list[TaskCost]:
        """Return what each task used so far, beside what was expected when people decided on the plan."""
        async with transaction(self._database) as connection:
            expected = await forecasts.of_project(connection, self._project_id)
            return beside(expected, await forecasts.used_by_tasks(connection, self._project_id))

    async def left_out(self) -> LeftOut:
        """Return what people took out of the project's scope when its budget was spent."""
        async with transaction(self._database) as connection:
            found = await approvals.decided_of(connection, self._project_id)
        return budget.left_out(approval for approval, _ in found)


def decision_of(approval: Approval, key: str) -> GateDecision | None:
    """Return a decided approval as it stays in the evidence; None for one that is open."""
    decision = approval.decision
    if decision is None or approval.decided_at is None:
        return None
    return GateDecision(
        gate=approval.request.name,
        key=key,
        verdict=decision.verdict,
        by=approval.decided_by,
        # Of the first version nothing says how; it knew the policy by its name.
        how=approval.decided_how or ("policy" if approval.decided_by == "policy" else "person"),
        reason=decision.reason,
        value_digest=approval.request.value_digest,
        votes=approval.votes,
        at=approval.decided_at.astimezone(UTC),
    )
