"""What waits for people, counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.storage.runs import UNFINISHED
from phoenix.storage.tables import CLOCK, approvals, projects, runs


@dataclass(frozen=True)
class Pile:
    """The open approvals of one gate of one project."""

    project_id: UUID
    title: str
    gate: str
    count: int
    oldest_seconds: float
    next_deadline_at: datetime | None


async def piles(
    connection: AsyncConnection, organisation_id: UUID, *, only: Sequence[UUID] | None = None
) -> list[Pile]:
    """Return the open approvals of an organisation by project and gate, the oldest first."""
    gate = approvals.c.request["name"].astext
    oldest = func.extract("epoch", CLOCK - func.min(approvals.c.created_at))
    query = (
        select(
            approvals.c.project_id,
            projects.c.title,
            gate.label("gate"),
            func.count().label("waiting"),
            oldest.label("oldest_seconds"),
            func.min(approvals.c.deadline_at).label("next_deadline_at"),
        )
        .join(runs, runs.c.id == approvals.c.run_id)
        .join(projects, projects.c.id == approvals.c.project_id)
        .where(
            runs.c.organisation_id == organisation_id,
            approvals.c.decided_at.is_(None),
            runs.c.status.in_(UNFINISHED),
        )
        .group_by(approvals.c.project_id, projects.c.title, gate)
        .order_by(func.min(approvals.c.created_at), approvals.c.project_id)
    )
    if only is not None:
        query = query.where(approvals.c.project_id.in_(only))
    return [
        Pile(
            project_id=row.project_id,
            title=row.title,
            gate=row.gate,
            count=row.waiting,
            oldest_seconds=round(float(row.oldest_seconds), 3),
            next_deadline_at=row.next_deadline_at,
        )
        for row in await connection.execute(query)
    ]
