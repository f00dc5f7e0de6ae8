"""What a project may spend, and how that changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import cast
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.approval import Approval, Decision, HumanRequest
from phoenix.domain.budget import Measure, ProjectLimits
from phoenix.domain.gates import BUDGET, LeftOut, SpentBudget
from phoenix.domain.run import Project
from phoenix.errors import BudgetInvalid, BudgetSpent, DomainInvalid
from phoenix.flow.forms import as_form, digest_of_value, schema_of
from phoenix.storage import events, projects
from phoenix.storage.runs import PendingInterrupt

MARK = "budget:"
"""How the interrupt of a spent budget begins: it is the engine's, and no graph's."""


def check_budget(amount: Decimal) -> None:
    """Check that an amount of USD can be a budget.

    Raises:
        BudgetInvalid: it is not a positive amount.
    """
    if not amount.is_finite() or amount <= 0:
        raise BudgetInvalid(field="budget_usd", hint="Give an amount above 0, such as 5.")


def check_raise(amount: Decimal, before: Decimal) -> None:
    """Check that a budget can become this amount.

    Raises:
        BudgetInvalid: it is not above what it was.
    """
    check_budget(amount)
    if amount <= before:
        raise BudgetInvalid(
            f"The budget is {before:f} USD already, and {amount:f} is not more.",
            field="budget_usd",
            hint="Give the whole amount that the project may cost, not what is added.",
        )


async def raise_budget(connection: AsyncConnection, project: Project, amount: Decimal, *, root: UUID) -> None:
    """Raise a project's budget, in the caller's transaction, which holds the project's runs.

    Raises:
        BudgetInvalid: it is not above what it was.
    """
    check_budget(amount)
    before = await projects.lock_budget(connection, project.id)
    if before is None:
        raise BudgetInvalid(
            "This project has no budget, so there is none to raise.",
            field="budget_usd",
            hint="Leave it out.",
        )
    check_raise(amount, before)
    await projects.set_budget(connection, project.id, amount)
    data = {"from_usd": str(before), "budget_usd": str(amount)}
    await events.append(connection, project.id, "budget_raised", data, run_id=root)


@dataclass(frozen=True)
class Limits:
    """What a project may use, as its row says."""

    budget_usd: Decimal | None
    others: ProjectLimits

    def of(self, scope: str, measure: str) -> Decimal | None:
        """Return the limit of a project or of its tasks; None when there is none."""
        if scope == "project" and measure == "usd":
            return self.budget_usd
        holder = self.others if scope == "project" else self.others.task
        found = getattr(holder, measure, None)
        return None if found is None else Decimal(found)


def interrupt_of(scope: str, measure: str, limit: Decimal, task: str = "", *, again: int = 0) -> str:
    """Return the interrupt that all runs of a project wait at that this limit stops.

    Args:
        scope: `project` or `task`.
        measure: Of what.
        limit: How much.
        task: Of scope `task` its id.
        again: How often people have decided on this limit without raising it.
    """
    amount = f"{limit.normalize():f}"
    name = amount if (scope, measure) == ("project", "usd") else f"{scope} {task} {measure} {amount}"
    return f"{MARK}{name}" + (f" #{again}" if again else "")


def is_budget(approval: Approval) -> bool:
    """Tell whether an approval is about a spent budget."""
    return approval.interrupt_id.startswith(MARK)


def request_of(error: BudgetSpent, limit: Decimal, spent: Decimal | None) -> HumanRequest:
    """Return what is asked when a budget is spent: as much again, another amount, less to do, or to stop."""
    in_usd = error.measure == "usd"
    value = SpentBudget(
        reason=error.message,
        scope="task" if error.scope == "task" else "project",
        measure=cast("Measure", error.measure),
        budget_usd=limit if in_usd else None,
        spent_usd=spent,
        limit=None if in_usd else int(limit),
        extend_by_usd=_as_much_again(limit) if in_usd else None,
        extend_by=None if in_usd else int(limit),
    )
    return HumanRequest(
        kind="approve",
        name=BUDGET,
        value_digest=digest_of_value(value),
        value=as_form(value),
        answer_schema=schema_of(SpentBudget),
        verdicts=["approve", "edit", "reject"],
    )


def _as_much_again(limit: Decimal) -> Decimal:
    """Return an amount that may be asked for: budgets may be finer."""
    short = max(limit.quantize(Decimal("0.0001")), Decimal("0.0001"))
    return limit if limit == short else short


def waiting_of(error: BudgetSpent) -> PendingInterrupt:
    """Return what a run waits at that its organisation's budget stops: nobody decides on it there."""
    request = HumanRequest(
        kind="wait",
        name=BUDGET,
        value_digest="",
        value={"scope": error.scope, "measure": error.measure, "reason": error.message},
    )
    return PendingInterrupt(id=f"{MARK}{error.scope}", request=request)


