"""Queries on Procrastinate's tables that its own interface does not offer."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncConnection

SWEEP = 0x70686F656E697801
"""Advisory lock of the one sweep that may run at a time."""

_TAKE_AWAY = text("DELETE FROM procrastinate_jobs WHERE status = 'doing' AND lock = ANY(:locks)").bindparams(
    bindparam("locks", type_=ARRAY(TEXT))
)

# Fetched by a worker that died before it took the run.
_ORPHANED = text(
    "DELETE FROM procrastinate_jobs WHERE id IN ("
    "SELECT j.id FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id"
    " WHERE j.status = 'doing' AND j.lock IS NOT NULL AND NOT j.lock = ANY(:mine)"
    " AND (w.id IS NULL OR w.last_heartbeat < now() - make_interval(secs => :seconds))"
    " AND NOT EXISTS (SELECT FROM runs r WHERE r.thread_id::text = j.lock AND r.worker IS NOT NULL)"
    " FOR UPDATE OF j SKIP LOCKED) RETURNING lock"
).bindparams(bindparam("mine", type_=ARRAY(TEXT)))

_LIVE = text(
    "SELECT id FROM procrastinate_jobs WHERE lock = ANY(:locks) AND status IN ('todo', 'doing')"
).bindparams(bindparam("locks", type_=ARRAY(TEXT)))


async def try_lock(connection: AsyncConnection, key: int) -> bool:
    """Take an advisory lock until the transaction ends, if nobody holds it."""
    query = text("SELECT pg_try_advisory_xact_lock(:key)")
    return bool((await connection.execute(query, {"key": key})).scalar_one())


async def drop_orphaned(connection: AsyncConnection, *, seconds: float, mine: Sequence[UUID]) -> list[UUID]:
    """Remove jobs in the hands of a worker that has not beaten for so long, or is gone; return their threads.

    Runs that a worker holds are left to those who judge workers, and `mine` to this process, whatever the
    clock says after a suspend.
    """
    values = {"seconds": seconds, "mine": [str(thread_id) for thread_id in mine]}
    return [UUID(lock) for lock in (await connection.execute(_ORPHANED, values)).scalars()]


async def take_away(connection: AsyncConnection, thread_ids: Sequence[UUID]) -> None:
    """Remove the jobs that lost workers do for these threads.

    They are not put back: a worker that wakes up could still finish, and so delete, its old job.
    """
    await connection.execute(_TAKE_AWAY, {"locks": [str(thread_id) for thread_id in thread_ids]})


async def live(connection: AsyncConnection, thread_ids: Sequence[UUID]) -> list[int]:
    """Return the ids of jobs of these threads that wait or are being done."""
    locks = [str(thread_id) for thread_id in thread_ids]
    return list((await connection.execute(_LIVE, {"locks": locks})).scalars())
