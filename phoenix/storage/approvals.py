"""Queries on approvals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.approval import Approval, Decision, HumanRequest
from phoenix.domain.cleaning import clean_json
from phoenix.errors import NotFound
from phoenix.storage.runs import UNFINISHED
from phoenix.storage.tables import CLOCK, approvals, runs

COLUMNS = [approvals.c[name] for name in Approval.model_fields]


def _approval(row: Row[tuple[Any, ...]]) -> Approval:
    return Approval(**row._mapping)


async def request(
    connection: AsyncConnection,
    project_id: UUID,
    run_id: UUID,
    interrupt_id: str,
    asked: HumanRequest,
) -> Approval | None:
    """Open an approval; return None when this interrupt has one already."""
    row = {
        "id": uuid4(),
        "project_id": project_id,
        "run_id": run_id,
        "interrupt_id": interrupt_id,
        "request": clean_json(asked.model_dump(mode="json")),
        "value_digest": asked.value_digest,
    }
    stored = insert(approvals).values(row).on_conflict_do_nothing(index_elements=["run_id", "interrupt_id"])
    found = (await connection.execute(stored.returning(*COLUMNS))).one_or_none()
    return None if found is None else _approval(found)


async def get(connection: AsyncConnection, approval_id: UUID) -> Approval:
    """Return an approval.

    Raises:
        NotFound: there is none of that id.
    """
    query = select(*COLUMNS).where(approvals.c.id == approval_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no approval {approval_id}.")
    return _approval(row)


async def decide(
    connection: AsyncConnection, approval_id: UUID, decision: Decision, *, by: str, digest: str
) -> Approval | None:
    """Write a decision, once; return None when there is one already or the digest is another."""
    query = (
        update(approvals)
        .where(
            approvals.c.id == approval_id,
            approvals.c.decided_at.is_(None),
            approvals.c.value_digest == digest,
        )
        .values(decision=clean_json(decision.model_dump(mode="json")), decided_by=by, decided_at=CLOCK)
        .returning(*COLUMNS)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _approval(row)


async def decided(
    connection: AsyncConnection, run_id: UUID, interrupt_ids: Sequence[str]
) -> dict[str, Decision]:
    """Return the decisions taken on these interrupts of a run."""
    query = select(approvals.c.interrupt_id, approvals.c.decision).where(
        approvals.c.run_id == run_id,
        approvals.c.interrupt_id.in_(interrupt_ids),
        approvals.c.decided_at.is_not(None),
    )
    rows = await connection.execute(query)
    return {row.interrupt_id: Decision.model_validate(row.decision) for row in rows}


async def open_of(connection: AsyncConnection, project_ids: Sequence[UUID]) -> list[Approval]:
    """Return the open approvals of projects, oldest first, those of ended runs left out."""
    query = (
        select(*COLUMNS)
        .join(runs, runs.c.id == approvals.c.run_id)
        .where(
            approvals.c.project_id.in_(project_ids),
            approvals.c.decided_at.is_(None),
            runs.c.status.in_(UNFINISHED),
        )
        .order_by(approvals.c.created_at, approvals.c.id)
    )
    return [_approval(row) for row in await connection.execute(query)]
