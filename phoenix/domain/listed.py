"""A model of the catalogue, as commands show it."""

from __future__ import annotations

from decimal import Decimal

from phoenix.domain.frozen import Frozen


class Listed(Frozen):
    """One alias. Prices are USD per million tokens, None when unknown."""

    alias: str
    model: str
    base_url: str | None
    tier: int | None
    """Its place among the tiers, from 1; None for an alias that is no tier."""
    fallbacks: list[str]
    input_usd: Decimal | None
    output_usd: Decimal | None
    price_from: str
    """`catalogue`, `table`, or empty where it is unknown."""
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    output_tokens: int | None
    context_tokens: int | None
    capabilities: list[str]
    key: str
    """The variable or file that holds its key; empty where it needs none."""
    has_key: bool
    problem: str = ""
    """What its provider, or opening it, says against it; empty when nothing, or when it was not asked."""
