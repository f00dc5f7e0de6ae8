"""Queries on what was recalled, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.memory import LEAST_SHARE, TRIALS_BEFORE_SINKING, ProjectOutcome
from phoenix.domain.memory_report import Measured
from phoenix.storage.tables import CLOCK
from phoenix.storage.tables_memory import memories, memory_outcomes, memory_recalls

EXPIRES_AFTER = text("interval '30 days'")
"""An item that does not help may still be looked at for so long."""


async def note_recalled(
    connection: AsyncConnection, organisation_id: UUID, project_id: UUID, ids: Collection[UUID], *, task: str
) -> None:
    """Note that agents of a project, or of one task of it, have seen items. Idempotent."""
    if not ids:
        return
    rows = [
        {"organisation_id": organisation_id, "project_id": project_id, "memory_id": i, "tasks": [task]}
        for i in ids
    ]
    noted = upsert(memory_recalls).values(rows)
    added = case(
        (memory_recalls.c.tasks.any_() == task, memory_recalls.c.tasks),
        else_=func.array_append(memory_recalls.c.tasks, task),
    )
    await connection.execute(
        noted.on_conflict_do_update(index_elements=["project_id", "memory_id"], set_={"tasks": added})
    )
    await connection.execute(update(memories).where(memories.c.id.in_(ids)).values(recalled_at=CLOCK))


async def settle(
    connection: AsyncConnection,
    organisation_id: UUID,
    project_id: UUID,
    outcome: ProjectOutcome,
    *,
    held_out: bool,
) -> bool:
    """Note how a project went, and credit or debit what it saw; False where that was done before."""
    seen = select(memory_recalls.c.memory_id, memory_recalls.c.tasks)
    rows = (await connection.execute(seen.where(memory_recalls.c.project_id == project_id))).all()
    noted = upsert(memory_outcomes).values(
        project_id=project_id,
        organisation_id=organisation_id,
        held_out=held_out,
        recalled=len(rows),
        tasks=len(outcome.tasks),
        first_try=sum(t.first_try for t in outcome.tasks),
        calls=outcome.calls,
        cost_usd=outcome.cost_usd,
    )
    unless = noted.on_conflict_do_nothing(index_elements=["project_id"])
    if (await connection.execute(unless.returning(memory_outcomes.c.project_id))).first() is None:
        return False
    well = {row.memory_id for row in rows if outcome.went_well(row.tasks)}
    await _credit(connection, project_id, sorted(well), helped=True)
    await _credit(connection, project_id, sorted({row.memory_id for row in rows} - well), helped=False)
    return True


async def _credit(
    connection: AsyncConnection, project_id: UUID, ids: Sequence[UUID], *, helped: bool
) -> None:
    if not ids:
        return
    of_project = (memory_recalls.c.project_id == project_id, memory_recalls.c.memory_id.in_(ids))
    await connection.execute(update(memory_recalls).where(*of_project).values(helped=helped))
    good = memories.c.helped + int(helped)
    trials = memories.c.helped + memories.c.failed + 1
    sinks = (trials >= TRIALS_BEFORE_SINKING) & (good < LEAST_SHARE * trials)
    await connection.execute(
        update(memories)
        .where(memories.c.id.in_(ids))
        .values(
            helped=good,
            failed=trials - good,
            expires_at=case((sinks, func.coalesce(memories.c.expires_at, CLOCK + EXPIRES_AFTER)), else_=None),
        )
    )


async def measured(
    connection: AsyncConnection, organisation_id: UUID, *, limit: int = 10_000
) -> list[Measured]:
    """Return how the last delivered projects of an organisation went, newest first."""
    query = (
        select(*(memory_outcomes.c[name] for name in Measured.model_fields))
        .where(memory_outcomes.c.organisation_id == organisation_id)
        .order_by(memory_outcomes.c.at.desc())
        .limit(limit)
    )
    return [Measured(**row._mapping) for row in await connection.execute(query)]
