"""The price of a model."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from phoenix.domain.frozen import Frozen

MILLION = Decimal(1_000_000)
PerMillion = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class ModelPrice(Frozen):
    """What a model's tokens cost, in USD per million."""

    input_mtok: PerMillion
    output_mtok: PerMillion
    cache_read_mtok: PerMillion | None = None
    """Of input that the provider has in its cache; None for the price of input."""
    cache_write_mtok: PerMillion | None = None
    """Of input that it puts there; None for the price of input."""

    def usd(
        self, input_tokens: int, output_tokens: int, *, cache_read: int = 0, cache_write: int = 0
    ) -> Decimal:
        """Return what a call costs. Tokens of the cache are among those of the input."""
        plain = max(0, input_tokens - cache_read - cache_write)
        read = self.input_mtok if self.cache_read_mtok is None else self.cache_read_mtok
        write = self.input_mtok if self.cache_write_mtok is None else self.cache_write_mtok
        total = plain * self.input_mtok + cache_read * read + cache_write * write
        return (total + output_tokens * self.output_mtok) / MILLION
