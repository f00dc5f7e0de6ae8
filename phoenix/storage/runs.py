"""Queries on runs. A run's row is the truth about it.

Locks are taken in one order everywhere: children before parents, runs before the project's event counter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.approval import HumanRequest
from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import Frozen
from phoenix.domain.run import Run
from phoenix.errors import NotFound
from phoenix.storage.places import Place
from phoenix.storage.tables import CLOCK, runs, threads
from phoenix.storage.tidiness import IDLE

COLUMNS = [runs.c[name] for name in Run.model_fields]
UNFINISHED = ("pending", "running", "waiting")


class PendingInterrupt(Frozen):
    """An interrupt that a run waits at."""

    id: str
    request: HumanRequest


@dataclass(frozen=True)
class LockedRun:
    """A run whose row this transaction holds, with what only the engine sees of it."""

    run: Run
    input: dict[str, Any]
    interrupts: list[PendingInterrupt]
    wake: bool
    priority: int
    worker: int | None
    admitted: bool

    def waits_for(self, kind: str) -> bool:
        """Tell whether one of the pending interrupts is of this kind."""
        return any(i.request.kind == kind for i in self.interrupts)


def _run(row: Row[tuple[Any, ...]]) -> Run:
    return Run(**{name: row._mapping[name] for name in Run.model_fields})


async def add(
    connection: AsyncConnection, run: Run, *, flow_input: dict[str, Any], priority: int = 0
) -> bool:
    """Insert a run; return False when its parent already has one under its key."""
    row = run.model_dump(exclude={"error", "output", "queued_at", "taken_at"})
    row |= {"input": clean_json(flow_input), "priority": priority, "metadata": clean_json(run.metadata)}
    if run.thread_id == run.id:
        await connection.execute(
            insert(threads).values(id=run.thread_id, project_id=run.project_id).on_conflict_do_nothing()
        )
    stored = insert(runs).values(row).on_conflict_do_nothing(index_elements=["parent_id", "key"])
    if (await connection.execute(stored.returning(runs.c.id))).scalar_one_or_none() is not None:
        return True
    await connection.execute(delete(threads).where(threads.c.id == run.id))
    return False


async def get(connection: AsyncConnection, run_id: UUID) -> Run:
    """Return a run.

    Raises:
        NotFound: there is none of that id.
    """
    row = (await connection.execute(select(*COLUMNS).where(runs.c.id == run_id))).one_or_none()
    if row is None:
        raise NotFound(f"There is no run {run_id}.")
    return _run(row)


async def of_projects(connection: AsyncConnection, project_ids: Sequence[UUID]) -> dict[UUID, Run]:
    """Return each project's own run: of those on its thread the latest that has begun or is next."""
    query = (
        select(*COLUMNS)
        .ext(distinct_on(runs.c.project_id))
        .where(runs.c.project_id.in_(project_ids), runs.c.parent_id.is_(None), runs.c.behind.is_(False))
        .order_by(runs.c.project_id, runs.c.ordinal.desc())
    )
    return {row.project_id: _run(row) for row in await connection.execute(query)}


async def children(connection: AsyncConnection, parent_id: UUID, *, prefix: str = "") -> list[Run]:
    """Return a run's children whose key starts so, in order of opening."""
    query = (
        select(*COLUMNS)
        .where(runs.c.parent_id == parent_id, runs.c.key.startswith(prefix, autoescape=True))
        .order_by(runs.c.ordinal)
    )
    return [_run(row) for row in await connection.execute(query)]


async def descendants(connection: AsyncConnection, project_id: UUID) -> list[Run]:
    """Return all runs of a project but its own, in order of opening."""
    query = (
        select(*COLUMNS)
        .where(runs.c.project_id == project_id, runs.c.parent_id.is_not(None))
        .order_by(runs.c.ordinal)
    )
    return [_run(row) for row in await connection.execute(query)]


def _locking(*where: Any) -> Select[Any]:
    # Children come later than their parents, so this order locks them first.
    return select(runs).where(*where).order_by(runs.c.ordinal.desc()).with_for_update()


def _locked(row: Row[Any]) -> LockedRun:
    return LockedRun(
        run=_run(row),
        input=row.input,
        interrupts=[PendingInterrupt.model_validate(i) for i in row.interrupts],
        wake=row.wake,
        priority=row.priority,
        worker=row.worker,
        admitted=row.admitted,
    )


async def lock(connection: AsyncConnection, run_id: UUID) -> LockedRun:
    """Lock a run's row until the transaction ends.

    Raises:
        NotFound: there is none of that id.
    """
    row = (await connection.execute(_locking(runs.c.id == run_id))).one_or_none()
    if row is None:
        raise NotFound(f"There is no run {run_id}.")
    return _locked(row)


