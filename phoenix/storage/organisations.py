"""Queries on organisations and on what their quotas count."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.organisation import Organisation
from phoenix.errors import NotFound, VersionConflict
from phoenix.storage.tables import model_calls, organisations, projects, runs

COLUMNS = [organisations.c[name] for name in Organisation.model_fields]
MIDNIGHT: ColumnElement[datetime] = literal_column(
    "date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
)
LEFT: ColumnElement[timedelta] = literal_column(f"{MIDNIGHT} + interval '1 day' - clock_timestamp()")
UNFINISHED = ("pending", "running", "waiting")


def _organisation(row: Row[tuple[object, ...]]) -> Organisation:
    return Organisation(**row._mapping)


async def get(connection: AsyncConnection, organisation_id: UUID) -> Organisation:
    """Return an organisation.

    Raises:
        NotFound: there is none of that id.
    """
    query = select(*COLUMNS).where(organisations.c.id == organisation_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no organisation {organisation_id}.")
    return _organisation(row)


async def change(
    connection: AsyncConnection, organisation_id: UUID, *, version: int | None = None, **values: object
) -> Organisation:
    """Change columns of an organisation and raise its version.

    Raises:
        VersionConflict: it is at another version than was expected.
    """
    where = [organisations.c.id == organisation_id]
    where += [organisations.c.version == version] if version is not None else []
    changed = update(organisations).where(*where).values(version=organisations.c.version + 1, **values)
    row = (await connection.execute(changed.returning(*COLUMNS))).one_or_none()
    if row is None:
        raise VersionConflict("The organisation has changed since it was read.", hint="Read it again.")
    return _organisation(row)


async def lock_quotas(
    connection: AsyncConnection, organisation_id: UUID
) -> tuple[int | None, Decimal | None] | None:
    """Let nobody else launch in an organisation until the transaction ends, and return its quotas.

    None where there are none, and then nothing is locked.
    """
    columns = organisations.c
    query = (
        select(columns.max_projects, columns.max_usd_day)
        .where(columns.id == organisation_id)
        .where(or_(columns.max_projects.is_not(None), columns.max_usd_day.is_not(None)))
        # Rows that refer to it are written meanwhile all the same.
        .with_for_update(key_share=True)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.max_projects, row.max_usd_day)


async def unfinished(connection: AsyncConnection, organisation_id: UUID) -> int:
    """Return how many projects of an organisation are unfinished."""
    query = select(func.count(func.distinct(runs.c.project_id))).where(
        runs.c.organisation_id == organisation_id,
        runs.c.parent_id.is_(None),
        runs.c.status.in_(UNFINISHED),
    )
    return int((await connection.execute(query)).scalar_one())


async def spent_today(connection: AsyncConnection, organisation_id: UUID) -> tuple[Decimal, timedelta]:
    """Return the USD of an organisation's model calls since midnight (UTC), and how long the day still is.

    Calls without a known price count nothing.
    """
    query = (
        select(
            func.coalesce(func.sum(model_calls.c.cost_usd), 0).label("cost"),
            LEFT.label("left"),
        )
        .join(projects, projects.c.id == model_calls.c.project_id)
        .where(projects.c.organisation_id == organisation_id, model_calls.c.at >= MIDNIGHT)
        .where(model_calls.c.recorded.is_(False))
    )
    row = (await connection.execute(query)).one()
    return Decimal(row.cost), row.left
