"""How a run's row changes: taken, waiting, woken, ended. Each function is one transaction.

Taking and ending are one statement each (`phoenix.storage.transitions`): every run does both.

Every write of a worker first checks that the run's attempt is still its own, with the row locked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.approval import Approval, Decision
from phoenix.domain.gates import BUDGET, GateRule
from phoenix.domain.run import Project, Run, RunError
from phoenix.engine import permissions
from phoenix.engine.admission import Admission, Change
from phoenix.engine.budget import MARK, Limits, interrupt_of, left_out, request_of, waiting_of
from phoenix.engine.forecasts import with_forecast
from phoenix.engine.policy import POLICY, asks, decision_of_policy
from phoenix.errors import BudgetSpent, RunSuperseded
from phoenix.storage import approvals, budgets, events, gate_rules, projects, runs, transitions, usage
from phoenix.storage.database import transaction
from phoenix.storage.runs import LockedRun, PendingInterrupt
from phoenix.storage.transitions import End, Transitions
from phoenix.telemetry import tracing
from phoenix.telemetry.metrics import RUNS_ENDED

WOKEN = True
"""What a `wait` is resumed with: it says nothing, rows do."""

Answers = Mapping[str, "Decision | bool"]
"""By interrupt id: a decision, or WOKEN for a wait."""


@dataclass(frozen=True)
class Taken:
    """A run that this worker has taken."""

    run: Run
    project: Project
    input: Any
    was_waiting: bool
    """It stopped by itself; otherwise it is new, or its last worker was interrupted."""
    was_unpaid: bool = False
    """It stopped since the project's budget was spent: the step that could not go on is done again."""

    @property
    def is_fresh(self) -> bool:
        """Whether nobody can have written to its thread: it is the first attempt of the first run there.

        The thread of a fork has what was copied.
        """
        run = self.run
        return run.attempt == 1 and run.thread_id == run.id and not self.project.forked_at


