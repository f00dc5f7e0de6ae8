"""What a project may spend, and how that changes."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.run import Project
from phoenix.errors import BudgetInvalid
from phoenix.storage import events, projects


def check_budget(amount: Decimal) -> None:
    """Check that an amount of USD can be a budget.

    Raises:
        BudgetInvalid: it is not a positive amount.
    """
    if not amount.is_finite() or amount <= 0:
        raise BudgetInvalid(field="budget_usd", hint="Give an amount above 0, such as 5.")


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
    if amount <= before:
        raise BudgetInvalid(
            f"The budget is {before:f} USD already, and {amount:f} is not more.",
            field="budget_usd",
            hint="Give the whole amount that the project may cost, not what is added.",
        )
    await projects.set_budget(connection, project.id, amount)
    data = {"from_usd": str(before), "budget_usd": str(amount)}
    await events.append(connection, project.id, "budget_raised", data, run_id=root)
