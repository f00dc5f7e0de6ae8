"""Permission rules of the organisation, and the decisions on tool calls of a project."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from phoenix.api.access import Admin, Reader
from phoenix.api.payloads import Answer, Payload
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.permissions import Outcome, RuleSet, ToolDecision
from phoenix.engine.permissions import Rules

router = APIRouter(tags=["rules"], route_class=WorkRoute)


class NewRules(Payload):
    """Rules for the tools of agents in all projects of the organisation."""

    rules: RuleSet | None
    """Null takes them away."""


class RulesInForce(Answer):
    """The rules that speak of a call before those of its project. A deny of any wins, then an ask."""

    service: RuleSet
    organisation: RuleSet | None


def _rules(request: Request) -> Rules:
    rules: Rules = request.app.state.engine.rules
    return rules


@router.get("/rules")
async def read_rules(who: Reader, work: InWork, request: Request) -> RulesInForce:
    """Read the permission rules of the service and of the organisation."""
    rules = _rules(request)
    return RulesInForce(service=rules.service, organisation=await rules.of_organisation(who, work=work))


@router.put("/rules", status_code=204, response_class=Response)
async def set_rules(given: NewRules, who: Admin, work: InWork, request: Request) -> None:
    """Set the organisation's permission rules; they count from the next tool call on."""
    await _rules(request).set_organisation(work, given.rules)


@router.get("/projects/{project_id}/tool-decisions")
async def tool_decisions(
    project_id: UUID,
    who: Reader,
    work: InWork,
    request: Request,
    outcome: Annotated[Outcome | None, Query()] = None,
    skip: Annotated[int, Query(ge=0, le=1_000_000, description="How many to leave out at the start.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[ToolDecision]:
    """List the decisions on tool calls, oldest first: by the rules, and where they ask by a person."""
    return await _rules(request).decisions(
        who, project_id, outcome=outcome or "", after=skip, limit=limit, work=work
    )
