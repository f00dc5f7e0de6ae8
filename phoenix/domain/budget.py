"""What may be used, by whom, and what a call that is about to be made may use of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from phoenix.domain.frozen import Frozen

Scope = Literal["task", "project", "organisation", "day"]
"""What a budget covers; `day` is the organisation's day, in UTC."""

Measure = Literal["usd", "tokens", "calls", "wall_seconds"]

Usd = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=12, strict=False)]
Count = Annotated[int, Field(ge=1, le=2**53)]


class Budget(Frozen):
    """Limits of one scope; None stands for no such limit."""

    usd: Usd | None = None
    tokens: Count | None = None
    """Of input and output together."""
    calls: Count | None = None
    wall_seconds: Count | None = None
    """Since the work began, without the time in which it waited for people."""


class ProjectLimits(Frozen):
    """Limits of a project beside its budget in USD, and of each of its tasks."""

    tokens: Count | None = None
    calls: Count | None = None
    wall_seconds: Count | None = None
    """Since the project began, without the time in which it waited for people."""
    task: Budget = Budget()
    """Of every task by itself."""


class DayLimits(Frozen):
    """Limits of an organisation's day (UTC) beside its USD a day."""

    tokens: Count | None = None
    calls: Count | None = None


class OrganisationLimits(Frozen):
    """Limits of an organisation beside its USD a day; without end, so until somebody raises them."""

    usd: Usd | None = None
    tokens: Count | None = None
    calls: Count | None = None
    day: DayLimits = DayLimits()


class Most(Frozen):
    """The most that one call can use when its answer may have so many tokens."""

    output_tokens: int = Field(ge=1)
    """The limit that the answer is asked for with."""
    tokens: int = Field(ge=1)
    """Of input and output together."""
    usd: Decimal | None
    """None when the price is unknown: then only what is known counts."""


class Spent(Frozen):
    """A limit that the next call would pass, and how much of it is used. Amounts are of the measure."""

    scope: Scope
    measure: Measure
    limit: Decimal
    used: Decimal
    task: str = ""
    """Of scope `task` its id."""

    def __str__(self) -> str:
        whose = {
            "task": f"Task {self.task}",
            "project": "The project",
            "organisation": "Your organisation",
            "day": "Your organisation's day (UTC)",
        }[self.scope]
        rest = "." if self.used >= self.limit else ", and the next call can take more than is left."
        if self.measure == "usd":
            return f"{whose} has spent {self.used:.2f} of {self.limit:.2f} USD{rest}"
        unit = "seconds" if self.measure == "wall_seconds" else self.measure
        return f"{whose} has used {self.used:.0f} of {self.limit:.0f} {unit}{rest}"


class Hold(Frozen):
    """What is held of budgets for one call, from before it is made until it is counted."""

    id: UUID
    most: Most
    lowered_by: Spent | None = None
    """The limit that affords a shorter answer only than was wanted."""


def task_of(name: str) -> str:
    """Return the task that a caller's work counts for: `T3` of `T3/review`."""
    return name.partition("/")[0]
