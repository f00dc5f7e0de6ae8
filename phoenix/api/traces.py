"""A project's trace, as its spans were recorded."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from phoenix.api.access import Reader
from phoenix.domain.recorded import RecordedSpan, SpanPage
from phoenix.engine.projects import Projects
from phoenix.errors import PayloadInvalid

router = APIRouter(prefix="/projects/{project_id}", tags=["events"])


@router.get("/spans")
async def list_spans(
    project_id: UUID,
    who: Reader,
    request: Request,
    cursor: Annotated[str, Query(max_length=100, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> SpanPage:
    """List the spans of a project's trace in the order in which they began, and how many were left out.

    Their ids are those that a collector has. Prompts, answers, commands and arguments are never in them.
    """
    projects: Projects = request.app.state.projects
    items, counts = await projects.spans(who, project_id, after=_after(cursor), limit=limit + 1)
    more = len(items) > limit
    items = items[:limit]
    return SpanPage(items=items, next=_cursor(items[-1]) if more else None, counts=counts)


def _cursor(span: RecordedSpan) -> str:
    return f"{span.began_at.isoformat()}~{span.id}"


def _after(cursor: str) -> tuple[datetime, str] | None:
    if not cursor:
        return None
    # In a query a plus may have become a space.
    at, _, span = cursor.replace(" ", "+").partition("~")
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None or not span:
        raise PayloadInvalid("This cursor is not one that a list gave.", field="query.cursor")
    return found, span
