"""Queries on runs. A run's row is the truth about it.

Locks are taken in one order everywhere: children before parents, runs before the project's event counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.approval import HumanRequest
from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import Frozen
from phoenix.domain.run import Run, RunError
from phoenix.errors import NotFound
from phoenix.storage.tables import CLOCK, runs

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

    def waits_for(self, kind: str) -> bool:
        """Tell whether one of the pending interrupts is of this kind."""
        return any(i.request.kind == kind for i in self.interrupts)


def _run(row: Row[tuple[Any, ...]]) -> Run:
    return Run(**{name: row._mapping[name] for name in Run.model_fields})


async def add(
    connection: AsyncConnection, run: Run, *, flow_input: dict[str, Any], priority: int = 0
) -> bool:
    """Insert a run; return False when its parent already has one under its key."""
    row = run.model_dump(exclude={"error", "output"})
    row |= {"input": clean_json(flow_input), "priority": priority}
    stored = insert(runs).values(row).on_conflict_do_nothing(index_elements=["parent_id", "key"])
    return (await connection.execute(stored.returning(runs.c.id))).scalar_one_or_none() is not None


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
    """Return each project's own run."""
    query = select(*COLUMNS).where(runs.c.project_id.in_(project_ids), runs.c.parent_id.is_(None))
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
    """Lock all runs of a project, children first."""
    rows = await connection.execute(_locking(runs.c.project_id == project_id))
    return [_locked(row) for row in rows]


async def _set(connection: AsyncConnection, run_id: UUID, **values: Any) -> None:
    await connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


async def begin(connection: AsyncConnection, locked: LockedRun, *, worker: int) -> Run:
    """Take a locked run: raise its attempt, clear its wake flag, and return it as it is then."""
    values = {
        "status": "running",
        "attempt": runs.c.attempt + 1,
        "wake": False,
        "worker": worker,
        "error": None,
        "started_at": func.coalesce(runs.c.started_at, CLOCK),
    }
    query = update(runs).where(runs.c.id == locked.run.id).values(**values).returning(*COLUMNS)
    return _run((await connection.execute(query)).one())


async def go_on(connection: AsyncConnection, run_id: UUID) -> None:
    """Clear a running run's wake flag: it looks at what woke it now."""
    await _set(connection, run_id, wake=False)


async def wait(connection: AsyncConnection, run_id: UUID, interrupts: Sequence[PendingInterrupt]) -> None:
    """Let a run wait at interrupts."""
    pending = clean_json([i.model_dump(mode="json") for i in interrupts])
    await _set(connection, run_id, status="waiting", interrupts=pending, worker=None, wake=False)


async def finish(
    connection: AsyncConnection,
    run_id: UUID,
    status: str,
    *,
    output: dict[str, Any] | None = None,
    error: RunError | None = None,
) -> None:
    """End a run."""
    await _set(
        connection,
        run_id,
        status=status,
        output=None if output is None else clean_json(output),
        error=None if error is None else clean_json(error.model_dump(mode="json")),
        interrupts=[],
        wake=False,
        worker=None,
        finished_at=CLOCK,
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
    )


async def supersede(connection: AsyncConnection, run_id: UUID) -> None:
    """Raise a run's attempt, so that a worker which still runs it can write no more."""
    await _set(connection, run_id, attempt=runs.c.attempt + 1)


async def set_wake(connection: AsyncConnection, run_id: UUID) -> None:
    """Tell a run to look again before it waits on."""
    await _set(connection, run_id, wake=True)


async def workers(connection: AsyncConnection) -> list[int]:
    """Return the workers that runs say they are running on."""
    query = select(runs.c.worker).where(runs.c.status == "running", runs.c.worker.is_not(None)).distinct()
    return list((await connection.execute(query)).scalars())


async def leave_workers(connection: AsyncConnection, dead: Sequence[int]) -> list[UUID]:
    """Take their runs from dead workers and return those runs."""
    query = (
        update(runs)
        .where(runs.c.status == "running", runs.c.worker.in_(dead))
        .values(worker=None)
        .returning(runs.c.id)
    )
    return list((await connection.execute(query)).scalars())


async def leave(connection: AsyncConnection, run_ids: Sequence[UUID]) -> None:
    """Take runs from whichever workers they say they are running on."""
    await connection.execute(update(runs).where(runs.c.id.in_(run_ids)).values(worker=None))


@dataclass(frozen=True)
class IdleRun:
    """A run that should be worked on, as the queue needs it."""

    id: UUID
    flow: str
    priority: int


async def idle(connection: AsyncConnection) -> list[IdleRun]:
    """Return runs that should be worked on but have no live job."""
    due = or_(
        runs.c.status.in_(("pending", "running")), and_(runs.c.status == "waiting", runs.c.wake.is_(True))
    )
    no_job = text(
        "NOT EXISTS (SELECT FROM procrastinate_jobs j"
        " WHERE j.lock = runs.id::text AND j.status IN ('todo', 'doing'))"
    )
    query = select(runs.c.id, runs.c.flow, runs.c.priority).where(due, no_job).order_by(runs.c.ordinal)
    return [IdleRun(row.id, row.flow, row.priority) for row in await connection.execute(query)]
