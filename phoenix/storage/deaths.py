"""Queries on workers that died: which runs they took with them, and what that says of each run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

SUSPECT = 2
"""A run with so many crashes is a suspect: a worker has one at a time (`phoenix_take_v2`)."""
DAY_SECONDS = 86_400.0
KEPT_DAYS = 30
"""For so long deaths are remembered."""


@dataclass(frozen=True)
class Blame:
    """What is known of a run that was in hand at a worker's death.

    Args:
        crashes: Deaths in a row with the run in hand, at the same place.
        elsewhere: Deaths of workers that did not have it, since the first of those.
        day: Deaths with it in hand within a day, at whatever place, since it was last released.
    """

    crashes: int
    elsewhere: int
    day: int


_RECORD = text(
    """
INSERT INTO worker_deaths (worker, host, version, runs)
SELECT k.key, coalesce(w.host, ''), coalesce(w.version, ''),
    ARRAY(SELECT r.id FROM runs r WHERE r.worker = k.key AND r.status = 'running' AND r.id = ANY(:runs))
FROM unnest(:keys) AS k (key) LEFT JOIN workers w ON w.key = k.key
ON CONFLICT (worker) DO UPDATE SET runs = worker_deaths.runs || excluded.runs, at = clock_timestamp()
"""
).bindparams(bindparam("keys", type_=ARRAY(BigInteger)))

_FORGET = text(
    "DELETE FROM worker_deaths WHERE at < clock_timestamp() - make_interval(days => :days)"
).bindparams(days=KEPT_DAYS)

_BLAME = text(
    """
WITH mine AS (SELECT id, crashes, coalesce(forgiven_at, '-infinity') AS forgiven FROM runs WHERE id = :run),
own AS (
    SELECT d.at FROM worker_deaths d, mine WHERE mine.id = ANY(d.runs) AND d.at > mine.forgiven
),
begun AS (SELECT min(at) AS at FROM (
    SELECT own.at FROM own ORDER BY own.at DESC LIMIT (SELECT crashes FROM mine)
) AS last)
SELECT mine.crashes,
    (SELECT count(*) FROM worker_deaths d, begun
        WHERE d.at >= begun.at AND NOT mine.id = ANY(d.runs)) AS elsewhere,
    (SELECT count(*) FROM own WHERE own.at > clock_timestamp() - make_interval(secs => :day)) AS day
FROM mine
"""
).bindparams(day=DAY_SECONDS)

_RETRACT = text("DELETE FROM worker_deaths WHERE worker = :key RETURNING runs")
_ACQUIT = text(
    "UPDATE runs SET crashes = crashes - 1 WHERE id = ANY(:runs) AND crashes > 0"
    " AND status IN ('pending', 'running', 'waiting')"
)
_CLEAR = text(
    "UPDATE runs SET crashes = 0 WHERE id = ANY(:runs) AND worker = :key AND crashes > 0"
    " AND crash_mark IS DISTINCT FROM phoenix_progress_v1(runs) RETURNING id"
)


async def record(connection: AsyncConnection, keys: Collection[int], run_ids: Collection[UUID]) -> None:
    """Remember that these workers died, with which of these runs in hand."""
    await connection.execute(_RECORD, {"keys": list(keys), "runs": list(run_ids)})
    await connection.execute(_FORGET)


async def blame(connection: AsyncConnection, run_id: UUID) -> Blame:
    """Return what deaths say of a run."""
    row = (await connection.execute(_BLAME, {"run": run_id})).one()
    return Blame(row.crashes, row.elsewhere, row.day)


async def retract(connection: AsyncConnection, key: int) -> list[UUID]:
    """Take back a worker's death, which lives: it is no crash of the runs that it had. Return those."""
    found = (await connection.execute(_RETRACT, {"key": key})).scalar_one_or_none()
    if not found:
        return []
    await connection.execute(_ACQUIT, {"runs": found})
    return list(found)


async def clear(connection: AsyncConnection, key: int, run_ids: Collection[UUID]) -> list[UUID]:
    """Suspect no longer those runs in a worker's hands that got on since the last crash; return them."""
    found = await connection.execute(_CLEAR, {"key": key, "runs": list(run_ids)})
    return list(found.scalars())
