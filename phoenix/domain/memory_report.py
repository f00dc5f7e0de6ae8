"""What memory is worth: projects that ran with it beside those held out, and how certain that is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from statistics import fmean

from phoenix.domain.frozen import Frozen

LEAST_PROJECTS = 10
"""On each side; with fewer an interval says more about chance than about memory."""
RESAMPLES = 2000
SEED = 20260226
TAIL = 0.025


class Measured(Frozen):
    """How one delivered project went."""

    held_out: bool
    tasks: int
    first_try: int
    """Tasks that were accepted without having been sent back."""
    calls: int
    cost_usd: Decimal | None


class Side(Frozen):
    """Projects that ran alike, their figures for each project. Costs are of those whose prices are known."""

    projects: int
    tasks: int
    first_try: float | None
    """Share of all their tasks."""
    calls: float | None
    cost_usd: float | None


class Difference(Frozen):
    """With memory less without, and the 95 % interval of it (percentile bootstrap over projects)."""

    value: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Tell whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


class MemoryReport(Frozen):
    """What memory is worth, as far as it can be told. None where it cannot."""

    recalling: Side
    held_out: Side
    first_try: Difference | None = None
    calls: Difference | None = None
    cost_usd: Difference | None = None
    said: str


def report(projects: Sequence[Measured]) -> MemoryReport:
    """Compare projects by whether they were held out. The same projects give the same report."""
    arms = [p for p in projects if not p.held_out], [p for p in projects if p.held_out]
    sides = [_side(arm) for arm in arms]
    if min(map(len, arms)) < LEAST_PROJECTS:
        return MemoryReport(
            recalling=sides[0],
            held_out=sides[1],
            said=f"Too few projects: {len(arms[0])} with memory and {len(arms[1])} without;"
            f" {LEAST_PROJECTS} of each are the least that say anything.",
        )
    first_try = _difference(*arms, _first_try)
    calls, cost = _difference(*arms, _calls), _difference(*arms, _cost)
    assert first_try is not None
    points = (
        f"{first_try.value * 100:+.1f} points ({first_try.low * 100:+.1f} to {first_try.high * 100:+.1f})"
    )
    verdict = "beyond chance" if first_try.is_certain else "chance alone could explain it"
    return MemoryReport(
        recalling=sides[0],
        held_out=sides[1],
        first_try=first_try,
        calls=calls,
        cost_usd=cost,
        said=f"First-try success with memory: {points}: {verdict}.",
    )


def _side(arm: Sequence[Measured]) -> Side:
    return Side(
        projects=len(arm),
        tasks=sum(p.tasks for p in arm),
        first_try=_first_try(arm),
        calls=_calls(arm),
        cost_usd=_cost(arm),
    )


def _first_try(arm: Sequence[Measured]) -> float | None:
    tasks = sum(p.tasks for p in arm)
    return sum(p.first_try for p in arm) / tasks if tasks else None


def _calls(arm: Sequence[Measured]) -> float | None:
    return fmean(p.calls for p in arm) if arm else None


def _cost(arm: Sequence[Measured]) -> float | None:
    known = [float(p.cost_usd) for p in arm if p.cost_usd is not None]
    return fmean(known) if known else None


def _difference(
    one: Sequence[Measured], other: Sequence[Measured], of: Callable[[Sequence[Measured]], float | None]
) -> Difference | None:
    """Resample the projects of both sides (Efron, 1979): tasks of one project are not independent."""
    value = _less(of(one), of(other))
    if value is None:
        return None
    chance = random.Random(SEED)  # noqa: S311 nothing secret  # nosec B311
    drawn = (
        _less(of(chance.choices(one, k=len(one))), of(chance.choices(other, k=len(other))))
        for _ in range(RESAMPLES)
    )
    found = sorted(d for d in drawn if d is not None)
    return Difference(
        value=value, low=found[int(TAIL * len(found))], high=found[int((1 - TAIL) * len(found)) - 1]
    )


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
