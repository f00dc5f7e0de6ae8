"""The usage log in memory: for tests, and for flows that keep nothing."""

from __future__ import annotations

from decimal import Decimal

from phoenix.domain.run import ModelCall, Usage


class MemoryUsage:
    """Keeps calls in a list; forgets them with the process."""

    def __init__(self) -> None:
        self.calls: list[ModelCall] = []

    async def add(self, call: ModelCall) -> None:
        self.calls.append(call)

    async def total(self) -> Usage:
        total = Usage(cost_usd=Decimal(0))
        for call in self.calls:
            total = total.plus(
                Usage(
                    calls=1,
                    input_tokens=call.input_tokens,
                    output_tokens=call.output_tokens,
                    cost_usd=call.cost_usd,
                    cached_tokens=call.cached_tokens,
                )
            )
        return total
