"""What was done in the organisation, and whether the record of it is whole."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from phoenix.api.access import Admin, allows
from phoenix.api.payloads import Answer
from phoenix.domain.identity import AuditEntry, Principal
from phoenix.engine.identity import AuditLog

router = APIRouter(prefix="/audit", tags=["audit"])


Verifier = Annotated[Principal, allows("administer", limit="verify")]


class Verdict(Answer):
    """What a check of the chain found."""

    checked: int
    """Rows, from the first on, that fit."""
    broken_at: int | None
    """Place of the first row that does not fit: it, or one before it, was changed or taken away."""
    why: str
    last_hash: str
    """Of the last row: kept elsewhere, it also shows that the chain's end was cut off."""


def _log(request: Request) -> AuditLog:
    log: AuditLog = request.app.state.audit
    return log


@router.get("")
async def list_entries(
    who: Admin,
    request: Request,
    before: Annotated[int | None, Query(ge=1, description="Only entries with a lower id.")] = None,
    action: Annotated[str, Query(max_length=100, description="Such as `approval.decide`.")] = "",
    object_id: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditEntry]:
    """List what was done, newest first."""
    return await _log(request).entries(who, before=before, action=action, object_id=object_id, limit=limit)


@router.get("/verify")
async def verify(who: Verifier, request: Request) -> Verdict:
    """Check that no row was changed or taken away since it was chained; rows since then are chained now."""
    found = await _log(request).verify(who)
    return Verdict(checked=found.checked, broken_at=found.broken_at, why=found.why, last_hash=found.last_hash)
