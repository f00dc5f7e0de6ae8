"""No call starts once the budget is spent."""

from __future__ import annotations

from decimal import Decimal

import pytest

from phoenix.domain.run import ModelCall
from phoenix.errors import BudgetSpent, ModelRateLimited
from phoenix.llm.scripted import Fault, ScriptedModel
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from tests.unit.llm.rig import Heard, Open

CODER = Caller("coding")


async def test_a_spent_budget_stops_the_next_call(open_over: Open) -> None:
    """The call that reaches the budget is answered; the next does not start, and the way on is named."""
    model = ScriptedModel(lambda _: "ok", cost_usd=Decimal("0.50"))
    chat = open_over(model, budget="1").chat(CODER)
    await chat.ainvoke("1")
    await chat.ainvoke("2")
    with pytest.raises(BudgetSpent, match=r"spent 1\.00 of 1\.00 USD.*phoenix resume ID --budget-usd N"):
        await chat.ainvoke("3")
    assert len(model.requests) == 2


async def test_what_earlier_processes_spent_counts(open_over: Open, usage: MemoryUsage) -> None:
    """The usage log outlives the process."""
    await usage.add(ModelCall(agent="coding", model="x:y", cost_usd=Decimal(2)))
    with pytest.raises(BudgetSpent):
        await open_over(ScriptedModel(lambda _: "ok"), budget="1").chat(CODER).ainvoke("hi")


async def test_an_answer_that_cannot_be_used_is_paid_all_the_same(
    open_over: Open, usage: MemoryUsage
) -> None:
    """Truncated answers count, and a retry of one is checked against the budget too."""
    model = ScriptedModel({"coding": [Fault("truncated"), "ok"]}, cost_usd=Decimal(1))
    with pytest.raises(BudgetSpent):
        await open_over(model, budget="1").chat(CODER).ainvoke("hi")
    assert (await usage.total()).cost_usd == Decimal(1)


async def test_an_unknown_price_warns_once(open_over: Open, events: Heard) -> None:
    """A budget that cannot be kept is said, not silently ignored."""
    chat = open_over(ScriptedModel(lambda _: "ok", cost_usd=None), budget="1").chat(CODER)
    await chat.ainvoke("1")
    await chat.ainvoke("2")
    assert len(events.of("price_unknown")) == 1


async def test_another_run_of_the_project_does_not_warn_again(
    open_over: Open, events: Heard, usage: MemoryUsage
) -> None:
    """The usage log tells that the price was unknown before."""
    for _ in range(2):
        await open_over(ScriptedModel(lambda _: "ok", cost_usd=None), budget="1").chat(CODER).ainvoke("1")
    assert len(events.of("price_unknown")) == 1


async def test_known_costs_count_beside_an_unknown_one(open_over: Open, usage: MemoryUsage) -> None:
    """One call of unknown price does not lift the budget."""
    await usage.add(ModelCall(agent="coding", model="x:y", cost_usd=None))
    chat = open_over(ScriptedModel(lambda _: "ok", cost_usd=Decimal(1)), budget="1").chat(CODER)
    await chat.ainvoke("1")
    with pytest.raises(BudgetSpent):
        await chat.ainvoke("2")


async def test_without_a_budget_nothing_stops(open_over: Open, events: Heard) -> None:
    """Unknown prices need no warning then."""
    await open_over(ScriptedModel(lambda _: "ok", cost_usd=None)).chat(CODER).ainvoke("1")
    assert not events.of("price_unknown")


async def test_a_rate_limit_costs_nothing(open_over: Open, usage: MemoryUsage) -> None:
    """Only answers are counted."""
    with pytest.raises(ModelRateLimited):
        await open_over(ScriptedModel(lambda _: Fault("rate_limited", 0))).chat(CODER).ainvoke("hi")
    assert not usage.calls
