"""Messages to the agents of a project that works."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field

from phoenix.api.access import Developer, Reader
from phoenix.api.payloads import Payload
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.steering import MAX_MESSAGE_CHARS, Message, SentMessage
from phoenix.engine.engine import Engine
from phoenix.engine.projects import Projects

router = APIRouter(prefix="/projects/{project_id}/messages", tags=["projects"], route_class=WorkRoute)


class NewMessage(Payload):
    """Something to say to agents."""

    text: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_MESSAGE_CHARS,
            examples=["Keep the old option as an alias of the new."],
        ),
    ]
    task: Annotated[str, Field(max_length=50, examples=["T2"])] = ""
    """Of the plan; empty speaks to all agents of the project, those of later steps too."""


def _projects(request: Request) -> Projects:
    projects: Projects = request.app.state.projects
    return projects


@router.post("", status_code=201)
async def send(
    project_id: UUID, given: NewMessage, who: Developer, work: InWork, request: Request
) -> Message:
    """Say something to agents: each reads it once, before its next model call. 409 once that is over."""
    await _projects(request).get(who, project_id, "develop", work=work)
    engine: Engine = request.app.state.engine
    message = await engine.message(project_id, given.text, task=given.task, by=who.email, work=work)
    await work.note("project.message", project_id, message_id=str(message.id), task=given.task)
    return message


@router.get("")
async def list_messages(
    project_id: UUID,
    who: Reader,
    work: InWork,
    request: Request,
    after: Annotated[int, Query(ge=0, le=2**62, description="Only messages with a higher `seq`.")] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 200,
) -> list[SentMessage]:
    """List what was said, oldest first, and in which conversations it was read."""
    return await _projects(request).messages(who, project_id, seq=after, limit=limit, work=work)
