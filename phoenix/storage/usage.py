"""What model calls used."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.cleaning import clean_json
from phoenix.domain.run import ModelCall, Usage
from phoenix.storage.database import transaction
from phoenix.storage.tables import model_calls


class UsageRows:
    """The port `UsageLog` of one project, written by one of its runs."""

    def __init__(self, database: AsyncEngine, project_id: UUID, run_id: UUID) -> None:
        self._database = database
        self._project_id = project_id
        self._run_id = run_id

    async def add(self, call: ModelCall) -> None:
        """Record one answered call."""
        values = clean_json(call.model_dump(mode="json")) | {"cost_usd": call.cost_usd}
        async with transaction(self._database) as connection:
            await connection.execute(
                insert(model_calls).values(project_id=self._project_id, run_id=self._run_id, **values)
            )

    async def total(self) -> Usage:
        """Return the sum over the project; its cost is None when a call's price is unknown."""
        async with transaction(self._database) as connection:
            return (await totals(connection, [self._project_id]))[self._project_id]


async def totals(connection: AsyncConnection, project_ids: Sequence[UUID]) -> dict[UUID, Usage]:
    """Return the usage of each project."""
    calls = func.count()
    query = (
        select(
            model_calls.c.project_id,
            calls.label("calls"),
            func.sum(model_calls.c.input_tokens).label("input_tokens"),
            func.sum(model_calls.c.output_tokens).label("output_tokens"),
            func.sum(model_calls.c.cost_usd).label("cost_usd"),
            (func.count(model_calls.c.cost_usd) == calls).label("known"),
        )
        .where(model_calls.c.project_id.in_(project_ids))
        .group_by(model_calls.c.project_id)
    )
    found = {
        row.project_id: Usage(
            calls=row.calls,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cost_usd=row.cost_usd if row.known else None,
        )
        for row in await connection.execute(query)
    }
    return {project_id: found.get(project_id, Usage()) for project_id in project_ids}