async def lock_project(connection: AsyncConnection, project_id: UUID) -> list[LockedRun]:
    """Lock all runs of a project, children first, so that it opens no more of them.

    A child that its parent opened while this waited for the parent is in no snapshot yet: then all is
    let go and locked again, for children come before their parents.
    """
    count = select(func.count()).select_from(runs).where(runs.c.project_id == project_id)
    while True:
        attempt = await connection.begin_nested()
        rows = (await connection.execute(_locking(runs.c.project_id == project_id))).all()
        if (await connection.execute(count)).scalar_one() == len(rows):
            await attempt.commit()
            return [_locked(row) for row in rows]
        await attempt.rollback()


async def _set(connection: AsyncConnection, run_id: UUID, **values: Any) -> None:
    await connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


async def go_on(connection: AsyncConnection, run_id: UUID) -> None:
    """Clear a running run's wake flag: it looks at what woke it now."""
    await _set(connection, run_id, wake=False)


async def wait(
    connection: AsyncConnection,
    run_id: UUID,
    interrupts: Sequence[PendingInterrupt],
    *,
    resume_at: ColumnElement[datetime] | None = None,
) -> None:
    """Let a run wait at interrupts, and look again by itself at some moment."""
    pending = clean_json([i.model_dump(mode="json") for i in interrupts])
    await _set(
        connection,
        run_id,
        status="waiting",
        interrupts=pending,
        worker=None,
        wake=False,
        admitted=False,
        resume_at=resume_at,
    )


async def hand_back(connection: AsyncConnection, run_id: UUID) -> None:
    """Make a run ready for any worker, its failure forgotten; its attempt goes up."""
    await _set(
        connection,
        run_id,
        status="pending",
        attempt=runs.c.attempt + 1,
        error=None,
        finished_at=None,
        worker=None,
        admitted=False,
        queued_at=CLOCK,
    )


async def supersede(connection: AsyncConnection, run_id: UUID) -> None:
    """Raise a run's attempt, so that a worker which still runs it can write no more."""
    await _set(connection, run_id, attempt=runs.c.attempt + 1)


async def set_wake(connection: AsyncConnection, run_id: UUID) -> None:
    """Tell a run to look again before it waits on."""
    await _set(connection, run_id, wake=True, queued_at=CLOCK)


async def forgive(connection: AsyncConnection, run_id: UUID) -> None:
    """Forget how often workers died with a run in hand."""
    await _set(connection, run_id, crashes=0, forgiven_at=CLOCK)


async def set_paused(connection: AsyncConnection, project_id: UUID, *, paused: bool) -> None:
    """Pause all unfinished runs of a project, or let them go on."""
    where = (runs.c.project_id == project_id, runs.c.status.in_(UNFINISHED))
    await connection.execute(update(runs).where(*where).values(paused=paused))


async def idle(connection: AsyncConnection) -> list[Place]:
    """Return runs that have a place but no live job, though one should be: their job was lost."""
    query = text(f"SELECT r.id, r.thread_id, r.queue, r.tag FROM runs r WHERE {IDLE} ORDER BY r.ordinal")  # noqa: S608  # nosec B608
    return [Place(row.id, row.thread_id, row.queue, row.tag) for row in await connection.execute(query)]


async def threads_of(connection: AsyncConnection, run_ids: Collection[UUID]) -> list[UUID]:
    """Return the threads of runs."""
    return list((await connection.execute(select(runs.c.thread_id).where(runs.c.id.in_(run_ids)))).scalars())


async def of_thread(connection: AsyncConnection, thread_id: UUID) -> list[LockedRun]:
    """Return the unfinished runs of a thread, locked, the present one first."""
    query = _locking(runs.c.thread_id == thread_id, runs.c.status.in_(UNFINISHED))
    rows = (await connection.execute(query)).all()
    return [_locked(row) for row in reversed(rows)]


async def set_base(connection: AsyncConnection, run_id: UUID, checkpoint_id: str) -> None:
    """Store the thread's checkpoint that a run began from."""
    await _set(connection, run_id, base_checkpoint=checkpoint_id)


async def remove(connection: AsyncConnection, run_id: UUID) -> None:
    """Delete a run with its children, approvals and usage."""
    await connection.execute(delete(runs).where(runs.c.id == run_id))


async def open_descendants(connection: AsyncConnection, run_id: UUID) -> list[LockedRun]:
    """Return the unfinished runs below a run, locked, children first."""
    below = select(runs.c.id, runs.c.ordinal).where(runs.c.parent_id == run_id).cte("below", recursive=True)
    child = runs.alias("child")
    below = below.union_all(select(child.c.id, child.c.ordinal).where(child.c.parent_id == below.c.id))
    where = (runs.c.id.in_(select(below.c.id)), runs.c.status.in_(UNFINISHED))
    return [_locked(row) for row in await connection.execute(_locking(*where))]
