"""Usage adds up, and an unknown price stays unknown."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from phoenix.domain.run import Usage

counts = st.integers(0, 10**9)
costs = st.none() | st.decimals(0, 1000, places=6)
usages = st.builds(Usage, calls=counts, input_tokens=counts, output_tokens=counts, cost_usd=costs)


@given(st.lists(usages, max_size=6))
def test_usage_adds_up(parts: list[Usage]) -> None:
    """A sum holds the sums of all counts, and a cost only when every part has one."""
    total = reduce(Usage.plus, parts, Usage())
    assert total.calls == sum(part.calls for part in parts)
    assert total.input_tokens == sum(part.input_tokens for part in parts)
    assert total.output_tokens == sum(part.output_tokens for part in parts)
    known = [part.cost_usd for part in parts if part.cost_usd is not None]
    assert total.cost_usd == (sum(known, Decimal(0)) if len(known) == len(parts) else None)


@given(usages, usages)
def test_the_order_of_parts_does_not_matter(one: Usage, two: Usage) -> None:
    """Parallel tasks add up to the same usage whichever ends first."""
    assert one.plus(two) == two.plus(one)
