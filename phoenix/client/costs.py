"""What a project's model calls used, as the service answers it."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel

from phoenix.domain.budget import ProjectLimits
from phoenix.domain.forecast import TaskCost
from phoenix.domain.organisation import UsageLine
from phoenix.domain.run import Usage


class Costs(BaseModel):
    """A project's costs, its tasks beside what was expected of them."""

    total: Usage
    tasks: list[TaskCost] = []
    budget_usd: Decimal | None = None
    limits: ProjectLimits = ProjectLimits()


class UsagePage(BaseModel):
    """A part of a list of lines of usage."""

    items: list[UsageLine]
    next: str | None = None
