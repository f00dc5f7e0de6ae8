"""Queries on what came of work, by the version of Phoenix that did it."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.upgrade import Outcomes

_OUTCOMES = text(
    """
SELECT version, sum(succeeded)::int AS succeeded, sum(failed)::int AS failed,
    sum(quarantined)::int AS quarantined, sum(deaths)::int AS deaths
FROM (
    SELECT version, count(*) FILTER (WHERE status = 'success') AS succeeded,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'failed' AND error ->> 'code' = 'run_quarantined') AS quarantined,
        0 AS deaths
    FROM runs
    WHERE version IS NOT NULL AND finished_at IS NOT NULL
        AND finished_at > clock_timestamp() - make_interval(secs => :seconds)
    GROUP BY version
    UNION ALL
    SELECT version, 0, 0, 0, count(*) FROM worker_deaths
    WHERE version <> '' AND at > clock_timestamp() - make_interval(secs => :seconds)
    GROUP BY version
) AS found GROUP BY version
"""
)


async def outcomes(connection: AsyncConnection, *, seconds: float) -> dict[str, Outcomes]:
    """Return what came of work within so many seconds, by version: of the worker that took a run last."""
    rows = (await connection.execute(_OUTCOMES, {"seconds": seconds})).all()
    return {
        row.version: Outcomes(
            succeeded=row.succeeded, failed=row.failed, quarantined=row.quarantined, deaths=row.deaths
        )
        for row in rows
    }
