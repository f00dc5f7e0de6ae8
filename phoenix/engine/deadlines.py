"""Deadlines: people are reminded of approvals, others are asked, and at last the rule decides.

A part of every worker's sweep, by the database's clock. No job and no thread's lock is held meanwhile: what
is due is found by an index, and whoever comes first with the approval's row locked does it, once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from phoenix.domain.approval import Approval, Decision
from phoenix.engine.admission import Admission, Change
from phoenix.engine.decisions import Asked, close, hold
from phoenix.engine.policy import DEADLINE, decision_of_deadline
from phoenix.engine.waits import let_look_again
from phoenix.errors import Conflict, DomainInvalid, InputError
from phoenix.storage import approvals, events

log = structlog.get_logger(__name__)


class Deadlines:
    """Does what is due about approvals that nobody decides."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def sweep(self) -> int:
        """Do what is due now, and return on how many approvals."""
        async with self._admission.transaction() as change:
            due = await approvals.due(change.connection)
        for approval in due:
            try:
                await self._one(approval)
            except (Conflict, InputError, DomainInvalid) as error:
                # What is wrong with one keeps none of the others.
                log.warning("approval_not_looked_after", approval_id=str(approval.id), error=str(error))
        await let_look_again(self._admission)
        return len(due)

    async def _one(self, approval: Approval) -> None:
        async with self._admission.transaction() as change:
            asked = await hold(change.connection, approval)
            held = asked.approval
            if held.decision is not None or not asked.is_due:
                return  # somebody was faster
            if not asked.waiting:
                await _told(change, asked, next_at=None)
            elif held.deadline_at is not None and held.deadline_at <= asked.now:
                await _expire(change, asked)
            elif _is_late(asked):
                await _escalate(change, asked)
            else:
                await _remind(change, asked)


def _times(approval: Approval) -> list[datetime]:
    return [approval.created_at + timedelta(seconds=s) for s in approval.rule.remind_seconds]


def _is_late(asked: Asked) -> bool:
    approval = asked.approval
    escalation = approval.rule.escalation
    if escalation is None or approval.escalated_at is not None:
        return False
    return approval.created_at + timedelta(seconds=escalation.after_seconds) <= asked.now


def _next(asked: Asked) -> datetime | None:
    """Return when something is to be done again."""
    approval = asked.approval
    coming = _times(approval)
    if approval.rule.escalation is not None and approval.escalated_at is None:
        coming.append(approval.created_at + timedelta(seconds=approval.rule.escalation.after_seconds))
    if approval.deadline_at is not None:
        coming.append(approval.deadline_at)
    return min((at for at in coming if at > asked.now), default=None)


async def _told(
    change: Change,
    asked: Asked,
    *,
    next_at: datetime | None,
    reminders: int | None = None,
    escalated_at: datetime | None = None,
) -> None:
    await approvals.told(
        change.connection,
        asked.approval.id,
        next_at=next_at,
        reminders=asked.reminders if reminders is None else reminders,
        escalated_at=escalated_at or asked.approval.escalated_at,
    )


async def _say(change: Change, asked: Asked, kind: str, **data: object) -> None:
    approval = asked.approval
    deadline = approval.deadline_at.isoformat() if approval.deadline_at else None
    told = asked.about | {"deadline_at": deadline} | data
    await events.append(change.connection, approval.project_id, kind, told, run_id=approval.run_id)


async def _remind(change: Change, asked: Asked) -> None:
    """Remind once, of however many reminders are due: after an outage nobody gets them all."""
    passed = sum(at <= asked.now for at in _times(asked.approval))
    await _told(change, asked, next_at=_next(asked), reminders=passed)
    if passed > asked.reminders:  # it is due a moment early where two clocks were read for one row
        needs = asked.approval.needs().model_dump(mode="json")
        await _say(change, asked, "approval_reminded", number=passed, needs=needs)


async def _escalate(change: Change, asked: Asked) -> None:
    escalated = asked.approval.model_copy(update={"escalated_at": asked.now})
    after = Asked(escalated, asked.waiting, asked.reminders, asked.now)
    await _told(change, after, next_at=_next(after))
    await _say(change, asked, "approval_escalated", needs=escalated.needs().model_dump(mode="json"))


async def _expire(change: Change, asked: Asked) -> None:
    """Decide as the rule says; without that, or where it does not fit, the approval waits on."""
    decision = decision_of_deadline(asked.approval.request, asked.approval.rule)
    outcome = _outcome(decision)
    if decision is None:
        await _told(change, asked, next_at=None)
    await _say(change, asked, "approval_expired", outcome=outcome)
    if decision is not None:
        await close(change, asked, decision, by=DEADLINE, how="deadline")


def _outcome(decision: Decision | None) -> str:
    if decision is None:
        return "waits"
    return "defaults" if decision.verdict == "respond" else decision.verdict
