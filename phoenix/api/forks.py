"""Forks: a new project that goes on from a checkpoint of another."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from phoenix.api.access import Policy
from phoenix.api.launches import Usd
from phoenix.api.payloads import Payload
from phoenix.api.sources import Sources
from phoenix.api.versions import etag
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.history import ForkOrder
from phoenix.domain.identity import Principal
from phoenix.domain.run import Project
from phoenix.engine.engine import Engine
from phoenix.engine.projects import Projects
from phoenix.errors import RateLimited

router = APIRouter(prefix="/projects/{project_id}/forks", tags=["projects"], route_class=WorkRoute)

AT_ONCE = 4
"""Forks that a process makes at once: each copies code and state, and holds connections meanwhile."""

Forker = Annotated[Principal, Depends(Policy("develop", limit="fork"))]


class NewFork(Payload):
    """What the fork shall be like. What is left out is as in the project that it comes from."""

    at: Annotated[str, Field(max_length=200, examples=["plan"])] = ""
    """A checkpoint, the end of its id, or the name of a step or gate; empty for the last one."""
    title: Annotated[str, Field(max_length=80)] = ""
    model: Annotated[str, Field(max_length=200)] = ""
    approvals: Annotated[str, Field(max_length=200)] = ""
    budget_usd: Usd | None = None
    edit: dict[str, Any] | None = None
    """Another value of what is asked about at the checkpoint."""
    reuse: bool = False
    """Take over what was made after the checkpoint where nothing that it read has changed."""


@router.post("", status_code=202)
async def fork(
    project_id: UUID, given: NewFork, who: Forker, work: InWork, request: Request, response: Response
) -> Project:
    """Fork a project at a checkpoint. What it comes from stays as it is."""
    projects: Projects = request.app.state.projects
    engine: Engine = request.app.state.engine
    sources: Sources = request.app.state.sources
    await projects.get(who, project_id, "develop", work=work)
    values = given.model_dump(exclude={"at"})
    if given.model:
        values["model"] = await sources.model(given.model)
    making: asyncio.Semaphore = request.app.state.forking
    if making.locked():
        raise RateLimited("Others are being forked.", after_seconds=5, hint="Try again in a moment.")
    async with making:
        order = ForkOrder(**values)
        made = await engine.forks.fork(project_id, given.at, order, by=who.email, work=work)
    await work.note("project.fork", made.id, source=str(project_id), at=made.forked_at)
    response.headers["Location"] = f"{request.app.state.projects_path}/{made.id}"
    response.headers["ETag"] = etag(made.version)
    return made
