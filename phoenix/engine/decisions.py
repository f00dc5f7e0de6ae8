"""Decisions: votes are counted, the decision is written once, and what waits for it goes on.

Locks are taken in one order by all who decide: the waiting runs, then the approval, then the project.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.approval import Approval, DecidedHow, Decision
from phoenix.domain.gates import SpentBudget
from phoenix.domain.identity import Principal
from phoenix.domain.run import FINISHED, RunError
from phoenix.engine import budget, permissions
from phoenix.engine.admission import Admission, Change
from phoenix.engine.deciders import refusal, refusal_here
from phoenix.engine.lifecycle import end
from phoenix.engine.work import Work, joined
from phoenix.errors import BudgetSpent, DecisionConflict, DomainInvalid, Forbidden
from phoenix.flow import check_decision
from phoenix.storage import approvals, audit, events, projects, runs, votes
from phoenix.storage.database import transaction
from phoenix.storage.direct import Together
from phoenix.storage.runs import LockedRun

BUILD = "build/"
"""How the keys of runs begin that build a task."""


@dataclass(frozen=True)
class Asked:
    """An approval whose row this transaction holds, and those of the runs that wait for it."""

    approval: Approval
    waiting: Sequence[LockedRun]
    reminders: int
    now: datetime
    is_due: bool = False

    @property
    def is_open(self) -> bool:
        """Whether a decision can still be taken."""
        return self.approval.decision is None and bool(self.waiting)

    @property
    def about(self) -> dict[str, Any]:
        """What every event on it says."""
        asked = self.approval.request
        key = next((one.run.key for one in self.waiting if one.run.id == self.approval.run_id), "")
        return {"approval_id": str(self.approval.id), "kind": asked.kind, "name": asked.name, "key": key}


async def hold(connection: AsyncConnection, approval: Approval) -> Asked:
    """Lock the runs that wait for an approval, and its row."""
    if budget.is_budget(approval):
        locked = await runs.lock_project(connection, approval.project_id)
    else:
        locked = [await runs.lock(connection, approval.run_id)]
    held = await approvals.hold(connection, approval.id)
    waiting = [one for one in locked if _waits(one, approval)]
    return Asked(held.approval, waiting, held.reminders, held.now, held.is_due)


def _waits(locked: LockedRun, approval: Approval) -> bool:
    return locked.run.status not in FINISHED and any(
        i.id == approval.interrupt_id and i.request.value_digest == approval.request.value_digest
        for i in locked.interrupts
    )


async def close(change: Change, asked: Asked, decision: Decision, *, by: str, how: DecidedHow) -> Approval:
    """Write a decision on an open approval, and let what waits for it go on.

    Raises:
        DecisionConflict: there is one already.
    """
    connection, approval = change.connection, asked.approval
    decided = await approvals.decide(
        connection, approval.id, decision, by=by, how=how, digest=approval.request.value_digest
    )
    if decided is None or not asked.waiting:
        raise _late(approval)
    await permissions.settle(connection, approval, decision.verdict, by=by)
    is_budget = budget.is_budget(approval)
    is_stop = is_budget and decision.verdict == "reject"
    if is_budget and not is_stop:
        is_stop = await _budgeted(change, asked, decision, by=by)
    if not is_stop:
        for locked in await _left_waiting(connection, asked, is_budget=is_budget):
            await runs.set_wake(connection, locked.run.id)
            if locked.run.status == "waiting":
                await change.due(locked.run)
    data = asked.about | {"verdict": decision.verdict, "by": by, "how": how, "reason": decision.reason}
    await events.append(connection, approval.project_id, "approval_decided", data, run_id=approval.run_id)
    if is_stop:
        await _stop(change, asked, decision, by=by)
    return decided


async def _left_waiting(connection: AsyncConnection, asked: Asked, *, is_budget: bool) -> Sequence[LockedRun]:
    """Return the runs that still wait for an approval: a budget's may have ended some."""
    if not is_budget:
        return asked.waiting
    open_now = {
        one.run.id
        for one in await runs.lock_project(connection, asked.approval.project_id)
        if one.run.status not in FINISHED
    }
    return [one for one in asked.waiting if one.run.id in open_now]


async def _stop(change: Change, asked: Asked, decision: Decision, *, by: str) -> None:
    """End what waits for a larger budget; what is done so far is kept, and `resume` could still go on."""
    said = BudgetSpent(f"The project was stopped at its budget by {by}: {decision.reason}")
    error = RunError(code=said.code, category=said.category, message=said.message)
    for locked in asked.waiting:
        await end(change, locked, "failed", error=error)


