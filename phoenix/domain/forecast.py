"""What the tasks of a plan are expected to cost, said when people decide on the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

from phoenix.domain.frozen import Frozen
from phoenix.domain.run import Usage

Size = Literal["S", "M", "L"]
LEAST_TASKS = 5
"""Finished tasks of a size that it takes for their cost to say something."""


class Range(Frozen):
    """What a task costs, in USD: half of all tasks cost less than `usd`, a tenth less than `low`, and a tenth
    more than `high`."""

    usd: Decimal
    low: Decimal
    high: Decimal
    tasks: int = 0
    """From how many finished tasks of the organisation; 0 for what is assumed where there are too few."""


ASSUMED: Mapping[str, Range] = {
    "S": Range(usd=Decimal("0.30"), low=Decimal("0.05"), high=Decimal("1.00")),
    "M": Range(usd=Decimal("1.00"), low=Decimal("0.20"), high=Decimal("3.00")),
    "L": Range(usd=Decimal("3.00"), low=Decimal("0.60"), high=Decimal("10.00")),
}
"""By size, where no past is known: assumed for hosted models and one agent loop a task, not measured."""


class TaskForecast(Frozen):
    """What one task is expected to cost."""

    task: str
    size: Size
    cost: Range


class Forecast(Frozen):
    """What the tasks of a plan are expected to cost. The range of the sum is the sum of the ranges."""

    tasks: list[TaskForecast]
    usd: Decimal
    low: Decimal
    high: Decimal


class TaskCost(Frozen):
    """What a task used, beside what was expected; None where nothing was."""

    task: str
    usage: Usage
    expected: Range | None = None


def forecast(sizes: Sequence[tuple[str, Size]], past: Mapping[str, Range]) -> Forecast:
    """Return what tasks are expected to cost, from what tasks of their size did cost.

    Args:
        sizes: Id and size of each task.
        past: By size; one of fewer than `LEAST_TASKS` tasks is not used.
    """
    known = {size: found for size, found in past.items() if found.tasks >= LEAST_TASKS}
    tasks = [TaskForecast(task=i, size=size, cost=known.get(size, ASSUMED[size])) for i, size in sizes]
    return Forecast(
        tasks=tasks,
        usd=sum((t.cost.usd for t in tasks), Decimal(0)),
        low=sum((t.cost.low for t in tasks), Decimal(0)),
        high=sum((t.cost.high for t in tasks), Decimal(0)),
    )


def beside(expected: Forecast | None, used: Mapping[str, Usage]) -> list[TaskCost]:
    """Return what each task used beside what was expected, tasks in the plan's order, others after them."""
    ranges = {t.task: t.cost for t in expected.tasks} if expected else {}
    names = [*ranges, *sorted(name for name in used if name and name not in ranges)]
    return [TaskCost(task=n, usage=used.get(n, Usage()), expected=ranges.get(n)) for n in names]
