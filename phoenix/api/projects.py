"""Projects: launch, list, read, steer."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from phoenix.api.access import Developer, Reader, allows
from phoenix.api.launches import Approvals, NewProject, Priority, Usd, launch_project
from phoenix.api.payloads import Answer, Cursor, Limit, Page, Payload
from phoenix.api.versions import IfMatch, etag, expected
from phoenix.api.work import GroupedRoute, InWork, MaybeWork, WorkRoute
from phoenix.domain.budget import ProjectLimits
from phoenix.domain.forecast import TaskCost
from phoenix.domain.gates import GateRules
from phoenix.domain.identity import Principal
from phoenix.domain.run import Project, Run, RunStatus, Usage
from phoenix.domain.steering import Kept
from phoenix.engine.engine import Engine
from phoenix.engine.launch import Listed, Overview
from phoenix.engine.projects import Projects
from phoenix.engine.upkeep import Upkeep

router = APIRouter(prefix="/projects", tags=["projects"], route_class=WorkRoute)

Launcher = Annotated[Principal, allows("develop", limit="launch")]
Deleter = Annotated[Principal, allows("administer", limit="delete")]
Document = Literal["spec", "plan", "contract", "sealed", "build", "evidence", "delivery", "lessons"]


class Change(Payload):
    """What can be changed of a project; what is left out stays."""

    title: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    priority: Priority | None = None
    max_runs: Annotated[int, Field(ge=1, le=1000)] | None = None
    archived: bool | None = None
    approvals: Approvals | None = None
    """The level from now on; approvals that wait already do so as they were asked. Takes who may approve."""
    gate_rules: GateRules | None = None
    """The whole of the project's own rules."""


class Pause(Payload):
    """Why a project is paused."""

    reason: Annotated[str, Field(max_length=1000)] = ""


class Resume(Payload):
    """How a project goes on."""

    budget_usd: Usd | None = None
    """What the project may cost in all from now on."""


class Cancelled(Answer):
    """What stays of a cancelled project. Its documents stay as well."""

    kept: list[Kept]


class Share(Answer):
    """What one agent used of one model. Tokens are counts; cost is USD, null when a price is unknown."""

    agent: str
    model: str
    usage: Usage


class Cost(Answer):
    """What a project's model calls used."""

    total: Usage
    shares: list[Share]
    tasks: list[TaskCost] = []
    """What each task used, beside what was expected when the plan was decided."""
    budget_usd: Decimal | None
    limits: ProjectLimits = ProjectLimits()


class Task(Answer):
    """A task of the plan, as its run stands."""

    key: str
    """`build/ROUND/TASK`."""
    run: Run


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _projects(request: Request) -> Projects:
    projects: Projects = request.app.state.projects
    return projects


async def launch(given: NewProject, who: Launcher, work: MaybeWork, request: Request) -> Response:
    """Launch a project. It is stored with its run and job before this answers; workers take it from there."""
    answer = Response(status_code=202, media_type="application/json")
    project = await launch_project(request, answer, who, given, work=work)
    answer.body = project.model_dump_json().encode()
    answer.headers["Content-Length"] = str(len(answer.body))
    return answer


router.add_api_route(
    "",
    launch,
    methods=["POST"],
    status_code=202,
    response_model=Project,
    route_class_override=GroupedRoute,
)


@router.get("")
async def list_projects(  # noqa: PLR0913, PLR0917 each narrows the list
    who: Reader,
    work: InWork,
    request: Request,
    status: Annotated[list[RunStatus] | None, Query()] = None,
    q: Annotated[str, Query(max_length=500, description="Words in the title or requirement.")] = "",
    archived: bool = False,
    prefix: Annotated[
        str,
        Query(alias="id", pattern=r"^[0-9a-fA-F-]{0,36}$", description="Beginning of ids, archived or not."),
    ] = "",
    cursor: Cursor = "",
    limit: Limit = 50,
) -> Page[Listed]:
    """List projects, newest first."""
    items, following = await _projects(request).page(
        who,
        status=status or (),
        words=q,
        archived=archived,
        prefix=prefix,
        cursor=cursor,
        limit=limit,
        work=work,
    )
    return Page(items=items, next=following)


