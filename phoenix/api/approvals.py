"""Approvals: what waits for a decision, and deciding."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, ValidationError

from phoenix.api.access import Admin, Decider, Reader
from phoenix.api.payloads import Answer, Cursor, Limit, Page, Payload
from phoenix.api.versions import IfMatch
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.approval import Decision, Verdict
from phoenix.domain.gates import GateRules
from phoenix.engine.approvals import Approvals, SeenApproval, next_deadline, oldest
from phoenix.engine.engine import Engine
from phoenix.errors import PayloadInvalid

router = APIRouter(prefix="/approvals", tags=["approvals"], route_class=WorkRoute)


class NewDecision(Payload):
    """A decision on what was looked at."""

    verdict: Verdict
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    """`request.value_digest` of the approval as it was read: a decision on something else answers 409."""
    value: dict[str, Any] | None = None
    """The edited value, or the answer; of a budget `extend_by_usd`."""
    reason: Annotated[str, Field(max_length=20_000)] = ""
    """Of a rejection: the agent reads it."""


class Waiting(Answer):
    """What waits at one gate of one project."""

    project_id: UUID
    title: str
    gate: str
    count: int
    oldest_seconds: float
    next_deadline_at: datetime | None


class Digest(Answer):
    """What waits in all."""

    count: int
    oldest_seconds: float
    next_deadline_at: datetime | None
    waiting: list[Waiting]


def _approvals(request: Request) -> Approvals:
    approvals: Approvals = request.app.state.approvals
    return approvals


@router.get("")
async def list_approvals(
    who: Reader,
    work: InWork,
    request: Request,
    mine: Annotated[bool, Query(description="Only those that you may decide.")] = False,
    cursor: Cursor = "",
    limit: Limit = 50,
) -> Page[SeenApproval]:
    """List what waits for a decision in the projects you see, oldest first, with votes and deadlines."""
    items, following = await _approvals(request).page(who, mine=mine, cursor=cursor, limit=limit, work=work)
    return Page(items=items, next=following)


@router.get("/digest")
async def digest(who: Reader, work: InWork, request: Request) -> Digest:
    """Count what waits, by project and gate: how long the oldest does, and the next deadline."""
    piles = await _approvals(request).digest(who, work=work)
    return Digest(
        count=sum(pile.count for pile in piles),
        oldest_seconds=oldest(piles),
        next_deadline_at=next_deadline(piles),
        waiting=[Waiting(**vars(pile)) for pile in piles],
    )


@router.get("/rules")
async def read_rules(who: Reader, work: InWork, request: Request, response: Response) -> GateRules:
    """Read how gates are decided in projects of the organisation that say nothing else."""
    rules = await _approvals(request).rules(who, work=work)
    response.headers["ETag"] = f'"{rules.digest()}"'
    return rules


@router.put("/rules")
async def change_rules(
    given: GateRules,
    who: Admin,
    work: InWork,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> GateRules:
    """Change them, as a whole; approvals that wait already stay as they were asked."""
    expected = None if if_match in (None, "*") else if_match.strip().removeprefix("W/").strip('"')
    await _approvals(request).change_rules(who, given, digest=expected, work=work)
    response.headers["ETag"] = f'"{given.digest()}"'
    return given


@router.get("/{approval_id}")
async def read(approval_id: UUID, who: Reader, work: InWork, request: Request) -> SeenApproval:
    """Read an approval: what is decided on, which verdicts it takes, its votes, and its decision."""
    return await _approvals(request).get(who, approval_id, work=work)


@router.post("/{approval_id}/decision")
async def decide(
    approval_id: UUID, given: NewDecision, who: Decider, work: InWork, request: Request
) -> SeenApproval:
    """Decide, or vote where several have to approve: the approval stays open until they have.

    Of several that decide at once one wins; the others get 409, and so does an old decision, or a second
    vote. Whoever the gate's rule does not ask gets 403, and an audit row.
    """
    found = await _approvals(request).get(who, approval_id, work=work)
    engine: Engine = request.app.state.engine
    try:
        decision = Decision(verdict=given.verdict, value=given.value, reason=given.reason)
    except ValidationError as error:
        raise PayloadInvalid(str(error.errors()[0]["msg"]), field="body") from error
    decided = await engine.decide(
        approval_id, decision, by=who.email, who=who, digest=given.digest, work=work
    )
    await work.note(
        "approval.decide",
        approval_id,
        project_id=str(found.project_id),
        gate=found.request.name,
        verdict=given.verdict,
        digest=given.digest,
        reason=given.reason,
        decided=decided.decision is not None,
    )
    return await _approvals(request).after(who, decided, work)
