"""What every path of a call costs, to the last digit, through the real clients over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage

from phoenix.domain.budget import Budget
from phoenix.errors import BudgetSpent, ModelTimeout, ModelUnavailable
from phoenix.llm.budget import MemoryBudgets, most_input_tokens
from phoenix.llm.calls import Backend, ModelRequest, fitted
from phoenix.llm.models import ProjectModels
from phoenix.llm.openai_chat import RefusingChatOpenAI
from phoenix.llm.patience import Patience
from phoenix.llm.prices import Prices
from phoenix.llm.providers import ProviderModel
from phoenix.llm.recording import RecordedModel, Recorder, read_recording
from phoenix.llm.response_cache import MemoryAnswers, ResponseCache
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from tests.unit.llm.candidates import Chain
from tests.unit.llm.responses_events import responses_events
from tests.unit.llm.rig import Heard
from tests.unit.llm.server import Reply, Server, error
from tests.unit.llm.test_anthropic_stream import events as claude_events
from tests.unit.llm.test_prices import OWN

CODER = Caller("coding", "T1")
MILLION = Decimal(1_000_000)
PATIENT = Patience(first_wait_seconds=0.01)
LOOK = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}},
}
CLAUDE = OWN.model_copy(update={"input_mtok": Decimal(3), "output_mtok": Decimal(15)})
PRICES = Prices({"openai:test": OWN, "anthropic:test": CLAUDE})


def chat(server: Server, *, responses: bool = False, idle_seconds: float = 30.0) -> ProviderModel:
    """Return OpenAI's real client: chat completions, or the Responses API."""
    model = RefusingChatOpenAI(
        model="test",
        api_key="k",
        base_url=f"{server.url}/v1",
        use_responses_api=responses,
        max_retries=0,
        stream_usage=True,
        stream_chunk_timeout=None,
    )
    return ProviderModel("openai:test", model, prices=PRICES, idle_seconds=idle_seconds)


def claude(server: Server) -> ProviderModel:
    """Return Anthropic's real client."""
    model = ChatAnthropic(
        model_name="test", api_key="k", base_url=server.url, max_retries=0, timeout=30, stop=None
    )
    return ProviderModel("anthropic:test", model, prices=PRICES)


def in_chat(read: int, written: int, *, call: bool = False, cached: int = 0, put: int = 0) -> Reply:
    """Return an answer of OpenAI's chat completions."""
    calls = [("look", "{}")] if call else []
    return Reply("Done.", calls=calls, usage=(read, written), cached=cached, written=put)


def in_responses(read: int, written: int, *, call: bool = False, cached: int = 0, put: int = 0) -> Reply:
    """Return an answer of the Responses API."""
    made = ("look", "{}") if call else None
    events = responses_events("Done.", call=made, usage=(read, written), cached=cached, put=put)
    return Reply(raw=b"".join(events))


def of_claude(read: int, written: int, *, call: bool = False, cached: int = 0, put: int = 0) -> Reply:
    """Return an answer of Anthropic's, which always holds a call."""
    return Reply(raw=b"".join(claude_events("Done.", "{}", usage=(read, written), cached=cached, put=put)))


Adapter = tuple[Callable[[Server], ProviderModel], Callable[..., Reply], Decimal, Decimal]
ADAPTERS: dict[str, Adapter] = {
    "chat": (chat, in_chat, Decimal(2), Decimal(8)),
    "responses": (lambda server: chat(server, responses=True), in_responses, Decimal(2), Decimal(8)),
    "anthropic": (claude, of_claude, Decimal(3), Decimal(15)),
}
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS.keys())


def over(backend: Backend | Chain, usage: MemoryUsage, **more: Any) -> ProjectModels:
    """Return the models of a project."""
    return ProjectModels(backend, usage=usage, **{"patience": PATIENT, "events": Heard()} | more)


