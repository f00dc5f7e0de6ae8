"""Cost to the cent on every path of a call, and what a budget lets an answer be."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from phoenix.domain.budget import Budget
from phoenix.domain.frozen import Frozen
from phoenix.errors import BudgetSpent, ModelRefusedKey
from phoenix.llm.budget import MemoryBudgets, most_input_tokens
from phoenix.llm.calls import ModelRequest
from phoenix.llm.models import ProjectModels
from phoenix.llm.patience import Patience
from phoenix.llm.prices import Prices
from phoenix.llm.providers import ProviderModel, open_provider
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from phoenix.settings import Settings
from tests.unit.llm.rig import SWIFT, Heard, Open
from tests.unit.llm.server import Reply, Server, error
from tests.unit.llm.test_prices import OWN

CODER = Caller("coding", "T1")


class Verdict(Frozen):
    """An answer of a form."""

    ok: bool


@tool
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@pytest.fixture
def priced(settings: Settings) -> ProviderModel:
    """The real OpenAI client, its model's price known."""
    return open_provider(settings, "openai:test", prices=Prices({"openai:test": OWN}))


async def test_every_path_costs_what_its_tokens_cost(
    server: Server, priced: ProviderModel, open_over: Open, usage: MemoryUsage
) -> None:
    """In pieces: plain, cached, a tool's two turns, a form, a retry after an error and one after a cut
    answer: all that was answered is paid, and nothing else, under a budget that just affords it."""
    server.replies = [
        Reply("plain", usage=(1000, 100)),  # 2000 + 800
        Reply("cached", usage=(1000, 50), cached=600),  # 800 + 300 + 400
        Reply(calls=[("double", '{"number": 21}')], usage=(300, 10)),  # 600 + 80
        Reply("It is 42.", usage=(330, 7)),  # 660 + 56
        Reply('{"ok": true}', usage=(111, 9)),  # 222 + 72
        error(500),
        Reply("after an error", usage=(10, 1)),  # 20 + 8
        Reply("cut", finish="length", usage=(20, 2)),  # 40 + 16
        Reply("after a cut", usage=(20, 3)),  # 40 + 24
    ]
    models = open_over(priced, budget="5", patience=Patience(first_wait_seconds=0.01))
    chat = models.chat(CODER)
    for _ in range(2):
        await chat.ainvoke("hi")
    await create_agent(chat, [double]).ainvoke({"messages": [("user", "double 21")]})
    assert (await models.structured(CODER, [HumanMessage("well?")], Verdict)).ok
    for _ in range(2):
        await chat.ainvoke("again")
    micro = [2800, 1500, 680, 716, 294, 28, 56, 64]
    assert [call.cost_usd for call in usage.calls] == [Decimal(m) / 1_000_000 for m in micro]
    assert (await usage.total()).cost_usd == Decimal("0.006138")


async def test_an_answer_is_bounded_and_shortened_to_what_the_budget_affords(
    server: Server, priced: ProviderModel, usage: MemoryUsage, events: Heard
) -> None:
    """The provider is told a limit; a shortened answer that is cut off is not asked for again."""
    request = ModelRequest(CODER, [HumanMessage("hi")])
    given = most_input_tokens(request) * Decimal("2.5")
    budgets = MemoryBudgets(usage, Budget(usd=(given + 8 * 5000) / 1_000_000))
    models = ProjectModels(priced, usage=usage, events=events, budgets=budgets, patience=SWIFT)
    # So cheap that the budget would afford another.
    server.replies = [Reply("half an", finish="length", usage=(10, 10))]
    with pytest.raises(BudgetSpent, match=r"the next call can take more than is left"):
        await models.chat(CODER).ainvoke("hi")
    assert [r["max_completion_tokens"] for r in server.requests] == [4096]
    assert len(usage.calls) == 1


async def test_without_a_limit_an_answer_is_not_bounded(
    server: Server, priced: ProviderModel, open_over: Open
) -> None:
    """Nobody counts, so the provider decides."""
    server.replies = [Reply("hello")]
    await open_over(priced).chat(CODER).ainvoke("hi")
    assert not {"max_tokens", "max_completion_tokens"} & set(server.requests[0])


async def test_a_failed_call_gives_back_what_it_held(
    server: Server, priced: ProviderModel, usage: MemoryUsage, events: Heard
) -> None:
    """A budget for one call at a time affords the next one after a failure."""
    budgets = MemoryBudgets(usage, Budget(calls=1))
    models = ProjectModels(priced, usage=usage, events=events, budgets=budgets, patience=SWIFT)
    server.replies = [error(401), Reply("hello")]
    with pytest.raises(ModelRefusedKey):
        await models.chat(CODER).ainvoke("hi")
    assert (await models.chat(CODER).ainvoke("hi")).text == "hello"
    with pytest.raises(BudgetSpent, match="has used 1 of 1 calls"):
        await models.chat(CODER).ainvoke("hi")


async def test_an_answer_without_usage_is_counted_at_the_most(
    server: Server, priced: ProviderModel, open_over: Open, usage: MemoryUsage
) -> None:
    """What a provider does not say cannot be taken for nothing; nor what it streamed in vain before."""
    body = Reply("hello").payload()
    del body["usage"]
    server.replies = [Reply(body=body)]
    await open_over(priced, budget="5").chat(CODER).ainvoke("hi")
    assert [call.broken for call in usage.calls] == [True, False]
    for call in usage.calls:
        assert call.cost_usd is not None
        assert call.cost_usd > 8 * 16_384 / Decimal(1_000_000)


@pytest.mark.parametrize(
    "text", ["", "plain words", "日本語の文章", "🦀" * 50, "\x00\ud800", 'say "x" \\ \n' * 9]
)
def test_input_is_taken_for_at_least_its_bytes(text: str) -> None:
    """A token stands for at least one byte, so there are no more of them; tools count as well."""
    options: dict[str, Any] = {"tools": [{"name": "look", "description": "d" * 500}]}
    plain = most_input_tokens(ModelRequest(CODER, [HumanMessage(text)]))
    assert plain >= len(text.encode("utf-8", "surrogatepass")) + 1024
    assert most_input_tokens(ModelRequest(CODER, [HumanMessage(text)], options=options)) >= plain + 500
