"""What calls cost: the table, prices of one's own, and what becomes of unknown ones."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from phoenix.domain.price import ModelPrice
from phoenix.errors import PriceUnknown, SettingInvalid
from phoenix.llm.models import prices_of
from phoenix.llm.prices import Prices
from phoenix.llm.providers import open_provider
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from phoenix.settings import Settings
from tests.unit.llm.rig import KEY, Open
from tests.unit.llm.server import Reply, Server

OWN = ModelPrice(
    input_mtok=Decimal(2),
    output_mtok=Decimal(8),
    cache_read_mtok=Decimal("0.5"),
    cache_write_mtok=Decimal("2.5"),
)
CLAUDE = "anthropic:claude-sonnet-4-5"


def used(tokens: int, output: int, **details: int) -> Any:
    """Return usage as LangChain gives it."""
    return {
        "input_tokens": tokens,
        "output_tokens": output,
        "total_tokens": tokens + output,
        "input_token_details": details,
    }


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (used(1000, 100), "0.0045"),
        (used(1000, 100, cache_read=800), "0.00234"),
        (used(1000, 100, cache_creation=400), "0.0048"),
        (used(1000, 100, cache_creation=0, ephemeral_5m_input_tokens=400), "0.0048"),
        (used(1000, 100, cache_creation=0, ephemeral_1h_input_tokens=400), "0.0057"),
        (used(300_000, 100), "1.80225"),
    ],
    ids=["plain", "read", "written", "for five minutes", "for an hour", "above the tier"],
)
def test_the_table_knows_caches_and_tiers(usage: Any, usd: str) -> None:
    """Each kind of input at its own price."""
    assert Prices().cost(CLAUDE, usage) == Decimal(usd)


def test_a_price_of_ones_own_goes_before_the_table() -> None:
    """Wherever the model is served; others keep theirs."""
    prices = Prices({CLAUDE: OWN, "openai:mine": OWN})
    usage = used(1000, 100, cache_read=300, cache_creation=200)
    for base_url in (None, "http://localhost:9/v1"):
        assert prices.cost("openai:mine", usage, base_url=base_url) == Decimal("0.00245")
    assert prices.cost(CLAUDE, usage) == Decimal("0.00245")
    assert prices.cost("anthropic:claude-haiku-4-5", used(1_000_000, 0)) == Decimal(1)


@pytest.mark.parametrize("name", [CLAUDE, "openai:gpt-5.2", "openai:mine"])
@pytest.mark.parametrize("details", [{}, {"cache_read": 900}, {"cache_creation": 900}])
def test_no_call_costs_more_than_the_most(name: str, details: dict[str, int]) -> None:
    """Whatever part of the input is in the cache, or new to it."""
    prices = Prices({"openai:mine": OWN})
    most, cost = prices.most(name, 1000, 100), prices.cost(name, used(1000, 100, **details))
    assert most is not None
    assert cost is not None
    assert cost <= most


async def test_an_unknown_price_is_refused_before_the_call_where_prices_are_strict(
    settings: Settings, server: Server, open_over: Open, usage: MemoryUsage
) -> None:
    """Its model is named, and how to give its price; without strictness the call is made."""
    server.replies = [Reply("hello")]
    strict = settings.model_copy(update={"prices": "strict"})
    refused = open_provider(strict, "openai:test", prices=prices_of(strict))
    for budget in ("", "1"):
        with pytest.raises(PriceUnknown, match=r"openai:test is unknown.*\"openai:test\": .*input_mtok"):
            await open_over(refused, budget=budget).chat(Caller("coding")).ainvoke("hi")
    assert server.requests == []
    assert usage.calls == []
    made = open_provider(settings, "openai:test", prices=prices_of(settings))
    await open_over(made, budget="1").chat(Caller("coding")).ainvoke("hi")
    assert usage.calls[0].cost_usd is None


@pytest.mark.parametrize(
    "given", [{"input_mtok": "2"}, {"input_mtok": "-1", "output_mtok": "1"}, {"in": "1"}]
)
def test_an_override_that_is_no_price_names_the_model(given: Any, tmp_path: Path) -> None:
    """At start, and not at the first call."""
    settings = Settings(home=tmp_path, openai_api_key=SecretStr(KEY), price_overrides={"a:b": given})
    with pytest.raises(SettingInvalid, match=r"PHOENIX_PRICE_OVERRIDES: a:b: "):
        prices_of(settings)
