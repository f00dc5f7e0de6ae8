"""What a call costs: the price table of genai-prices, and prices of one's own before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from langchain_core.messages.ai import UsageMetadata

from phoenix.domain.price import ModelPrice
from phoenix.errors import PriceUnknown

PROVIDER_IDS = {
    "google_genai": "google",
    "google_vertexai": "google",
    "bedrock": "aws",
    "mistralai": "mistral",
}
LOCAL = frozenset({"ollama"})
"""Providers that run on the user's own machine: their calls cost nothing."""
FIVE_MINUTES, ONE_HOUR = "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"
"""LangChain's names of input that Anthropic has put into its cache, by how long it stays."""


@dataclass(frozen=True)
class Prices:
    """Prices of models, named `provider:model`.

    With a base URL the price is that of the service behind it, if the table knows it: the same model's
    name elsewhere says nothing. A price of one's own holds wherever the model is.
    """

    own: Mapping[str, ModelPrice] = field(default_factory=dict)
    """By `provider:model`; they go before the table."""
    strict: bool = False
    """A call of unknown price is refused before it is made."""

    def cost(self, name: str, usage: UsageMetadata | None, *, base_url: str | None = None) -> Decimal | None:
        """Return the USD that a call cost; None when usage or price is unknown."""
        if name.partition(":")[0] in LOCAL and name not in self.own:
            return Decimal(0)
        if usage is None:
            return None
        details: Any = usage.get("input_token_details") or {}
        counts = _Counts(
            usage["input_tokens"],
            usage["output_tokens"],
            read=details.get("cache_read") or 0,
            written=(details.get("cache_creation") or 0) + (details.get(FIVE_MINUTES) or 0),
            written_1h=details.get(ONE_HOUR) or 0,
        )
        return self._price(name, counts, base_url)

    def most(
        self, name: str, input_tokens: int, output_tokens: int, *, base_url: str | None = None
    ) -> Decimal | None:
        """Return the USD that a call costs at most; None when its price is unknown.

        All of its input may be new to the provider's cache, which can cost more than input that is not kept.

        Raises:
            PriceUnknown: the price is unknown, and prices are strict.
        """
        if name.partition(":")[0] in LOCAL and name not in self.own:
            return Decimal(0)
        ways = (
            _Counts(input_tokens, output_tokens),
            _Counts(input_tokens, output_tokens, written=input_tokens),
            _Counts(input_tokens, output_tokens, read=input_tokens),
        )
        found = [self._price(name, counts, base_url) for counts in ways]
        known = [one for one in found if one is not None]
        if not known:
            self._refuse(name)
            return None
        return max(known)

    def _refuse(self, name: str) -> None:
        if self.strict:
            raise PriceUnknown(
                f"The price of {name} is unknown, and PHOENIX_PRICES is strict.",
                field="PHOENIX_PRICE_OVERRIDES",
                hint="Give its USD per million tokens: "
                f'{{"{name}": {{"input_mtok": "2", "output_mtok": "8"}}}}.',
            )

    def _price(self, name: str, counts: _Counts, base_url: str | None) -> Decimal | None:
        own = self.own.get(name)
        if own is not None:
            written = counts.written + counts.written_1h
            return own.usd(counts.input, counts.output, cache_read=counts.read, cache_write=written)
        return _in_table(name, counts, base_url)


@dataclass(frozen=True)
class _Counts:
    """Tokens of one call; those read from and written to the provider's cache are among the input."""

    input: int
    output: int
    read: int = 0
    written: int = 0
    written_1h: int = 0


def _in_table(name: str, counts: _Counts, base_url: str | None) -> Decimal | None:
    from genai_prices import calc_price
    from genai_prices.types import Usage

    provider, _, model = name.partition(":")
    usage = Usage(
        input_tokens=counts.input,
        output_tokens=counts.output,
        cache_read_tokens=counts.read or None,
        cache_write_tokens=counts.written + counts.written_1h or None,
        cache_write_1h_tokens=counts.written_1h or None,
    )
    try:
        if base_url:
            return calc_price(usage, model, provider_api_url=base_url).total_price
        return calc_price(usage, model, provider_id=PROVIDER_IDS.get(provider, provider)).total_price
    except (LookupError, ValueError):
        return None