class Lifecycle:
    """Changes runs' rows.

    Args:
        database: Where rows are.
        admission: Gives places.
        moves: Takes and ends runs.
        worker: The advisory lock that this process holds while it lives.
        job_went: Told of a job that went with the end of its run.
    """

    def __init__(
        self,
        database: AsyncEngine,
        admission: Admission,
        moves: Transitions,
        *,
        worker: int,
        job_went: Callable[[int], None],
    ) -> None:
        self._database = database
        self._admission = admission
        self._moves = moves
        self._worker = worker
        self._job_went = job_went

    async def take(self, run_id: UUID) -> Taken | None:
        """Take a run for this worker; None when there is nothing to do on it, or somebody works on it.

        Raises:
            NotFound: there is no such run.
        """
        found = await self._moves.take(run_id, self._worker)
        if found.held:
            await self._admission.come({found.organisation_id})
        if found.run is None or found.project is None:
            return None
        was_waiting = found.was == "waiting"
        unpaid = was_waiting and any(interrupt.startswith(MARK) for interrupt in found.interrupts)
        return Taken(found.run, found.project, found.input.get("value"), was_waiting, unpaid)

    async def answers(self, run: Run, interrupts: Sequence[PendingInterrupt], *, woken: bool) -> Answers:
        """Return what pending interrupts can be resumed with now."""
        async with transaction(self._database) as connection:
            return await _answers(connection, run, interrupts, woken=woken)

    async def pause(self, run: Run, interrupts: Sequence[PendingInterrupt]) -> Answers:
        """Let a run wait, its approvals opened; or return the answers with which it goes on at once.

        Raises:
            RunSuperseded: another attempt has taken over.
        """
        async with self._admission.transaction() as change:
            connection = change.connection
            locked = await _own(connection, run)
            happened = await self._open_approvals(connection, run, interrupts)
            answers = await _answers(connection, run, interrupts, woken=locked.wake)
            if answers:
                await runs.go_on(connection, run.id)
            else:
                await runs.wait(connection, run.id, interrupts)
                change.left(run)
                names = [i.request.name for i in interrupts]
                happened.append(("run_waiting", {"key": run.key, "for": names}))
            for kind, data in happened:
                await events.append(connection, run.project_id, kind, data, run_id=run.id)
        return answers

    async def _open_approvals(
        self, connection: AsyncConnection, run: Run, interrupts: Sequence[PendingInterrupt]
    ) -> list[tuple[str, dict[str, Any]]]:
        happened: list[tuple[str, dict[str, Any]]] = []
        for_people = [pending for pending in interrupts if pending.request.kind != "wait"]
        if not for_people:
            return happened
        # Read now: the level and the rules may have changed since the run was taken.
        gates = await gate_rules.of_project(connection, run.project_id)
        for pending in for_people:
            asked = await with_forecast(connection, run.project_id, pending.request)
            rule = gates.rule(asked)
            decision = decision_of_policy(gates.approvals, asked, rule)
            # Nobody is waited for where the policy decides.
            kept = rule if decision is None else GateRule()
            opened = await approvals.request(connection, run.project_id, run.id, pending.id, asked, kept)
            if opened is None:
                continue
            about = _about(opened, run)
            happened.append(("approval_requested", about | _needed(opened, is_policy=decision is not None)))
            if decision is not None:
                await approvals.decide(
                    connection, opened.id, decision, by=POLICY, how="policy", digest=asked.value_digest
                )
                await permissions.settle(connection, opened, decision.verdict, by=POLICY)
                data = about | {"verdict": decision.verdict, "by": POLICY, "how": "policy", "reason": ""}
                happened.append(("approval_decided", data))
        return happened

    async def wait_for_budget(self, run: Run, project: Project, error: BudgetSpent) -> bool:
        """Let a run wait until it may use more; return False when nobody is asked for that.

        All runs of a project that a limit stops wait for one approval; one whose limit was raised meanwhile
        goes on. Where the budget is the organisation's, a run waits for the next day, or for a larger one.

        Args:
            run: Which.
            project: As it was when the run was taken.
            error: What is spent.

        Raises:
            RunSuperseded: another attempt has taken over.
        """
        async with self._admission.transaction() as change:
            connection = change.connection
            await _own(connection, run)
            if error.scope in ("organisation", "day"):
                await self._wait_for_organisation(change, run, error)
                return True
            root = (await runs.of_projects(connection, [project.id]))[project.id]
            await runs.lock(connection, root.id)  # before the project's row, as everywhere
            now = Limits(*await projects.lock_limits(connection, project.id))
            limit = now.of(error.scope, error.measure)
            if limit is None or limit != Limits(project.budget_usd, project.limits).of(
                error.scope, error.measure
            ):
                await runs.hand_back(connection, run.id)
                await change.due(run)
                data = {"key": run.key, "reason": "The budget has changed."}
                await events.append(connection, project.id, "run_handed_back", data, run_id=run.id)
                return True
            approval, is_new = await self._budget_approval(connection, project.id, root.id, error, limit)
            if approval is None or approval.decision is not None:
                return False
            await runs.wait(
                connection, run.id, [PendingInterrupt(id=approval.interrupt_id, request=approval.request)]
            )
            change.left(run)
            if is_new:
                data = _about(approval, root) | _needed(approval, is_policy=False)
                await events.append(connection, project.id, "approval_requested", data, run_id=root.id)
            names = {"key": run.key, "for": [BUDGET]}
            await events.append(connection, project.id, "run_waiting", names, run_id=run.id)
        return True

    async def _wait_for_organisation(self, change: Change, run: Run, error: BudgetSpent) -> None:
        """Let a run wait for the budget of its organisation; the sweep lets it look again."""
        connection = change.connection
        again = budgets.NEXT_DAY if error.scope == "day" else budgets.SOME_TIME
        await runs.wait(connection, run.id, [waiting_of(error)], resume_at=again)
        change.left(run)
        data = {"key": run.key, "for": [BUDGET], "scope": error.scope, "reason": str(error)}
        await events.append(connection, run.project_id, "run_waiting", data, run_id=run.id)

    async def _budget_approval(
        self,
        connection: AsyncConnection,
        project_id: UUID,
        root_id: UUID,
        error: BudgetSpent,
        limit: Decimal,
    ) -> tuple[Approval | None, bool]:
        """Return the approval at this limit, and whether it is new; None when nobody is asked."""
        for again in itertools.count():
            name = interrupt_of(error.scope, error.measure, limit, error.task, again=again)
            found = await approvals.of_interrupt(connection, root_id, name)
            if found is None:
                break
            if found.decision is None or found.decision.verdict == "reject":
                return found, False
        gates = await gate_rules.of_project(connection, project_id)
        decided = [one for one, _ in await approvals.decided_of(connection, project_id)]
        if left_out(decided).stopped:
            return None, False
        spent = (await usage.totals(connection, [project_id]))[project_id].cost_usd
        asked = request_of(error, limit, spent)
        rule = gates.rule(asked)
        if not asks(gates.approvals, asked.name, rule=rule):
            return None, False
        opened = await approvals.request(connection, project_id, root_id, name, asked, rule)
        return opened, True

    async def finish(
        self,
        run: Run,
        *,
        output: dict[str, Any] | None = None,
        error: RunError | None = None,
        job: int | None = None,
    ) -> None:
        """End a run: failed with an error, else with success; its parent is woken, and its job is gone.

        Raises:
            RunSuperseded: another attempt has taken over.
        """
        status = "success" if error is None else "failed"
        how = End(run, status, attempt=run.attempt, job=job, output=output, error=error)
        held = await self._moves.end(how)
        RUNS_ENDED.labels(run.flow, status).inc()
        tracing.run_ended(status, "" if error is None else error.code)
        if job is not None:
            self._job_went(job)
        if held:
            await self._admission.come(held)

    async def hand_back(self, run: Run, *, reason: str = "") -> None:
        """Give a run that this worker stops in the middle to any other; say why when it is not just a stop.

        Raises:
            RunSuperseded: another attempt has taken over.
        """
        async with self._admission.transaction() as change:
            connection = change.connection
            await _own(connection, run)
            await runs.hand_back(connection, run.id)
            await change.due(run)
            data = {"key": run.key} | ({"reason": reason} if reason else {})
            await events.append(connection, run.project_id, "run_handed_back", data, run_id=run.id)

    async def remember_base(self, run: Run, checkpoint_id: str) -> None:
        """Store where the thread stood when a run began.

        Raises:
            RunSuperseded: another attempt has taken over.
        """
        async with transaction(self._database) as connection:
            await _own(connection, run)
            await runs.set_base(connection, run.id, checkpoint_id)


