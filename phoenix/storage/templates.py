"""Queries on templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.template import Template
from phoenix.errors import AlreadyThere, NotFound, VersionConflict
from phoenix.storage.tables import CLOCK
from phoenix.storage.tables_door import templates

COLUMNS = [templates.c[name] for name in Template.model_fields]
TAKEN = "There is a template of this name."


def _template(row: Row[Any]) -> Template:
    return Template(**row._mapping)


async def add(connection: AsyncConnection, template: Template) -> Template:
    """Insert a template.

    Raises:
        AlreadyThere: the organisation has one of this name.
    """
    stored = insert(templates).values(template.model_dump(mode="json"))
    unless = stored.on_conflict_do_nothing(index_elements=["organisation_id", "name"])
    row = (await connection.execute(unless.returning(*COLUMNS))).one_or_none()
    if row is None:
        raise AlreadyThere(TAKEN, field="body.name")
    return _template(row)


async def get(connection: AsyncConnection, organisation_id: UUID, template_id: UUID) -> Template:
    """Return a template.

    Raises:
        NotFound: the organisation has none of that id.
    """
    where = (templates.c.organisation_id == organisation_id, templates.c.id == template_id)
    row = (await connection.execute(select(*COLUMNS).where(*where))).one_or_none()
    if row is None:
        raise NotFound(f"There is no template {template_id}.")
    return _template(row)


async def page(
    connection: AsyncConnection, organisation_id: UUID, *, after: str = "", limit: int = 50
) -> list[Template]:
    """Return templates of an organisation by name, those after one."""
    query = select(*COLUMNS).where(templates.c.organisation_id == organisation_id, templates.c.name > after)
    rows = await connection.execute(query.order_by(templates.c.name).limit(limit))
    return [_template(row) for row in rows]


async def change(
    connection: AsyncConnection,
    organisation_id: UUID,
    template_id: UUID,
    values: Mapping[str, Any],
    *,
    version: int | None = None,
) -> Template:
    """Change columns of a template and raise its version.

    Raises:
        NotFound: the organisation has none of that id.
        VersionConflict: it is at another version than was expected.
        AlreadyThere: the organisation has another one of this name.
    """
    await get(connection, organisation_id, template_id)
    where = [templates.c.organisation_id == organisation_id, templates.c.id == template_id]
    where += [templates.c.version == version] if version is not None else []
    changed = update(templates).where(*where)
    changed = changed.values(version=templates.c.version + 1, updated_at=CLOCK, **values)
    try:
        row = (await connection.execute(changed.returning(*COLUMNS))).one_or_none()
    except IntegrityError as error:
        raise AlreadyThere(TAKEN, field="body.name") from error
    if row is None:
        raise VersionConflict("The template has changed since it was read.", hint="Read it again.")
    return _template(row)


async def remove(connection: AsyncConnection, organisation_id: UUID, template_id: UUID) -> None:
    """Delete a template.

    Raises:
        NotFound: the organisation has none of that id.
    """
    where = (templates.c.organisation_id == organisation_id, templates.c.id == template_id)
    if (await connection.execute(delete(templates).where(*where))).rowcount == 0:
        raise NotFound(f"There is no template {template_id}.")