def half(reply: Reply) -> Reply:
    """Return an answer that stops in its middle."""
    data = b"".join(reply.pieces())
    return Reply(raw=data[: len(data) // 2])


@every_adapter
async def test_an_answer_a_tools_turns_and_a_retry_cost_their_tokens(
    server: Server, usage: MemoryUsage, adapter: Adapter
) -> None:
    """What the provider refused costs nothing."""
    make, reply, dear_in, dear_out = adapter
    known = [(1000, 100), (300, 10), (330, 7), (10, 1)]
    plain, called, after, retried = known
    server.replies = [
        reply(*plain),
        reply(*called, call=True),
        reply(*after),
        error(500),
        error(429, retry_after="0"),
        reply(*retried),
    ]
    model = over(make(server), usage).chat(CODER).bind_tools([LOOK])
    for _ in known:
        await model.ainvoke("hi")
    assert len(server.requests) == 6
    assert [(c.input_tokens, c.output_tokens, c.broken) for c in usage.calls] == [(*k, False) for k in known]
    assert [c.cost_usd for c in usage.calls] == [
        (read * dear_in + written * dear_out) / MILLION for read, written in known
    ]


@every_adapter
async def test_a_broken_stream_costs_the_most_that_it_can_have_used(
    server: Server, usage: MemoryUsage, adapter: Adapter
) -> None:
    """Nobody says what the provider had written by then; the answer after it costs its tokens."""
    make, reply, dear_in, dear_out = adapter
    backend = make(server)
    server.replies = [reply(5, 5), half(reply(10, 1)), reply(10, 1)]
    model = over(backend, usage).chat(CODER).bind_tools([LOOK])
    for _ in range(2):
        await model.ainvoke("hi")
    _, lost, whole = usage.calls
    assert (lost.broken, lost.output_tokens, lost.task) == (True, backend.output_tokens, "T1")
    asked = ModelRequest(CODER, [HumanMessage("hi")], tools=[LOOK])
    assert lost.input_tokens == most_input_tokens(fitted(asked, backend))
    write = max(dear_in, OWN.cache_write_mtok or Decimal(0))
    assert lost.cost_usd == (lost.input_tokens * write + lost.output_tokens * dear_out) / MILLION
    assert whole.cost_usd == (10 * dear_in + dear_out) / MILLION


async def test_a_broken_stream_that_said_its_usage_costs_that(server: Server, usage: MemoryUsage) -> None:
    """Known tokens are known, though the reason for the end never came."""
    server.replies = [in_chat(5, 5), in_chat(10, 1), in_chat(20, 2)]
    pieces = server.replies[1].pieces()
    # Without the piece that says why it ended, and without the last one.
    server.replies[1] = Reply(raw=b"".join(p for p in pieces[:-1] if b'"finish_reason": "stop"' not in p))
    model = over(chat(server), usage).chat(CODER)
    for _ in range(2):
        await model.ainvoke("hi")
    assert [(c.broken, c.cost_usd) for c in usage.calls] == [
        (False, Decimal(50) / MILLION),
        (True, Decimal(28) / MILLION),
        (False, Decimal(56) / MILLION),
    ]


async def test_a_fallback_costs_each_providers_price(server: Server, usage: MemoryUsage) -> None:
    """Two broken streams of the first at its most, then the answer of the second at its own price."""
    first, second = chat(server), claude(server)
    server.replies = [in_chat(5, 5), half(in_chat(10, 1)), half(in_chat(10, 1)), of_claude(1000, 10)]
    model = over(Chain(first, second), usage).chat(CODER).bind_tools([LOOK])
    await model.ainvoke("hi")
    await model.ainvoke("hi")
    assert [(c.model, c.broken) for c in usage.calls] == [
        ("openai:test", False),
        ("openai:test", True),
        ("openai:test", True),
        ("anthropic:test", False),
    ]
    assert usage.calls[1].cost_usd == usage.calls[2].cost_usd
    assert usage.calls[3].cost_usd == Decimal(3150) / MILLION


@pytest.mark.parametrize(
    "silent", [Reply("hi", stalls=2), Reply(hang=True)], ids=["in the middle", "at once"]
)
async def test_a_silent_provider_may_bill_what_it_was_asked(
    server: Server, usage: MemoryUsage, silent: Reply
) -> None:
    """It had the request."""
    server.replies = [silent]
    backend = chat(server, idle_seconds=0.5)
    with pytest.raises(ModelTimeout):
        await over(backend, usage, patience=Patience(attempts=1)).chat(CODER).ainvoke("hi")
    assert [(c.broken, c.output_tokens) for c in usage.calls] == [(True, 16_384)]


async def test_a_caller_that_goes_in_the_middle_leaves_the_most_counted(
    server: Server, usage: MemoryUsage
) -> None:
    """And nothing held."""
    budgets = MemoryBudgets(usage, Budget(usd=Decimal(5)))
    server.replies = [Reply("hi", stalls=2)]
    asking = asyncio.ensure_future(over(chat(server), usage, budgets=budgets).chat(CODER).ainvoke("hi"))
    while not server.requests:
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [c.broken for c in usage.calls] == [True]
    assert budgets.held == 0


async def test_a_provider_that_never_had_the_request_costs_nothing(
    server: Server, usage: MemoryUsage, unused_tcp_port: int
) -> None:
    """Nobody listens there."""
    server.url = f"http://127.0.0.1:{unused_tcp_port}"
    backend = chat(server)
    with pytest.raises(ModelUnavailable):
        await over(backend, usage, patience=Patience(attempts=1)).chat(CODER).ainvoke("hi")
    assert usage.calls == []


async def test_broken_streams_spend_a_budget_and_never_pass_it(server: Server, usage: MemoryUsage) -> None:
    """What may have been billed is gone; the attempt that it does not afford is not made."""
    limit = Decimal("0.30")
    budgets = MemoryBudgets(usage, Budget(usd=limit))
    server.replies = [in_chat(5, 5), half(in_chat(10, 1))]
    model = over(chat(server), usage, budgets=budgets).chat(CODER)
    await model.ainvoke("hi")
    with pytest.raises(BudgetSpent):
        await model.ainvoke("hi")
    total = (await usage.total()).cost_usd
    assert total is not None
    assert limit / 2 < total <= limit
    assert budgets.held == 0


async def test_a_replay_is_counted_and_costs_nothing_more(
    server: Server, usage: MemoryUsage, tmp_path: Path
) -> None:
    """What it shows is what the recording did cost, and no budget pays it."""
    file = tmp_path / "r.jsonl"
    server.replies = [in_chat(1000, 100)]
    await over(chat(server), usage, recorder=Recorder(file, model="openai:test")).chat(CODER).ainvoke("hi")
    replayed = MemoryUsage()
    budgets = MemoryBudgets(replayed, Budget(usd=Decimal("0.0001")))
    again = over(RecordedModel(read_recording(file)), replayed, budgets=budgets)
    assert (await again.chat(CODER).ainvoke("hi")).text == "Done."
    assert [(c.recorded, c.cost_usd) for c in replayed.calls] == [(True, Decimal("0.0028"))]
    assert len(server.requests) == 1


@every_adapter
async def test_what_the_provider_caches_costs_its_own_prices(
    server: Server, usage: MemoryUsage, adapter: Adapter
) -> None:
    """In streams: a prefix that is put into the provider's cache, then read from it and made longer."""
    make, reply, dear_in, dear_out = adapter
    server.replies = [reply(1000, 10, cached=0, put=400), reply(1000, 10, cached=400, put=500)]
    budgets = MemoryBudgets(usage, Budget(usd=Decimal(5)))
    model = over(make(server), usage, budgets=budgets).chat(CODER).bind_tools([LOOK])
    for _ in range(2):
        await model.ainvoke("hi")
    assert [(c.input_tokens, c.cached_tokens, c.broken) for c in usage.calls] == [
        (1000, 0, False),
        (1000, 400, False),
    ]
    read, put = Decimal("0.5"), Decimal("2.5")
    assert [c.cost_usd for c in usage.calls] == [
        (600 * dear_in + 400 * put + 10 * dear_out) / MILLION,
        (100 * dear_in + 400 * read + 500 * put + 10 * dear_out) / MILLION,
    ]
    assert budgets.held == 0


@every_adapter
async def test_a_hit_of_the_response_cache_costs_nothing(
    server: Server, usage: MemoryUsage, adapter: Adapter
) -> None:
    """The first answer is paid; the second is counted at 0, even where the budget is spent."""
    make, reply, dear_in, dear_out = adapter
    backend, store, heard = make(server), MemoryAnswers(), Heard()
    budgets = MemoryBudgets(usage, Budget(usd=Decimal(5)))
    server.replies = [reply(1000, 100)]
    for _ in range(2):
        cache = ResponseCache(store, answering=lambda _: ("a", backend.name), seconds=60)
        models = over(backend, usage, cache=cache, budgets=budgets, events=heard)
        await models.chat(CODER).bind_tools([LOOK]).ainvoke("hi")
        budgets = MemoryBudgets(usage, Budget(usd=Decimal("0.000001")))
    paid = (1000 * dear_in + 100 * dear_out) / MILLION
    assert [(c.cached, c.cost_usd, c.input_tokens) for c in usage.calls] == [
        (False, paid, 1000),
        (True, Decimal(0), 0),
    ]
    assert [Decimal(e["cost_usd"]) for e in heard.of("model_called")] == [paid, 0]
    assert (await usage.total()).cost_usd == paid
    assert len(server.requests) == 1
