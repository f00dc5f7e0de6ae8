"""What past tasks of an organisation have cost, and what was expected of a project's."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.forecast import Forecast, Range
from phoenix.domain.run import Usage
from phoenix.storage.tables import approvals

PLAN = "plan"
"""The gate at which a forecast is shown."""
LATEST = 200
"""So many of the organisation's latest projects count."""

PAST = text(
    """
WITH mine AS (SELECT p.id, p.organisation_id, p.model FROM projects p WHERE p.id = :project),
others AS (
    SELECT p.id FROM projects p, mine
    WHERE p.organisation_id = mine.organisation_id AND p.model = mine.model AND p.id <> mine.id
    ORDER BY p.created_at DESC LIMIT :latest
), sizes AS (
    SELECT DISTINCT ON (a.project_id, t ->> 'id') a.project_id, t ->> 'id' AS task, t ->> 'size' AS size
    FROM artifacts a JOIN others o ON o.id = a.project_id,
        jsonb_array_elements(a.body -> 'tasks') AS t
    WHERE a.kind = 'Plan' AND NOT a.inherited
    ORDER BY a.project_id, t ->> 'id', a.stored_at DESC
), finished AS (
    SELECT s.*, sum(c.cost_usd) AS usd FROM sizes s
    JOIN model_calls c ON c.project_id = s.project_id AND split_part(c.task, '/', 1) = s.task
    WHERE NOT c.recorded AND EXISTS (
        SELECT FROM runs r WHERE r.project_id = s.project_id AND r.status = 'success'
            AND r.flow = 'task' AND split_part(r.key, '/', 3) = s.task
    )
    GROUP BY s.project_id, s.task, s.size HAVING count(c.cost_usd) = count(*)
)
SELECT size, count(*) AS tasks, percentile_disc(0.1) WITHIN GROUP (ORDER BY usd) AS low,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY usd) AS usd,
    percentile_disc(0.9) WITHIN GROUP (ORDER BY usd) AS high
FROM finished GROUP BY size
"""
)

TASKS = text(
    """
SELECT split_part(c.task, '/', 1) AS task, count(*) AS calls, sum(c.input_tokens) AS input_tokens,
    sum(c.output_tokens) AS output_tokens,
    CASE WHEN count(c.cost_usd) = count(*) THEN sum(c.cost_usd) END AS cost_usd
FROM model_calls c WHERE c.project_id = :project GROUP BY 1
"""
)


async def past(connection: AsyncConnection, project_id: UUID) -> dict[str, Range]:
    """Return by size what finished tasks of a project's organisation have cost with its model."""
    rows = await connection.execute(PAST, {"project": project_id, "latest": LATEST})
    return {r.size: Range(usd=r.usd, low=r.low, high=r.high, tasks=r.tasks) for r in rows}


async def of_project(connection: AsyncConnection, project_id: UUID) -> Forecast | None:
    """Return what was expected when people last decided on a project's plan; None where nothing was."""
    shown = approvals.c.request["notes"]["forecast"]
    query = (
        select(shown)
        .where(approvals.c.project_id == project_id, approvals.c.request["name"].astext == PLAN)
        .where(shown.is_not(None))
        .order_by(approvals.c.created_at.desc())
        .limit(1)
    )
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else Forecast.model_validate(found)


async def used_by_tasks(connection: AsyncConnection, project_id: UUID) -> dict[str, Usage]:
    """Return what each task of a project used; under an empty name what was for the whole project."""
    rows = await connection.execute(TASKS, {"project": project_id})
    return {
        r.task: Usage(
            calls=r.calls,
            input_tokens=r.input_tokens,
            output_tokens=r.output_tokens,
            cost_usd=r.cost_usd,
        )
        for r in rows
    }