async def _budgeted(change: Change, asked: Asked, decision: Decision, *, by: str) -> bool:
    """Extend a budget, or cut what is to be done; tell whether there is nothing left that could go on."""
    connection, approval = change.connection, asked.approval
    answer = budget.answer_of(approval, decision)
    project = await projects.get(connection, approval.project_id)
    if answer.leave_out or answer.stop:
        all_runs = await runs.lock_project(connection, project.id)
        if answer.stop and not any(locked.run.key.startswith(BUILD) for locked in all_runs):
            return True
        await _leave_out(change, all_runs, answer, by=by)
        data = {"tasks": answer.leave_out, "stop": answer.stop, "by": by, "reason": decision.reason}
        await events.append(connection, project.id, "scope_cut", data, run_id=approval.run_id)
    await budget.extend(connection, project, answer, root=approval.run_id)
    return False


async def _leave_out(change: Change, all_runs: Sequence[LockedRun], answer: SpentBudget, *, by: str) -> None:
    """End the runs of tasks that are left out; whoever works on them can write no more."""
    error = RunError(code="left_out", category="budget", message=f"It was left out by {by}.")
    for locked in all_runs:
        run = locked.run
        task = run.key.rpartition("/")[2]
        is_out = task in answer.leave_out or (answer.stop and run.key.startswith(BUILD))
        if run.parent_id is not None and run.status not in FINISHED and is_out:
            await runs.supersede(change.connection, run.id)
            await end(change, locked, "cancelled", error=error)


def _late(approval: Approval) -> DecisionConflict:
    """Return what whoever comes too late is told: who decided, and what, where somebody did."""
    why = "its run has moved on"
    if approval.decision is not None:
        why = f"the decision of {approval.decided_by} was {approval.decision.verdict}"
    return DecisionConflict(
        f"This approval is no longer open: {why}.",
        hint=f"`phoenix show {str(approval.project_id)[:8]}` shows what is open.",
    )


