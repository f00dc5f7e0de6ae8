"""A project's checkpoints: where it can be gone on from, and what lies in one."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter

from phoenix.api.access import Policy
from phoenix.api.payloads import Page
from phoenix.domain.cleaning import clean_json
from phoenix.domain.history import Looked, Moment
from phoenix.domain.identity import Principal
from phoenix.engine.engine import Engine
from phoenix.engine.projects import Projects
from phoenix.errors import PayloadInvalid

router = APIRouter(prefix="/projects/{project_id}", tags=["code"])
"""Its routes hold no transaction while checkpoints are read."""

AT = "A checkpoint's id or its end, or a step: the last checkpoint before it. Left out: the last one."

Looking = Annotated[Principal, Depends(Policy("read", limit="code"))]
At = Annotated[str, Query(max_length=200, description=AT, examples=["spec"])]


async def _engine(request: Request, who: Principal, project_id: UUID) -> Engine:
    """Return the engine once it is known that the project may be read."""
    projects: Projects = request.app.state.projects
    await projects.get(who, project_id)
    engine: Engine = request.app.state.engine
    return engine


@router.get("/checkpoints")
async def checkpoints(
    project_id: UUID,
    who: Looking,
    request: Request,
    inner: Annotated[bool, Query(description="Those within steps as well, such as each tool call.")] = False,
    cursor: Annotated[str, Query(max_length=100, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Page[Moment]:
    """List a project's checkpoints, oldest first: what was done, what is next, the code, the cost so far."""
    engine = await _engine(request, who, project_id)
    found = await engine.history.moments(project_id, inner=inner)
    ids = [moment.checkpoint for moment in found]
    if cursor and cursor not in ids:
        raise PayloadInvalid("This cursor is not one that a list gave.", field="query.cursor")
    begin = ids.index(cursor) + 1 if cursor else 0
    items = found[begin : begin + limit]
    return Page(items=items, next=items[-1].checkpoint if begin + limit < len(found) else None)


@router.get("/checkpoint")
async def checkpoint(project_id: UUID, who: Looking, request: Request, at: At = "") -> Looked:
    """Read one checkpoint: the value that goes on from there, and what people are asked."""
    engine = await _engine(request, who, project_id)
    point = await engine.history.find(project_id, at)
    value = TypeAdapter(Any).dump_python(point.value, mode="json", serialize_as_any=True, fallback=str)
    return Looked(moment=point.moment, value=clean_json(value), requests=list(point.requests.values()))
