"""Queries on workers: who lives, how busy, and who has died."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, extract, func, literal_column, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.worker import Standing, Worker
from phoenix.storage.jobs import try_lock
from phoenix.storage.tables import CLOCK, runs, workers

COLUMNS = [workers.c[name] for name in Worker.model_fields if name != "heartbeat_age_seconds"]

# Runs in a thread of its own, over psycopg: `%(name)s` are its parameters.
BEAT = """
INSERT INTO workers (key, host, pid, version, queues, concurrency, running, state, reason)
VALUES (%(key)s, %(host)s, %(pid)s, %(version)s, %(queues)s, %(concurrency)s, %(running)s, %(state)s,
    %(reason)s)
ON CONFLICT (key) DO UPDATE SET queues = excluded.queues, running = excluded.running, state = excluded.state,
    reason = excluded.reason, heartbeat_at = clock_timestamp()
"""
BEAT_LIBRARY = "UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = %(worker_id)s"
LOCK = "SELECT pg_try_advisory_lock(%(key)s)"
LEAVE = "DELETE FROM workers WHERE key = %(key)s"


@dataclass(frozen=True)
class Lost:
    """A worker that works no more. `crashed`: its process died, and not while it stopped."""

    key: int
    crashed: bool


def _age() -> ColumnElement[Any]:
    return extract("epoch", CLOCK - workers.c.heartbeat_at)


async def all_of(connection: AsyncConnection) -> list[Worker]:
    """Return the workers that are known, oldest first."""
    query = select(*COLUMNS, _age().label("heartbeat_age_seconds")).order_by(
        workers.c.started_at, workers.c.key
    )
    return [Worker.model_validate(dict(row._mapping)) for row in await connection.execute(query)]


async def lost(
    connection: AsyncConnection, me: int, *, dead_seconds: float, stale_seconds: float
) -> list[Lost]:
    """Return workers that hold runs, or a row, and work no more.

    Args:
        connection: Within a transaction, to whose end the locks of dead workers are taken.
        me: The caller's key.
        dead_seconds: How old the last heartbeat of a worker without a session must be.
        stale_seconds: How old the last heartbeat of a worker with a session must be.
    """
    holding = select(runs.c.worker.label("key")).where(runs.c.worker.is_not(None)).distinct().subquery()
    query = (
        select(func.coalesce(workers.c.key, holding.c.key), workers.c.state, _age())
        .select_from(workers.outerjoin(holding, holding.c.key == workers.c.key, full=True))
        .where(
            func.coalesce(workers.c.key, holding.c.key) != me,
            func.coalesce(_age() > dead_seconds, true()),
        )
    )
    found = []
    for key, state, age in (await connection.execute(query)).all():
        if await try_lock(connection, key):
            found.append(Lost(key, crashed=state in (None, "active", "paused")))
        elif age is not None and age > stale_seconds:
            found.append(Lost(key, crashed=False))
    return found


async def forget(connection: AsyncConnection, keys: Collection[int], *, seconds: float) -> None:
    """Remove the rows of these workers, if their last heartbeat is so old."""
    await connection.execute(delete(workers).where(workers.c.key.in_(keys), _age() > seconds))


async def took(connection: AsyncConnection, keys: Collection[int]) -> list[UUID]:
    """Return the runs that these workers hold, locked, children first, but for those that others lock."""
    query = (
        select(runs.c.id)
        .where(runs.c.worker.in_(keys), runs.c.status == "running")
        .order_by(runs.c.ordinal.desc())
        .with_for_update(skip_locked=True)
    )
    return list((await connection.execute(query)).scalars())


PROGRESS = "phoenix_progress_v1(runs)"
"""How far a run is: every checkpoint changes it, those of its agents too, and every answer of a model."""


async def leave(connection: AsyncConnection, run_ids: Collection[UUID], *, crashed: bool = False) -> None:
    """Take runs from whichever workers they say they are running on; count the crash where it was one.

    Only crashes at the same place add up: a run that gets on between them is not what kills its workers.
    """
    query = update(runs).where(runs.c.id.in_(run_ids)).values(worker=None)
    if crashed:
        mark: ColumnElement[str] = literal_column(PROGRESS)
        again = case((runs.c.crash_mark == mark, runs.c.crashes + 1), else_=1)
        query = query.values(crashes=again, crash_mark=mark)
    await connection.execute(query)


async def leave_forgotten(connection: AsyncConnection, key: int, *, in_hand: Container[UUID]) -> list[UUID]:
    """Take from a living worker the runs that it does not work on any more, as after a lost database.

    `in_hand` is looked at after the rows: a run gets into it before its row says whose it is.
    """
    held = select(runs.c.id, runs.c.attempt).where(runs.c.worker == key, runs.c.status == "running")
    forgotten = [row for row in await connection.execute(held) if row.id not in in_hand]
    left: list[UUID] = []
    for row in forgotten:
        taken = (runs.c.id == row.id, runs.c.attempt == row.attempt, runs.c.status == "running")
        query = update(runs).where(*taken).values(worker=None).returning(runs.c.id)
        left += (await connection.execute(query)).scalars()
    return left


@dataclass(frozen=True)
class Seen:
    """What a run's row says to the worker that has it in hand."""

    id: UUID
    attempt: int
    paused: bool


async def look(connection: AsyncConnection, run_ids: Collection[UUID]) -> list[Seen]:
    """Return how the rows of runs stand."""
    query = select(runs.c.id, runs.c.attempt, runs.c.paused).where(runs.c.id.in_(run_ids))
    return [Seen(row.id, row.attempt, row.paused) for row in await connection.execute(query)]


async def started_seconds(connection: AsyncConnection) -> float:
    """Return for how long the database server runs."""
    query = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
    return float((await connection.execute(query)).scalar_one())


ALIVE_SECONDS = 6.0
PATIENT_SECONDS = 5.0
"""A run may be due for so long without a worker before that is told."""

_STANDING = text(
    "SELECT (SELECT count(*) FROM workers WHERE heartbeat_at > clock_timestamp()"
    " - make_interval(secs => :alive) AND state = 'active') AS workers,"
    " count(*) AS due,"
    " coalesce(extract(epoch FROM clock_timestamp() - min(queued_at)), 0) AS oldest"
    " FROM runs WHERE status = 'pending' AND NOT paused AND NOT behind"
)


async def standing(connection: AsyncConnection) -> Standing:
    """Return how work goes on."""
    row = (await connection.execute(_STANDING, {"alive": ALIVE_SECONDS})).one()
    oldest = round(float(row.oldest), 3)
    return Standing(
        workers=row.workers,
        due=row.due,
        oldest_due_seconds=oldest,
        is_progressing=row.workers > 0 or oldest < PATIENT_SECONDS,
    )