class _Turn:
    """Whose turn it is to decide an approval, of those who do so at once in this process."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.decided: Approval | None = None
        """As it was committed: a decision is never taken back."""


class Decisions:
    """Takes what people decide.

    Those who decide the same approval at once take turns before they take locks in the database, which
    decides between processes: whoever comes after the decision need not wait there to hear of it.
    """

    def __init__(self, database: AsyncEngine, admission: Admission) -> None:
        self._database = database
        self._admission = admission
        self._looks: Together[UUID, Approval] = Together(self._look)
        self._turns: WeakValueDictionary[UUID, _Turn] = WeakValueDictionary()

    async def _look(self, some: list[UUID]) -> Sequence[Approval | Exception]:
        async with transaction(self._database) as connection:
            found = await approvals.all_without_votes(connection, some)
        return [found.get(one) or approvals.missing(one) for one in some]

    async def get(self, approval_id: UUID) -> Approval:
        """Return an approval with its votes.

        Raises:
            NotFound: there is none of that id.
        """
        async with transaction(self._database) as connection:
            return await approvals.get(connection, approval_id)

    async def decide(
        self,
        approval_id: UUID,
        decision: Decision,
        *,
        by: str,
        who: Principal | None = None,
        digest: str = "",
        work: Work | None = None,
    ) -> Approval:
        """Decide an open approval, or add a vote to it; see `Engine.decide`."""
        if work is None:
            approval = await self._looks(approval_id)
        else:
            approval = await approvals.without_votes(work.connection, approval_id)
        _check_fits(approval, decision, digest)
        if work is not None:  # its commit is elsewhere
            return await self._decide(approval, decision, by=by, who=who, work=work)
        turn = self._turns.setdefault(approval_id, _Turn())
        async with turn.lock:
            if turn.decided is not None:
                raise _late(turn.decided)
            outcome = await self._decide(approval, decision, by=by, who=who, work=None)
            turn.decided = outcome if outcome.decision is not None else None
            return outcome

    async def _decide(
        self, approval: Approval, decision: Decision, *, by: str, who: Principal | None, work: Work | None
    ) -> Approval:
        async with self._admission.transaction(work) as change:
            held = await hold(change.connection, approval)
            if not held.is_open:
                raise _late(held.approval)
            await self._check_who(change.connection, held.approval, decision, who, work)
            return await self._vote(change, held, decision, by=by, who=who)

    async def extend(
        self, project_id: UUID, budget_usd: Decimal, *, by: str, work: Work | None = None
    ) -> bool:
        """Decide the open approval of a project's spent budget, so that it is this; False when there is none.

        Raises:
            BudgetInvalid: it is not above what it was.
            Forbidden, DomainInvalid: as `decide`.
        """
        async with joined(self._database, work) as connection:
            opened = [a for a in await approvals.open_of(connection, [project_id]) if budget.is_budget(a)]
            project = await projects.get(connection, project_id)
        if not opened or project.budget_usd is None:
            return False
        budget.check_raise(budget_usd, project.budget_usd)
        before = project.budget_usd
        asked = [
            a for a in opened if a.interrupt_id.startswith(budget.interrupt_of("project", "usd", before))
        ]
        if not asked:
            return False
        more = {"extend_by_usd": str(budget_usd - before)}
        decision = Decision(verdict="approve", value=more)
        who = None if work is None else work.who
        await self.decide(asked[0].id, decision, by=by if who is None else who.email, who=who, work=work)
        return True

    async def _check_who(
        self,
        connection: AsyncConnection,
        approval: Approval,
        decision: Decision,
        who: Principal | None,
        work: Work | None,
    ) -> None:
        if who is None:
            why = refusal_here(approval)
        else:
            is_strict = approval.rule.four_eyes
            authors = await votes.authors(connection, approval.project_id) if is_strict else set()
            why = refusal(who, approval, authors, decision.verdict)
        if not why:
            return
        if who is not None:
            await self.refused(who, approval, decision, why, request_id=work.request_id if work else "")
        raise Forbidden(why, hint="Ask somebody else who may decide; `needs` says who.")

    async def refused(
        self, who: Principal, approval: Approval, decision: Decision, why: str, *, request_id: str
    ) -> None:
        """Note in the audit log what somebody tried; apart from their own transaction, which is undone."""
        async with transaction(self._database) as connection:
            await audit.note(
                connection,
                who,
                "approval.refused",
                approval.id,
                request_id=request_id,
                project_id=str(approval.project_id),
                gate=approval.request.name,
                verdict=decision.verdict,
                why=why,
            )

    async def _vote(
        self, change: Change, held: Asked, decision: Decision, *, by: str, who: Principal | None
    ) -> Approval:
        approval, connection = held.approval, change.connection
        added = await votes.add(
            connection,
            approval.id,
            voter=by,
            voter_id=who.user_id if who else None,
            verdict=decision.verdict,
            reason=decision.reason,
            value_digest=approval.request.value_digest,
            escalated=approval.escalated_at is not None,
        )
        if not added:
            raise DecisionConflict("You have voted on this already.", hint="It waits for somebody else.")
        count = approval.approvals + (decision.verdict == "approve")
        if decision.verdict == "approve" and count < approval.rule.quorum:
            data = held.about | {"by": by, "votes": count, "quorum": approval.rule.quorum}
            await events.append(
                connection, approval.project_id, "approval_voted", data, run_id=approval.run_id
            )
        else:
            approval = await close(change, held, decision, by=by, how="person")
        given = await votes.of(connection, [approval.id])
        return approval.model_copy(update={"votes": given[approval.id]})


def _check_fits(approval: Approval, decision: Decision, digest: str) -> None:
    """Check a decision against an approval as it was looked at, which is not held yet.

    Raises:
        DecisionConflict: it is decided, or about another value than whoever decides has seen.
        DomainInvalid: the decision is none that it takes.
    """
    asked = approval.request
    if digest and digest != asked.value_digest:
        raise DecisionConflict(
            "What this approval is about has changed since it was looked at.",
            hint="Look at it again and decide then.",
        )
    if approval.decision is not None:
        raise _late(approval)
    check_decision(asked, decision)
    _check_alone(approval, decision)
    if budget.is_budget(approval) and decision.verdict != "reject":
        budget.answer_of(approval, decision)


def _check_alone(approval: Approval, decision: Decision) -> None:
    """Check that nobody gives an approval of several people another value than all of them see.

    Raises:
        DomainInvalid: it would.
    """
    if approval.rule.quorum > 1 and decision.verdict != "reject" and decision.value is not None:
        why = (
            f"this takes {approval.rule.quorum} approvals of the same value: reject it with what is to change"
        )
        raise DomainInvalid([("verdict", why)])