def answer_of(approval: Approval, decision: Decision) -> SpentBudget:
    """Return what a decision says: what was shown, with what it says instead.

    An amount that is only shown does not extend a budget whose scope is cut, or whose work is stopped.

    Raises:
        DomainInvalid: an amount is none, or does not go with the measure.
    """
    given = decision.value or {}
    editable = ("extend_by_usd", "extend_by", "leave_out", "stop")
    said = {name: given[name] for name in editable if name in given}
    shown = dict(approval.request.value)
    if said.get("leave_out") or said.get("stop"):
        cut = ("extend_by_usd", "extend_by")
        said |= {name: None for name in cut if given.get(name) == shown.get(name)}
        said |= {name: None for name in cut if name not in given}
    try:
        answer = SpentBudget.model_validate(shown | said)
    except ValidationError as error:
        first = error.errors()[0]
        raise DomainInvalid([(".".join(map(str, first["loc"])), str(first["msg"]))]) from error
    wrong = "extend_by" if answer.measure == "usd" else "extend_by_usd"
    if getattr(answer, wrong) is not None:
        raise DomainInvalid([(wrong, f"what is spent here is counted in {answer.measure}")])
    is_cut = bool(answer.leave_out) or answer.stop
    if not is_cut and answer.extend_by is None and answer.extend_by_usd is None:
        raise DomainInvalid([("extend_by_usd", "give an amount, tasks to leave out, or stop: true")])
    return answer


async def extend(connection: AsyncConnection, project: Project, answer: SpentBudget, *, root: UUID) -> None:
    """Extend a limit as people said, in the caller's transaction, which holds the project's runs."""
    budget_usd, limits = await projects.lock_limits(connection, project.id)
    before = Limits(budget_usd, limits).of(answer.scope, answer.measure)
    more = answer.extend_by_usd if answer.measure == "usd" else answer.extend_by
    if before is None or more is None:
        return
    after = before + more
    if (answer.scope, answer.measure) == ("project", "usd"):
        await raise_budget(connection, project, after, root=root)
        return
    raised: Decimal | int = after if answer.measure == "usd" else int(after)
    if answer.scope == "project":
        limits = limits.model_copy(update={answer.measure: raised})
    else:
        limits = limits.model_copy(update={"task": limits.task.model_copy(update={answer.measure: raised})})
    await projects.set_limits(connection, project.id, limits)
    data = {"scope": answer.scope, "measure": answer.measure, "from": str(before), "limit": str(after)}
    await events.append(connection, project.id, "limit_raised", data, run_id=root)


def left_out(decided: Iterable[Approval]) -> LeftOut:
    """Return what was taken out of a project's scope by decisions on its budget."""
    tasks: dict[str, str] = {}
    stopped = ""
    for approval in decided:
        decision = approval.decision
        if decision is None or decision.verdict == "reject" or not is_budget(approval):
            continue
        answer = answer_of(approval, decision)
        why = f"left out by {approval.decided_by or 'people'} when the budget was spent"
        why += f": {decision.reason}" if decision.reason.strip() else ""
        tasks |= dict.fromkeys(answer.leave_out, why)
        stopped = why if answer.stop else stopped
    return LeftOut(tasks=tasks, stopped=stopped)
