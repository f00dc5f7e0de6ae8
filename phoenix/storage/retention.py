"""Queries that find and remove what a finished project no longer needs. Times are the database's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    TEXT,
    BigInteger,
    FromClause,
    Select,
    Uuid,
    bindparam,
    column,
    delete,
    func,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from phoenix.storage import events, runs
from phoenix.storage.tables import outbox

BY_RUN: tuple[tuple[str, str], ...] = (("model_journal", "run_id"),)
"""Tables whose rows go with a project's checkpoints: each with its column that names the run."""

BATCH = 1000
"""Rows that one statement deletes: it holds no lock for long, and vacuum keeps up."""

_DUE = text(
    "SELECT p.id, p.title, r.finished_at FROM projects p"
    " JOIN runs r ON r.project_id = p.id AND r.parent_id IS NULL"
    " WHERE p.pruned_at IS NULL AND r.finished_at < clock_timestamp() - make_interval(secs => :seconds)"
    " AND (CAST(:project AS uuid) IS NULL OR p.id = :project)"
    " AND (CAST(:organisation AS uuid) IS NULL OR p.organisation_id = :organisation)"
    " AND NOT EXISTS (SELECT FROM runs o WHERE o.project_id = p.id"
    " AND (o.status IN ('pending', 'running', 'waiting')"
    # Of its own thread the run that ended last says when the project ended.
    " OR (o.parent_id IS NULL AND (o.finished_at, o.ordinal) > (r.finished_at, r.ordinal))))"
    " ORDER BY r.finished_at LIMIT :limit"
)
_RETIRE = text("UPDATE projects SET retired_at = coalesce(retired_at, clock_timestamp()) WHERE id = :project")
_RETIRED_AT = text("SELECT retired_at FROM projects WHERE id = :project FOR NO KEY UPDATE")
# A project that can still be resumed may ask for its effects again: their rows say that they are done.
_EFFECTS = text(
    "SELECT o.id FROM outbox o JOIN projects p ON p.id = o.project_id WHERE o.status IN ('done', 'failed')"
    " AND p.pruned_at IS NOT NULL AND o.updated_at < clock_timestamp() - make_interval(secs => :seconds)"
    " LIMIT :limit"
)
_THREAD_TABLES = text(
    "SELECT table_name FROM information_schema.columns WHERE table_schema = current_schema()"
    " AND column_name = 'thread_id' AND table_name LIKE 'checkpoint%' ORDER BY table_name"
)
_ENDED_JOBS = text(
    "SELECT j.id FROM procrastinate_jobs j"
    " WHERE (j.status IN ('succeeded', 'failed', 'cancelled', 'aborted')"
    " AND NOT EXISTS (SELECT FROM procrastinate_events e WHERE e.job_id = j.id"
    " AND e.at > now() - make_interval(secs => :seconds)))"
    # A job without a lock belongs to no run: the sweep, which takes jobs from dead workers, leaves it.
    " OR (j.status = 'doing' AND j.lock IS NULL AND j.worker_id IS NULL) LIMIT :limit"
)
_DELETE_JOBS = text("DELETE FROM procrastinate_jobs WHERE id = ANY(:ids)").bindparams(
    bindparam("ids", type_=ARRAY(BigInteger))
)


@dataclass(frozen=True)
class DueProject:
    """A finished project whose time is over."""

    id: UUID
    title: str
    finished_at: datetime


@dataclass(frozen=True)
class Held:
    """A run, and the thread that holds its checkpoints."""

    id: UUID
    thread_id: UUID


async def due(
    connection: AsyncConnection,
    *,
    seconds: float,
    limit: int = 1,
    project_id: UUID | None = None,
    organisation_id: UUID | None = None,
) -> list[DueProject]:
    """Return projects that ended so long ago and still have all, or some, of their inner state.

    Args:
        connection: The transaction.
        seconds: How long ago.
        limit: The most that are returned, the oldest first.
        project_id: Only this one.
        organisation_id: Only those of this organisation.
    """
    values = {
        "seconds": seconds,
        "limit": limit,
        "project": project_id,
        "organisation": organisation_id,
    }
    rows = await connection.execute(_DUE, values)
    return [DueProject(row.id, row.title, row.finished_at) for row in rows]


