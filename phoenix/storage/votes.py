"""Queries on votes, and on who has had a hand in what is voted on."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.approval import Vote
from phoenix.domain.cleaning import clean_text
from phoenix.storage.tables import approval_votes, approvals, projects
from phoenix.storage.tables_identity import audit

STEERING = ("project.message", "project.steer", "run.message")
"""Actions of the audit log by which somebody has told the agents of a project what to do."""

FIELDS = [approval_votes.c[name] for name in Vote.model_fields]


async def add(
    connection: AsyncConnection,
    approval_id: UUID,
    *,
    voter: str,
    voter_id: UUID | None,
    verdict: str,
    reason: str,
    value_digest: str,
    escalated: bool,
) -> bool:
    """Store a vote; return False when this voter has given one already."""
    row = {
        "approval_id": approval_id,
        "voter": voter,
        "voter_id": voter_id,
        "verdict": verdict,
        "reason": clean_text(reason),
        "value_digest": value_digest,
        "escalated": escalated,
    }
    stored = insert(approval_votes).values(row).on_conflict_do_nothing().returning(approval_votes.c.voter)
    return (await connection.execute(stored)).one_or_none() is not None


async def of(connection: AsyncConnection, approval_ids: Sequence[UUID]) -> dict[UUID, list[Vote]]:
    """Return the votes on approvals, oldest first."""
    if not approval_ids:
        return {}
    query = (
        select(approval_votes.c.approval_id, *FIELDS)
        .where(approval_votes.c.approval_id.in_(approval_ids))
        .order_by(approval_votes.c.at, approval_votes.c.voter)
    )
    found: dict[UUID, list[Vote]] = {}
    for row in await connection.execute(query):
        given = Vote(**{name: row._mapping[name] for name in Vote.model_fields})
        found.setdefault(row.approval_id, []).append(given)
    return found


async def authors(connection: AsyncConnection, project_id: UUID) -> set[UUID]:
    """Return the users who launched a project, edited or answered at its gates, or sent it a message."""
    launched = select(projects.c.created_by).where(projects.c.id == project_id)
    edited = (
        select(approval_votes.c.voter_id)
        .join(approvals, approvals.c.id == approval_votes.c.approval_id)
        .where(approvals.c.project_id == project_id, approval_votes.c.verdict.in_(("edit", "respond")))
    )
    steered = select(audit.c.actor_id).where(
        audit.c.object_id == str(project_id), audit.c.action.in_(STEERING)
    )
    found = await connection.execute(launched.union(edited, steered))
    return {user_id for user_id in found.scalars() if user_id is not None}