@router.get("/{project_id}", name="read_project")
async def read(project_id: UUID, who: Reader, work: InWork, request: Request, response: Response) -> Overview:
    """Read a project: its run, its tasks' runs, open approvals, what it used, and its documents."""
    overview = await _projects(request).overview(who, project_id, work=work)
    response.headers["ETag"] = etag(overview.project.version)
    return overview


@router.patch("/{project_id}")
async def change(
    project_id: UUID,
    given: Change,
    who: Developer,
    work: InWork,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> Project:
    """Change title, priority, limits, or how its gates are decided; or archive it."""
    values: dict[str, Any] = given.model_dump(mode="json", exclude_unset=True, exclude={"archived"})
    # Null is a value of the limit alone: it takes it away.
    values = {name: value for name, value in values.items() if value is not None or name == "max_runs"}
    if given.archived is not None:
        values["archived_at"] = datetime.now(UTC) if given.archived else None
    project = await _projects(request).change(
        who, project_id, version=expected(if_match), work=work, **values
    )
    await work.note("project.change", project_id, **given.model_dump(mode="json", exclude_unset=True))
    response.headers["ETag"] = etag(project.version)
    return project


@router.get("/{project_id}/documents/{kind}")
async def document(
    project_id: UUID, kind: Document, who: Reader, work: InWork, request: Request, response: Response
) -> dict[str, Any]:
    """Read a project's spec, plan, evidence or another document, as it was stored last."""
    body, digest = await _projects(request).document(who, project_id, kind, work=work)
    response.headers["ETag"] = f'"{digest}"'
    return body


@router.get("/{project_id}/tasks")
async def tasks(project_id: UUID, who: Reader, work: InWork, request: Request) -> list[Task]:
    """List the runs of a project's tasks, in the order in which they were opened."""
    overview = await _projects(request).overview(who, project_id, work=work)
    return [Task(key=run.key, run=run) for run in overview.children]


@router.get("/{project_id}/cost")
async def cost(project_id: UUID, who: Reader, work: InWork, request: Request) -> Cost:
    """Tell what a project's model calls used, by agent and model, and task by task."""
    project = await _projects(request).get(who, project_id, work=work)
    shares = await _projects(request).costs(who, project_id, work=work)
    total = Usage()
    for share in shares:
        total = total.plus(share.usage)
    return Cost(
        total=total,
        shares=[Share(agent=s.agent, model=s.model, usage=s.usage) for s in shares],
        tasks=await _projects(request).tasks(who, project_id, work=work),
        budget_usd=project.budget_usd,
        limits=project.limits,
    )


@router.post("/{project_id}/pause", status_code=202, response_class=Response)
async def pause(project_id: UUID, given: Pause, who: Developer, work: InWork, request: Request) -> None:
    """Pause a project: steps that run are finished, nothing more is begun; decisions are still taken."""
    await _projects(request).get(who, project_id, "develop", work=work)
    await _engine(request).pause(project_id, reason=given.reason, work=work)
    await work.note("project.pause", project_id, reason=given.reason)


@router.post("/{project_id}/resume", status_code=202, response_class=Response)
async def resume(project_id: UUID, given: Resume, who: Developer, work: InWork, request: Request) -> None:
    """Let a paused project go on, try a failed one again, or give more to one whose budget is spent."""
    await _projects(request).get(who, project_id, "develop", work=work)
    await _engine(request).resume(project_id, budget_usd=given.budget_usd, work=work)
    await work.note("project.resume", project_id, budget_usd=str(given.budget_usd or ""))


@router.post("/{project_id}/cancel", status_code=202)
async def cancel(project_id: UUID, who: Developer, work: InWork, request: Request) -> Cancelled:
    """Cancel a project: what runs is stopped, sandboxes are killed; tells which code is kept, and where."""
    await _projects(request).get(who, project_id, "develop", work=work)
    kept = await _engine(request).cancel(project_id, work=work)
    await work.note("project.cancel", project_id)
    return Cancelled(kept=kept)


@router.delete("/{project_id}", status_code=204, response_class=Response)
async def delete(project_id: UUID, who: Deleter, work: InWork, request: Request) -> None:
    """Delete a project with its code, documents and events. Cancel one that is being worked on first."""
    upkeep: Upkeep = request.app.state.upkeep
    project = await _projects(request).get(who, project_id, "administer", work=work)
    await work.note("project.delete", project_id, title=project.title)
    await work.during(upkeep.delete(project_id))
