"""Queries on projects."""

from __future__ import annotations

import re
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Row, Text, cast, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.budget import ProjectLimits
from phoenix.domain.run import Project
from phoenix.errors import NotFound, VersionConflict
from phoenix.storage.tables import CLOCK, projects

COLUMNS = [projects.c[name] for name in Project.model_fields]


def _project(row: Row[tuple[object, ...]]) -> Project:
    return Project(**row._mapping)


async def add(connection: AsyncConnection, project: Project) -> None:
    """Insert a project."""
    row = project.model_dump() | {"limits": project.limits.model_dump(mode="json")}
    await connection.execute(insert(projects).values(row))


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


async def lock_limits(connection: AsyncConnection, project_id: UUID) -> tuple[Decimal | None, ProjectLimits]:
    """Lock a project's row, after any of its runs, and return its budget in USD and its other limits."""
    query = select(projects.c.budget_usd, projects.c.limits).where(projects.c.id == project_id)
    row = (await connection.execute(query.with_for_update())).one()
    return row.budget_usd, ProjectLimits.model_validate(row.limits)


async def set_limits(connection: AsyncConnection, project_id: UUID, limits: ProjectLimits) -> None:
    """Change what a project may use beside its budget in USD."""
    row = limits.model_dump(mode="json", exclude_none=True)
    await connection.execute(update(projects).where(projects.c.id == project_id).values(limits=row))


async def set_budget(connection: AsyncConnection, project_id: UUID, budget_usd: Decimal) -> None:
    """Change what a project may cost."""
    query = update(projects).where(projects.c.id == project_id).values(budget_usd=budget_usd)
    await connection.execute(query)


async def set_paused(connection: AsyncConnection, project_id: UUID, reason: str | None) -> None:
    """Say that a project is paused and why; None lets it go on."""
    values = {"paused_at": None if reason is None else CLOCK, "pause_reason": reason or ""}
    await connection.execute(update(projects).where(projects.c.id == project_id).values(**values))


async def change(
    connection: AsyncConnection, project_id: UUID, *, version: int | None = None, **values: object
) -> Project:
    """Change columns of a project and raise its version.

    Raises:
        VersionConflict: it is at another version than was expected.
    """
    where = [projects.c.id == project_id]
    where += [projects.c.version == version] if version is not None else []
    changed = update(projects).where(*where).values(version=projects.c.version + 1, **values)
    row = (await connection.execute(changed.returning(*COLUMNS))).one_or_none()
    if row is None:
        raise VersionConflict("The project has changed since it was read.", hint="Read it again.")
    return _project(row)
