"""Queries on Procrastinate's tables that its own interface does not offer."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncConnection

SWEEP = 0x70686F656E697801
"""Advisory lock of the one sweep that may run at a time."""

_RETRY = text(
    "SELECT procrastinate_retry_job_v2(id, NULL, NULL, NULL, NULL) FROM procrastinate_jobs"
    " WHERE status = 'doing' AND lock = ANY(:locks)"
).bindparams(bindparam("locks", type_=ARRAY(TEXT)))

_STALLED = text(
    "SELECT j.lock FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id"
    " WHERE j.status = 'doing' AND j.lock IS NOT NULL AND NOT j.lock = ANY(:mine)"
    " AND (w.id IS NULL OR w.last_heartbeat < now() - make_interval(secs => :seconds))"
).bindparams(bindparam("mine", type_=ARRAY(TEXT)))

_LIVE = text(
    "SELECT id FROM procrastinate_jobs WHERE lock = ANY(:locks) AND status IN ('todo', 'doing')"
).bindparams(bindparam("locks", type_=ARRAY(TEXT)))


async def try_lock(connection: AsyncConnection, key: int) -> bool:
    """Take an advisory lock until the transaction ends, if nobody holds it."""
    query = text("SELECT pg_try_advisory_xact_lock(:key)")
    return bool((await connection.execute(query, {"key": key})).scalar_one())


async def stalled(connection: AsyncConnection, *, seconds: float, mine: Sequence[UUID]) -> list[UUID]:
    """Return runs whose job belongs to a worker that has not beaten for so long, or is gone.

    `mine` are left out: this process works on them, whatever the clock says after a suspend.
    """
    values = {"seconds": seconds, "mine": [str(run_id) for run_id in mine]}
    return [UUID(lock) for lock in (await connection.execute(_STALLED, values)).scalars()]


async def retry(connection: AsyncConnection, run_ids: Sequence[UUID]) -> None:
    """Put the jobs that dead workers hold for these runs back into the queue, freeing their locks."""
    await connection.execute(_RETRY, {"locks": [str(run_id) for run_id in run_ids]})


async def live(connection: AsyncConnection, run_ids: Sequence[UUID]) -> list[int]:
    """Return the ids of jobs of these runs that wait or are being done."""
    return list((await connection.execute(_LIVE, {"locks": [str(run_id) for run_id in run_ids]})).scalars())
