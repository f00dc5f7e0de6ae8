"""Lists of projects, a page at a time: filtered by status, searched by their words."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, cast, exists, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.run import Project, RunStatus
from phoenix.errors import PayloadInvalid
from phoenix.storage.projects import COLUMNS
from phoenix.storage.tables import projects, runs

MAX_PAGE = 200


def cursor_of(project: Project) -> str:
    """Return the place in the list right after a project."""
    return place_of(project.created_at, project.id)


def place_of(created_at: datetime, row_id: UUID) -> str:
    """Return the place right after a row, in any list that is ordered by time and id."""
    return place(f"{created_at.isoformat()} {row_id}")


def place(text: str) -> str:
    """Return the place right after a row that is known by a text, as a cursor."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_place(cursor: str) -> str:
    """Return the text that a cursor was made from.

    Raises:
        PayloadInvalid: it is none of ours.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except ValueError as error:
        raise _no_cursor() from error
    if "\0" in text:
        raise _no_cursor()
    return text


def read_cursor(text: str) -> tuple[datetime, UUID]:
    """Return the place that a cursor names.

    Raises:
        PayloadInvalid: it is none of ours.
    """
    moment, _, row_id = read_place(text).partition(" ")
    try:
        return datetime.fromisoformat(moment), UUID(row_id)
    except ValueError as error:
        raise _no_cursor() from error


def _no_cursor() -> PayloadInvalid:
    return PayloadInvalid(
        "This cursor is not one that a list gave.", field="query.cursor", hint="Begin without one."
    )


async def page(  # noqa: PLR0913 - each narrows the list
    connection: AsyncConnection,
    organisation_id: UUID,
    *,
    only: Sequence[UUID] | None = None,
    status: Sequence[RunStatus] = (),
    words: str = "",
    archived: bool = False,
    prefix: str = "",
    cursor: str = "",
    limit: int = 50,
) -> list[Project]:
    """Return projects of an organisation, newest first.

    Args:
        connection: The transaction.
        organisation_id: Whose.
        only: These and no others; None for all.
        status: Those whose own run has one of these; empty for any.
        words: Those whose title or requirement holds all of these, as in a search engine.
        archived: The archived ones instead of the others.
        prefix: Those whose id begins so, archived or not.
        cursor: Where the page begins; see `cursor_of`.
        limit: The most that are returned.

    Raises:
        PayloadInvalid: the cursor is none.
    """
    query: Select[tuple[object, ...]] = select(*COLUMNS).where(projects.c.organisation_id == organisation_id)
    if prefix:
        begins = cast(projects.c.id, Text).startswith(prefix.lower(), autoescape=True)
        query = query.where(begins)
    else:
        is_archived = projects.c.archived_at.is_not(None)
        query = query.where(is_archived if archived else ~is_archived)
    if only is not None:
        query = query.where(projects.c.id.in_(only))
    if cursor:
        query = query.where(tuple_(projects.c.created_at, projects.c.id) < read_cursor(cursor))
    if words:
        query = query.where(projects.c.words.op("@@")(func.websearch_to_tsquery("simple", words)))
    if status:
        query = query.where(_is(status))
    query = query.order_by(projects.c.created_at.desc(), projects.c.id.desc()).limit(min(limit, MAX_PAGE))
    return [Project(**row._mapping) for row in await connection.execute(query)]


def _is(status: Sequence[RunStatus]) -> ColumnElement[bool]:
    """Return whether a project's own run, the latest that is not behind another, has one of these."""
    later = runs.alias()
    own = (
        runs.c.project_id == projects.c.id,
        runs.c.parent_id.is_(None),
        runs.c.behind.is_(False),
        runs.c.status.in_(status),
    )
    after = exists().where(
        # Not by `projects`: only the next query around is correlated with.
        later.c.project_id == runs.c.project_id,
        later.c.parent_id.is_(None),
        later.c.behind.is_(False),
        later.c.ordinal > runs.c.ordinal,
    )
    return exists().where(*own, ~after)