def _about(approval: Approval, run: Run) -> dict[str, Any]:
    asked = approval.request
    return {"approval_id": str(approval.id), "kind": asked.kind, "name": asked.name, "key": run.key}


def _needed(approval: Approval, *, is_policy: bool) -> dict[str, Any]:
    """Return what an event says of who is asked and until when."""
    if is_policy:
        return {"policy": True}
    deadline = approval.deadline_at.isoformat() if approval.deadline_at else None
    return {"policy": False, "needs": approval.needs().model_dump(mode="json"), "deadline_at": deadline}


async def _own(connection: AsyncConnection, run: Run) -> LockedRun:
    locked = await runs.lock(connection, run.id)
    if locked.run.attempt != run.attempt or locked.run.status != "running":
        raise RunSuperseded(
            f"Run {run.id} is at attempt {locked.run.attempt} ({locked.run.status}), this was {run.attempt}."
        )
    return locked


async def _answers(
    connection: AsyncConnection, run: Run, interrupts: Sequence[PendingInterrupt], *, woken: bool
) -> Answers:
    asked = [i.id for i in interrupts if i.request.kind != "wait"]
    found: dict[str, Decision | bool] = dict(await approvals.decided(connection, run.id, asked))
    if woken:
        found |= {i.id: WOKEN for i in interrupts if i.request.kind == "wait"}
    return found


async def end(change: Change, locked: LockedRun, status: str, *, error: RunError | None = None) -> None:
    """End a locked run, wake its parent, and let the next run of its thread come."""
    change.organisations |= await transitions.end(change.connection, End(locked.run, status, error=error))
