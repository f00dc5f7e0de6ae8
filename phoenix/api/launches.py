"""What a client sends to launch a project, and launching it in the request's transaction."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import structlog
from fastapi import Request, Response
from pydantic import Field

from phoenix.api.errors import id_of
from phoenix.api.payloads import Payload
from phoenix.api.sources import Sources
from phoenix.api.versions import etag
from phoenix.domain.budget import ProjectLimits
from phoenix.domain.gates import GateRules
from phoenix.domain.identity import Principal
from phoenix.domain.permissions import RuleSet
from phoenix.domain.project import MAX_REQUIREMENT_CHARS
from phoenix.domain.project import Path as ProjectPath
from phoenix.domain.run import Project
from phoenix.engine.engine import Engine
from phoenix.engine.launch import Launch
from phoenix.engine.launching import Behalf
from phoenix.engine.work import Work
from phoenix.telemetry import context

Usd = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=4, strict=False)]
Approvals = Annotated[str, Field(max_length=200, examples=["guarded", "spec,plan,delivery"])]
Priority = Annotated[int, Field(ge=-100, le=100)]

log = structlog.get_logger(__name__)


class NewProject(Payload):
    """A requirement to turn into software."""

    requirement: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_REQUIREMENT_CHARS,
            examples=["A command-line tool that renames photos by the date they were taken."],
        ),
    ]
    title: Annotated[str, Field(max_length=80)] = ""
    """Empty takes the requirement's first line."""
    repository: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """URL of a git repository to work on; left out, a new one is made."""
    model: Annotated[str, Field(max_length=200)] = ""
    """`provider:model`, or of the service's catalogue `auto` or an alias, each with what is forbidden, such
    as `auto,-strong`; empty takes the service's own."""
    approvals: Approvals = "ask"
    """A level (`manual`, `ask`, `guarded`, `auto`), or the gates to ask, such as `spec,plan`."""
    gate_rules: GateRules = GateRules()
    """How gates are decided, by name; what is left out is as in the organisation."""
    path: ProjectPath = "auto"
    budget_usd: Usd | None = None
    limits: ProjectLimits = ProjectLimits()
    """What its model calls may use beside that, and those of each of its tasks."""
    priority: Priority = 0
    max_runs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many of its tasks may be worked on at once."""
    rules: RuleSet | None = None
    """What its agents' tools may do, beside the rules of service and organisation, which it cannot loosen."""


async def launch_project(
    request: Request,
    response: Response,
    who: Principal,
    given: NewProject,
    *,
    work: Work | None = None,
    **noted: object,
) -> Project:
    """Launch a project, and say in the answer's headers where it is.

    Args:
        request: The request.
        response: Gets the headers.
        who: Who makes it.
        given: What was sent.
        work: The request's transaction, where it has one.
        noted: More for the audit log.
    """
    sources: Sources = request.app.state.sources
    engine: Engine = request.app.state.engine
    model = await sources.model(given.model)
    order = Launch(
        **given.model_dump(exclude={"model", "gate_rules", "rules"}),
        model=model,
        gate_rules=given.gate_rules,
        rules=given.rules,
        organisation_id=who.organisation_id,
        created_by=who.user_id,
    )
    if given.repository is not None:
        await sources.check_repository(given.repository)
    noted = {"model": model, **noted}
    if work is None:
        project = await engine.launch(order, behalf=Behalf(who, id_of(request), noted))
    else:
        project = await engine.launch(order, work=work)
        await work.note("project.launch", project.id, title=project.title, **noted)
    context.bind(project_id=str(project.id))
    log.info("project_launched", model=model)
    response.headers["Location"] = f"{request.app.state.projects_path}/{project.id}"
    response.headers["ETag"] = etag(project.version)
    return project
