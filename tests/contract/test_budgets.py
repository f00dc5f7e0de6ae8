"""Port `Budgets`, in memory and over rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal

import pytest

from phoenix.domain.budget import Budget, Hold, Most, ProjectLimits, Spent
from phoenix.domain.run import ModelCall
from phoenix.llm.budget import MemoryBudgets
from phoenix.llm.journal import MemoryJournal
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Budgets, Caller, CallJournal
from phoenix.storage.journal import JournalRows
from tests.unit.storage.budget_rows import ANSWER, call, most, open_process

CODER = Caller("coding", "T1")


@dataclass
class Purse:
    """Budgets of a project, and the journal that counts its calls."""

    budgets: Budgets
    journal: CallJournal

    async def hold(self, *choices: Most, seconds: float = 60.0) -> Hold | Spent | None:
        """Ask for what a call may use."""
        return await self.budgets.hold(CODER, choices, seconds=seconds)

    async def settle(self, made: ModelCall, hold: Hold | None = None) -> None:
        """Count a call."""
        await self.journal.keep(None, ANSWER, made, hold=hold)


class Opener:
    """Opens budgets of one kind."""

    def __init__(self, kind: str, url: str, stack: AsyncExitStack) -> None:
        self._kind, self._url, self._stack = kind, url, stack

    async def __call__(self, budget: Budget) -> Purse:
        """Return the budgets of a new project."""
        if self._kind == "memory":
            usage = MemoryUsage()
            budgets = MemoryBudgets(usage, budget)
            return Purse(budgets, MemoryJournal(usage, budgets))
        process = await open_process(self._url, self._stack)
        limits = ProjectLimits(tokens=budget.tokens, calls=budget.calls, wall_seconds=budget.wall_seconds)
        usd = None if budget.usd is None else str(budget.usd)
        run, project = await process.launch(usd, limits=limits)
        journal = JournalRows(process.database, run, process.settlements)
        return Purse(process.budgets(run, project), journal)


@pytest.fixture(params=["memory", "rows"])
async def purse(request: pytest.FixtureRequest, migrated_database_url: str) -> AsyncIterator[Opener]:
    """Open budgets of each kind."""
    async with AsyncExitStack() as stack:
        yield Opener(request.param, migrated_database_url, stack)


async def test_without_limits_there_is_nothing_to_hold(purse: Opener) -> None:
    """And with any there is."""
    assert not await (await purse(Budget())).budgets.limited()
    assert await (await purse(Budget(calls=1))).budgets.limited()


@pytest.mark.parametrize(
    ("budget", "measure"),
    [(Budget(usd=Decimal("0.2")), "usd"), (Budget(tokens=100), "tokens"), (Budget(calls=2), "calls")],
    ids=["usd", "tokens", "calls"],
)
async def test_what_is_used_and_held_reaches_the_limit_and_never_passes_it(
    purse: Opener, budget: Budget, measure: str
) -> None:
    """A call that would fit once the others are counted waits; then there is room, or it is spent."""
    one = most("0.1", tokens=50)
    its = await purse(budget)
    first, second = await its.hold(one), await its.hold(one)
    assert isinstance(first, Hold)
    assert isinstance(second, Hold)
    assert await its.hold(one) is None
    await its.settle(call("0.1", tokens=50), first)
    assert await its.hold(one) is None
    await its.settle(call("0.1", tokens=50), second)
    spent = await its.hold(one)
    assert isinstance(spent, Spent)
    assert (spent.scope, spent.measure, spent.used) == ("project", measure, spent.limit)


async def test_a_released_hold_makes_room(purse: Opener) -> None:
    """What was not used is there for the next; releasing twice is as good as once."""
    its = await purse(Budget(calls=1))
    held = await its.hold(most("0"))
    assert isinstance(held, Hold)
    assert await its.hold(most("0")) is None
    for _ in range(2):
        await its.budgets.release(held)
    assert isinstance(await its.hold(most("0")), Hold)


async def test_the_first_choice_that_fits_is_held(purse: Opener) -> None:
    """The limit that shortens the answer is named; where none fits, that which the last one passes."""
    its = await purse(Budget(usd=Decimal(1)))
    await its.settle(call("0.70"))
    found = await its.hold(most("0.50", output=4096), most("0.25", output=2048), most("0.10", output=1024))
    assert isinstance(found, Hold)
    assert found.most.output_tokens == 2048
    assert found.lowered_by == Spent(scope="project", measure="usd", limit=Decimal(1), used=Decimal("0.70"))
    whole = await (await purse(Budget(usd=Decimal(1)))).hold(most("0.50"), most("0.25"))
    assert isinstance(whole, Hold)
    assert whole.lowered_by is None


async def test_a_hold_ends_with_the_time_of_its_call(purse: Opener) -> None:
    """Nobody is left to give it back."""
    its = await purse(Budget(calls=1))
    assert isinstance(await its.hold(most("0"), seconds=0.01), Hold)
    await asyncio.sleep(0.05)
    assert isinstance(await its.hold(most("0")), Hold)


async def test_a_call_of_unknown_price_is_made_until_the_rest_is_spent(purse: Opener) -> None:
    """What is known counts."""
    its = await purse(Budget(usd=Decimal(1)))
    held = await its.hold(most(None))
    assert isinstance(held, Hold)
    await its.settle(call(None), held)
    await its.settle(call("1"))
    assert isinstance(await its.hold(most(None)), Spent)


async def test_a_recorded_call_costs_no_money(purse: Opener) -> None:
    """Its figures are those of the recording, and were paid then."""
    its = await purse(Budget(usd=Decimal(1), tokens=100, calls=1))
    await its.settle(call("5", tokens=500, recorded=True))
    assert isinstance(await its.hold(most("0.9")), Hold)


async def test_a_call_that_broke_off_is_counted_without_an_answer(purse: Opener) -> None:
    """Its hold becomes what it may have cost."""
    its = await purse(Budget(usd=Decimal(1)))
    held = await its.hold(most("0.6"))
    assert isinstance(held, Hold)
    lost = call("0.6").model_copy(update={"broken": True})
    await its.journal.keep(None, None, lost, hold=held)
    spent = await its.hold(most("0.6"))
    assert isinstance(spent, Spent)
    assert spent.used == Decimal("0.6")


async def test_fifty_at_once_hold_no_more_than_there_is(purse: Opener) -> None:
    """As many as fit, whoever comes first."""
    its = await purse(Budget(usd=Decimal(1)))
    found = await asyncio.gather(*(its.hold(most("0.09")) for _ in range(50)))
    assert sum(isinstance(one, Hold) for one in found) == 11
    assert sum(one is None for one in found) == 39
