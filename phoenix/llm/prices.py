"""What a call costs, from the price table of genai-prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from langchain_core.messages.ai import UsageMetadata

PROVIDER_IDS = {
    "google_genai": "google",
    "google_vertexai": "google",
    "bedrock": "aws",
    "mistralai": "mistral",
}
LOCAL = frozenset({"ollama"})
"""Providers that run on the user's own machine: their calls cost nothing."""


def cost_of(name: str, usage: UsageMetadata | None, *, base_url: str | None = None) -> Decimal | None:
    """Return the USD that a call of `provider:model` cost; None when usage or price is unknown.

    With a base URL the price is that of the service behind it, if the table knows it: the same
    model's name elsewhere says nothing.
    """
    provider, _, model = name.partition(":")
    if provider in LOCAL:
        return Decimal(0)
    if usage is None:
        return None
    from genai_prices import calc_price
    from genai_prices.types import Usage

    details: Any = usage.get("input_token_details") or {}
    counts = Usage(
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        cache_read_tokens=details.get("cache_read") or None,
        cache_write_tokens=details.get("cache_creation") or None,
    )
    try:
        if base_url:
            return calc_price(counts, model, provider_api_url=base_url).total_price
        return calc_price(counts, model, provider_id=PROVIDER_IDS.get(provider, provider)).total_price
    except (LookupError, ValueError):
        return None
