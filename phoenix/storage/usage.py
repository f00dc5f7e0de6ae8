"""What model calls used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Text, cast, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import Frozen
from phoenix.domain.organisation import UsageBy, UsageLine
from phoenix.domain.run import ModelCall, Usage
from phoenix.storage.database import transaction
from phoenix.storage.tables import model_calls, projects


class UsageRows:
    """The port `UsageLog` of one project, written by one of its runs."""

    def __init__(self, database: AsyncEngine, project_id: UUID, run_id: UUID) -> None:
        self._database = database
        self._project_id = project_id
        self._run_id = run_id

    async def add(self, call: ModelCall) -> None:
        """Record one answered call."""
        async with transaction(self._database) as connection:
            await count(connection, self._project_id, self._run_id, call)

    async def total(self) -> Usage:
        """Return the sum over the project; its cost is None when a call's price is unknown."""
        async with transaction(self._database) as connection:
            return (await totals(connection, [self._project_id]))[self._project_id]


async def count(connection: AsyncConnection, project_id: UUID, run_id: UUID, call: ModelCall) -> None:
    """Count one answered call."""
    values = clean_json(call.model_dump(mode="json")) | {"cost_usd": call.cost_usd}
    await connection.execute(insert(model_calls).values(project_id=project_id, run_id=run_id, **values))


async def totals(connection: AsyncConnection, project_ids: Sequence[UUID]) -> dict[UUID, Usage]:
    """Return the usage of each project."""
    calls = func.count()
    query = (
        select(
            model_calls.c.project_id,
            calls.label("calls"),
            func.sum(model_calls.c.input_tokens).label("input_tokens"),
            func.sum(model_calls.c.output_tokens).label("output_tokens"),
            func.sum(model_calls.c.cached_tokens).label("cached_tokens"),
            func.sum(model_calls.c.cost_usd).label("cost_usd"),
            (func.count(model_calls.c.cost_usd) == calls).label("known"),
        )
        .where(model_calls.c.project_id.in_(project_ids))
        .group_by(model_calls.c.project_id)
    )
    found = {row.project_id: _used(row) for row in await connection.execute(query)}
    return {project_id: found.get(project_id, Usage()) for project_id in project_ids}


_KEYS: Mapping[UsageBy, ColumnElement[str]] = {
    "project": cast(model_calls.c.project_id, Text),
    "agent": model_calls.c.agent,
    "model": model_calls.c.model,
    # Of the whole project: no task's.
    "task": func.coalesce(func.nullif(func.split_part(model_calls.c.task, "/", 1), ""), "-"),
    "day": func.to_char(func.timezone("UTC", model_calls.c.at), "YYYY-MM-DD"),
}


async def lines(
    connection: AsyncConnection,
    organisation_id: UUID,
    by: UsageBy,
    *,
    only: Sequence[UUID] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: str = "",
    limit: int = 100,
) -> list[UsageLine]:
    """Return the usage of an organisation, ordered by key.

    Args:
        connection: The transaction.
        organisation_id: Whose.
        by: What the keys are.
        only: These projects and no others; None for all.
        since: Calls from then on.
        until: Calls before then.
        after: Only keys after this one.
        limit: The most that are returned.
    """
    calls, key = func.count(), _KEYS[by].label("key")
    query = (
        select(
            key,
            calls.label("calls"),
            func.sum(model_calls.c.input_tokens).label("input_tokens"),
            func.sum(model_calls.c.output_tokens).label("output_tokens"),
            func.sum(model_calls.c.cached_tokens).label("cached_tokens"),
            func.sum(model_calls.c.cost_usd).label("cost_usd"),
            (func.count(model_calls.c.cost_usd) == calls).label("known"),
        )
        .join(projects, projects.c.id == model_calls.c.project_id)
        .where(projects.c.organisation_id == organisation_id, _KEYS[by] > after)
    )
    if only is not None:
        query = query.where(model_calls.c.project_id.in_(only))
    if since is not None:
        query = query.where(model_calls.c.at >= since)
    if until is not None:
        query = query.where(model_calls.c.at < until)
    rows = await connection.execute(query.group_by(key).order_by(key).limit(limit))
    return [UsageLine(key=row.key, usage=_used(row)) for row in rows]


def _used(row: Row[Any]) -> Usage:
    return Usage(
        calls=row.calls,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=row.cost_usd if row.known else None,
        cached_tokens=row.cached_tokens,
    )


class Share(Frozen):
    """What one agent used of one model. Cost is USD, None when a call's price is unknown."""

    agent: str
    model: str
    usage: Usage


async def shares(connection: AsyncConnection, project_id: UUID) -> list[Share]:
    """Return the usage of a project by agent and model, the dearest first."""
    calls = func.count()
    cost = func.sum(model_calls.c.cost_usd)
    query = (
        select(
            model_calls.c.agent,
            model_calls.c.model,
            calls.label("calls"),
            func.sum(model_calls.c.input_tokens).label("input_tokens"),
            func.sum(model_calls.c.output_tokens).label("output_tokens"),
            func.sum(model_calls.c.cached_tokens).label("cached_tokens"),
            cost.label("cost_usd"),
            (func.count(model_calls.c.cost_usd) == calls).label("known"),
        )
        .where(model_calls.c.project_id == project_id)
        .group_by(model_calls.c.agent, model_calls.c.model)
        .order_by(cost.desc().nulls_last(), model_calls.c.agent, model_calls.c.model)
    )
    return [
        Share(
            agent=row.agent,
            model=row.model,
            usage=_used(row),
        )
        for row in await connection.execute(query)
    ]
