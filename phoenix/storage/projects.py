"""Queries on projects."""

from __future__ import annotations

import re
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Row, Text, cast, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.run import Project
from phoenix.errors import NotFound
from phoenix.storage.tables import projects

COLUMNS = [c for c in projects.c if c.name != "last_event"]


def _project(row: Row[tuple[object, ...]]) -> Project:
    return Project(**row._mapping)


async def add(connection: AsyncConnection, project: Project) -> None:
    """Insert a project."""
    await connection.execute(insert(projects).values(project.model_dump()))


async def get(connection: AsyncConnection, project_id: UUID) -> Project:
    """Return a project.

    Raises:
        NotFound: there is none of that id.
    """
    row = (await connection.execute(select(*COLUMNS).where(projects.c.id == project_id))).one_or_none()
    if row is None:
        raise NotFound(f"There is no project {project_id}.", hint="`phoenix list` shows them all.")
    return _project(row)


async def latest(connection: AsyncConnection, limit: int) -> list[Project]:
    """Return projects, newest first."""
    query = select(*COLUMNS).order_by(projects.c.created_at.desc(), projects.c.id).limit(limit)
    return [_project(row) for row in await connection.execute(query)]


async def find(connection: AsyncConnection, prefix: str) -> Project:
    """Return the one project whose id starts so.

    Raises:
        NotFound: there is none, or several.
    """
    wanted = prefix.strip().lower()
    hint = "`phoenix list` shows them all."
    if not re.fullmatch(r"[0-9a-f-]{1,36}", wanted):
        raise NotFound(f"{prefix!r} is not the beginning of a project's id.", hint=hint)
    query = select(*COLUMNS).where(cast(projects.c.id, Text).startswith(wanted, autoescape=True)).limit(2)
    found = [_project(row) for row in await connection.execute(query)]
    if not found:
        raise NotFound(f"There is no project {wanted}.", hint=hint)
    if len(found) > 1:
        raise NotFound(f"Several projects begin with {wanted}.", hint="Give more of the id.")
    return found[0]


async def lock_budget(connection: AsyncConnection, project_id: UUID) -> Decimal | None:
    """Lock a project's row, after any of its runs, and return its budget in USD; None for no limit."""
    query = select(projects.c.budget_usd).where(projects.c.id == project_id).with_for_update()
    found: Decimal | None = (await connection.execute(query)).scalar_one()
    return found


async def set_budget(connection: AsyncConnection, project_id: UUID, budget_usd: Decimal) -> None:
    """Change what a project may cost."""
    query = update(projects).where(projects.c.id == project_id).values(budget_usd=budget_usd)
    await connection.execute(query)