async def retire(connection: AsyncConnection, project_id: UUID, *, seconds: float) -> list[Held]:
    """Let nobody resume a project from now on and return its runs; none when its time is not over."""
    locked = await runs.lock_project(connection, project_id)
    attempt = await connection.begin_nested()
    await retire_now(connection, project_id)
    # Only now nobody can start another run: whoever does holds the project's row.
    if not await due(connection, seconds=seconds, project_id=project_id):
        await attempt.rollback()
        return []
    await attempt.commit()
    return [Held(found.run.id, found.run.thread_id) for found in locked]


async def retire_now(connection: AsyncConnection, project_id: UUID) -> None:
    """Let nobody resume a project from now on, whatever its age. The caller holds its runs."""
    await connection.execute(_RETIRE, {"project": project_id})


async def retired_at(connection: AsyncConnection, project_id: UUID) -> datetime | None:
    """Return since when a project cannot be resumed; until the transaction ends that does not change."""
    row = await connection.execute(_RETIRED_AT, {"project": project_id})
    found: datetime | None = row.scalar_one_or_none()
    return found


async def pruned(connection: AsyncConnection, project_id: UUID, *, freed_bytes: int) -> None:
    """Note that all that goes of a project is gone."""
    query = text(
        "UPDATE projects SET pruned_at = clock_timestamp() WHERE id = :project AND pruned_at IS NULL"
        " RETURNING id"
    )
    if (await connection.execute(query, {"project": project_id})).scalar_one_or_none() is not None:
        await events.append(connection, project_id, "project_pruned", {"bytes": freed_bytes})


async def held(connection: AsyncConnection, project_id: UUID) -> list[Held]:
    """Return all runs of a project."""
    query = text("SELECT id, thread_id FROM runs WHERE project_id = :project ORDER BY ordinal")
    rows = await connection.execute(query, {"project": project_id})
    return [Held(row.id, row.thread_id) for row in rows]


def _rows(name: str, by: str, kind: TypeEngine[Any]) -> FromClause:
    return table(name, column(by, kind)).alias("t")


async def inner_bytes(connection: AsyncConnection, found: Sequence[Held]) -> int:
    """Return about how much space the checkpoints and journals of some runs take."""
    names = (await connection.execute(_THREAD_TABLES)).scalars()
    size = func.coalesce(func.sum(func.pg_column_size(literal_column("t.*"))), 0)
    # Threads are texts to the checkpointer.
    threads, run_ids = [str(run.thread_id) for run in found], [run.id for run in found]
    places: list[tuple[FromClause, Sequence[Any]]] = [
        *((_rows(str(name), "thread_id", TEXT()), threads) for name in names),
        *((_rows(name, by, Uuid()), run_ids) for name, by in BY_RUN),
    ]
    total = 0
    for rows, ids in places:
        query = select(size).select_from(rows).where(rows.c[0].in_(ids))
        total += int((await connection.execute(query)).scalar_one())
    return total


async def delete_by_run(connection: AsyncConnection, run_ids: Sequence[UUID]) -> int:
    """Delete one batch of rows that go with these runs and return how many; 0 when none is left."""
    for name, by in BY_RUN:
        rows = _rows(name, by, Uuid())
        inner: Select[Any] = select(literal_column("t.ctid")).select_from(rows)
        places = inner.where(rows.c[0].in_(run_ids))
        batch = delete(table(name)).where(literal_column("ctid").in_(places.limit(BATCH)))
        count = (await connection.execute(batch)).rowcount
        if count:
            return count
    return 0


async def ended_effects(connection: AsyncConnection, *, seconds: float, limit: int = BATCH) -> list[UUID]:
    """Return effects of pruned projects that were done, or given up, so long ago."""
    values = {"seconds": seconds, "limit": limit}
    return list((await connection.execute(_EFFECTS, values)).scalars())


async def delete_effects(connection: AsyncConnection, ids: Sequence[UUID]) -> None:
    """Delete effects."""
    await connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))


async def ended_jobs(connection: AsyncConnection, *, seconds: float, limit: int = BATCH) -> list[int]:
    """Return jobs that ended so long ago, or were left by a dead worker and belong to no run."""
    values = {"seconds": seconds, "limit": limit}
    return list((await connection.execute(_ENDED_JOBS, values)).scalars())


async def delete_jobs(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """Delete jobs."""
    await connection.execute(_DELETE_JOBS, {"ids": list(ids)})


async def delete_project(connection: AsyncConnection, project_id: UUID) -> None:
    """Delete a project's rows, all that refer to it included."""
    await connection.execute(text("DELETE FROM projects WHERE id = :project"), {"project": project_id})
