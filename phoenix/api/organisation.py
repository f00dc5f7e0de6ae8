"""The organisation: its quotas, and what it uses."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from phoenix.api.access import Admin, Reader, allows
from phoenix.api.payloads import Answer, Page, Payload
from phoenix.api.versions import IfMatch, etag, expected
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.budget import OrganisationLimits
from phoenix.domain.identity import Principal
from phoenix.domain.organisation import Organisation, UsageBy, UsageLine
from phoenix.domain.upkeep import UpkeepReport
from phoenix.engine.projects import Projects
from phoenix.engine.quotas import Organisations, Used
from phoenix.engine.upkeep import Upkeep
from phoenix.errors import PayloadInvalid

router = APIRouter(tags=["organisation"], route_class=WorkRoute)

Pruner = Annotated[Principal, allows("administer", limit="prune")]

Day = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=4, strict=False, examples=["25"])]


class Quotas(Payload):
    """Quotas to set; null takes one away, what is left out stays."""

    max_projects: Annotated[int, Field(ge=0, le=1_000_000, examples=[20])] | None = None
    """Unfinished projects at once."""
    max_usd_day: Day | None = None
    """USD that model calls may cost from midnight to midnight (UTC)."""
    limits: OrganisationLimits | None = None
    """What model calls may use beside that; it replaces what was set before."""


class Standing(Answer):
    """The organisation, and what it uses of its quotas."""

    organisation: Organisation
    used: Used


class Pruning(Payload):
    """Which finished projects lose what it takes to go on with them."""

    older_than_days: Annotated[float, Field(ge=0, le=36_500, examples=[30])] | None = None
    """How long ago a project must have ended; the service's own retention where left out."""
    dry_run: bool = False
    """Remove nothing, and tell what would go."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """How many projects at once, those that ended first; `has_more` tells whether to ask again."""


def _organisations(request: Request) -> Organisations:
    found: Organisations = request.app.state.organisations
    return found


@router.get("/organisation")
async def read(who: Reader, work: InWork, request: Request, response: Response) -> Standing:
    """Read your organisation's quotas, and what it uses of them."""
    found, used = await _organisations(request).read(who, work=work)
    response.headers["ETag"] = etag(found.version)
    return Standing(organisation=found, used=used)


@router.patch("/organisation")
async def change(
    given: Quotas, who: Admin, work: InWork, request: Request, response: Response, if_match: IfMatch = None
) -> Organisation:
    """Set quotas. That of projects counts from the next launch on, others from the next model call."""
    values: dict[str, Any] = given.model_dump(exclude_unset=True, exclude={"limits"})
    if "limits" in given.model_fields_set:
        limits = given.limits or OrganisationLimits()
        values["limits"] = limits.model_dump(mode="json", exclude_defaults=True)
    changed = await _organisations(request).change(who, version=expected(if_match), work=work, **values)
    await work.note("organisation.change", changed.id, **given.model_dump(mode="json", exclude_unset=True))
    response.headers["ETag"] = etag(changed.version)
    return changed


@router.post("/organisation/prune")
async def prune(given: Pruning, who: Pruner, work: InWork, request: Request) -> UpkeepReport:
    """Remove the inner state of your organisation's finished projects; they cannot be resumed after that.

    Deliveries, evidence, documents and commits stay. The service does the same by itself when the time of
    its retention is over; environments and the queue, which belong to no organisation, are its own to clean.
    """
    upkeep: Upkeep = request.app.state.upkeep
    report = await work.during(
        upkeep.prune_organisation(
            who.organisation_id, days=given.older_than_days, dry_run=given.dry_run, limit=given.limit
        )
    )
    if not given.dry_run:
        ids = [str(project.project_id) for project in report.projects]
        await work.note("organisation.prune", who.organisation_id, projects=ids, days=given.older_than_days)
    return report


async def _span(
    since: Annotated[datetime | None, Query(description="Calls from then on, with its zone.")] = None,
    until: Annotated[datetime | None, Query(description="Calls before then, with its zone.")] = None,
) -> tuple[datetime | None, datetime | None]:
    for name, given in (("since", since), ("until", until)):
        if given is not None and given.tzinfo is None:
            raise PayloadInvalid("This time has no zone.", field=f"query.{name}", hint="Add Z, or +02:00.")
    return since, until


Span = Annotated[tuple[datetime | None, datetime | None], Depends(_span)]


@router.get("/usage")
async def usage(
    who: Reader,
    work: InWork,
    request: Request,
    span: Span,
    by: Annotated[UsageBy, Query(description="What a line is for; days are of UTC.")] = "day",
    project: Annotated[UUID | None, Query(description="Only this project; tasks need one.")] = None,
    cursor: Annotated[str, Query(max_length=500, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[UsageLine]:
    """Tell what the organisation's model calls used, by project, agent, model, day or task, in its order."""
    if by == "task" and project is None:
        raise PayloadInvalid(
            "Tasks are those of one project.", field="query.project", hint="Name the project as well."
        )
    if "\0" in cursor:
        raise PayloadInvalid("This cursor is not one that a list gave.", field="query.cursor")
    projects: Projects = request.app.state.projects
    items, following = await projects.used(
        who, by, project=project, since=span[0], until=span[1], after=cursor, limit=limit, work=work
    )
    return Page(items=items, next=following)
