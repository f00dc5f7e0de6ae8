"""Use cases of templates, of the caller's organisation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from phoenix.domain.template import Parameter, Template, check_places
from phoenix.engine.work import Work
from phoenix.storage import templates


async def page(work: Work, *, after: str, limit: int) -> tuple[list[Template], str | None]:
    """Return templates by name, and where the next page begins."""
    found = await templates.page(work.connection, work.who.organisation_id, after=after, limit=limit + 1)
    return found[:limit], found[limit - 1].name if len(found) > limit else None


async def get(work: Work, template_id: UUID) -> Template:
    """Return a template.

    Raises:
        NotFound: the organisation has none of that id.
    """
    return await templates.get(work.connection, work.who.organisation_id, template_id)


async def add(
    work: Work, *, name: str, description: str, launch: dict[str, Any], parameters: list[Parameter]
) -> Template:
    """Make a template.

    Raises:
        DomainInvalid: places and parameters are not the same.
        AlreadyThere: there is one of this name.
    """
    check_places(launch, parameters)
    now = datetime.now(UTC)
    template = Template(
        id=uuid4(),
        organisation_id=work.who.organisation_id,
        name=name,
        description=description,
        launch=launch,
        parameters=parameters,
        version=1,
        created_by=work.who.user_id,
        created_at=now,
        updated_at=now,
    )
    added = await templates.add(work.connection, template)
    await work.note("template.add", added.id, name=name)
    return added


async def change(
    work: Work, template_id: UUID, values: Mapping[str, Any], *, version: int | None
) -> Template:
    """Change columns of a template.

    Raises:
        NotFound: the organisation has none of that id.
        DomainInvalid: places and parameters would not be the same.
        VersionConflict: somebody else has changed it.
        AlreadyThere: there is another one of this name.
    """
    found = await templates.change(
        work.connection, work.who.organisation_id, template_id, values, version=version
    )
    check_places(found.launch, found.parameters)
    await work.note("template.change", template_id, members=sorted(values))
    return found


async def remove(work: Work, template_id: UUID) -> None:
    """Delete a template; what was launched from it stays.

    Raises:
        NotFound: the organisation has none of that id.
    """
    await templates.remove(work.connection, work.who.organisation_id, template_id)
    await work.note("template.remove", template_id)
