"""People who decide in tests of gates, and the passing of time."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from phoenix.domain.approval import Approval, Decision
from phoenix.domain.gates import GateRule, GateRules
from phoenix.domain.identity import Principal, Role
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.storage.database import transaction
from tests.integration.engine.engine_toy import System

APPROVE = Decision(verdict="approve")
REJECT = Decision(verdict="reject", reason="No.")


def person(name: str, role: Role = "approver", **options: Any) -> Principal:
    """Return somebody who is signed in."""
    return Principal(
        user_id=uuid4(),
        organisation_id=DEFAULT_ORGANISATION,
        email=f"{name}@example.org",
        role=role,
        via="key",
        credential_id=uuid4(),
        **options,
    )


def rules(gate: str = "spec", **rule: Any) -> GateRules:
    """Return rules with one for a gate."""
    return GateRules(gates={gate: GateRule(**rule)})


async def vote(system: System, approval: Approval, who: Principal, decision: Decision = APPROVE) -> Approval:
    """Let somebody decide on what they see."""
    digest = approval.request.value_digest
    return await system.engine.decide(approval.id, decision, by=who.email, who=who, digest=digest)


async def asked(system: System, project_id: UUID, gate: str = "spec") -> Approval:
    """Return the open approval of a gate, once it is there."""
    async with asyncio.timeout(30):
        while True:
            opened = (await system.engine.overview(project_id)).approvals
            found = [a for a in opened if a.request.name == gate]
            if found:
                return found[0]
            await asyncio.sleep(0.03)


async def pass_time(system: System, approval: Approval, seconds: int) -> None:
    """Let an approval be so much older by the database's clock."""
    moved = ", ".join(
        f"{c} = {c} - make_interval(secs => :s)" for c in ("created_at", "deadline_at", "next_at")
    )
    async with transaction(system.database) as connection:
        statement = text(f"UPDATE approvals SET {moved} WHERE id = :id")
        await connection.execute(statement, {"s": seconds, "id": approval.id})


async def happened(system: System, project_id: UUID, kind: str, times: int = 1) -> list[dict[str, Any]]:
    """Return the data of the events of a kind, once there are so many."""
    async with asyncio.timeout(30):
        while True:
            found = [e.data for e in await system.events(project_id) if e.kind == kind]
            if len(found) >= times:
                return found
            await asyncio.sleep(0.03)
