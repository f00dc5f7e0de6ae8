"""Algebraic closure: any nesting gives what plain Python gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from phoenix.flow import (
    Flow,
    Result,
    Waiting,
    approve,
    as_step,
    branch_on,
    cached,
    fallback,
    loop_until,
    map_over,
    parallel,
    step,
)
from tests.unit.flow.steps import answered, config, double, inc


@dataclass(frozen=True)
class Twin:
    """A flow of int to int, and the same in plain Python."""

    flow: Flow[Any, Any]
    plain: Callable[[int], int]


@step
async def small(x: int) -> int:
    return x % 7


@step
async def broken(x: int) -> int:
    raise ValueError(x)


@step
async def few(x: int) -> list[int]:
    return list(range(x % 4))


@step
async def join(parts: dict[str, int]) -> int:
    return parts["a"] * 3 + parts["b"]


@step
async def fold(items: list[int]) -> int:
    result = 0
    for item in items:
        result = result * 2 + item
    return result


def odd(x: int) -> str:
    return "odd" if x % 2 else "even"


def sequence(a: Twin, b: Twin) -> Twin:
    return Twin(a.flow >> b.flow, lambda x: b.plain(a.plain(x)))


def choice(a: Twin, b: Twin) -> Twin:
    return Twin(branch_on(odd, odd=a.flow, default=b.flow), lambda x: a.plain(x) if x % 2 else b.plain(x))


def loop(body: Twin) -> Twin:
    def plain(x: int) -> int:
        for _ in range(3):
            x = body.plain(x)
            if x % 3 == 0:
                return x
        return x + 1

    return Twin(loop_until(lambda x: x % 3 == 0, body.flow, cap=3, on_cap=inc), plain)


def side_by_side(a: Twin, b: Twin) -> Twin:
    return Twin(parallel(a=a.flow, b=b.flow) >> join, lambda x: a.plain(x) * 3 + b.plain(x))


def mapped(body: Twin) -> Twin:
    def plain(x: int) -> int:
        result = 0
        for item in range(x % 4):
            result = result * 2 + body.plain(item)
        return result

    return Twin(few >> map_over(body.flow, concurrency=2) >> fold, plain)


LEAVES = st.sampled_from(
    [
        Twin(inc, lambda x: x + 1),
        Twin(double, lambda x: x * 2),
        Twin(small, lambda x: x % 7),
        Twin(cached(inc), lambda x: x + 1),
        Twin(fallback(broken, double), lambda x: x * 2),
    ]
)


def nested(leaves: st.SearchStrategy[Twin]) -> st.SearchStrategy[Twin]:
    """Return nestings of all constructs."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(sequence, inner, inner),
            st.builds(choice, inner, inner),
            st.builds(loop, inner),
            st.builds(side_by_side, inner, inner),
            st.builds(mapped, inner),
            st.builds(lambda t: Twin(as_step(t.flow, "group"), t.plain), inner),
        ),
        max_leaves=6,
    )


QUICK = settings(max_examples=30, suppress_health_check=list(HealthCheck))


@QUICK
@given(twin=nested(LEAVES), value=st.integers(0, 50))
def test_any_nesting_runs_to_what_plain_python_gives(twin: Twin, value: int) -> None:
    """Run and astream agree with the plain interpretation."""

    async def both() -> tuple[Any, Any]:
        items = [i async for i in twin.flow.astream(value)]
        return await (inc >> twin.flow).run(value), items[-1]

    assert asyncio.run(both()) == (twin.plain(value + 1), Result(twin.plain(value)))


PEOPLE = st.one_of(LEAVES, st.just(Twin(approve("gate"), lambda x: x)))


@QUICK
@given(twin=nested(PEOPLE), value=st.integers(0, 50))
def test_any_nesting_with_people_resumes_to_the_same(twin: Twin, value: int) -> None:
    """Answers come one by one, by id, wherever the gates stand."""

    async def run() -> Any:
        saver = InMemorySaver()
        waiting = await (inc >> twin.flow).run(value, checkpointer=saver, config=config())
        return await answered(inc >> twin.flow, waiting, saver)

    result = asyncio.run(run())
    assert not isinstance(result, Waiting)
    assert result == twin.plain(value + 1)


@QUICK
@given(twin=nested(PEOPLE))
def test_any_nesting_is_valid_and_drawn(twin: Twin) -> None:
    """Composition never produces what cannot be validated or drawn."""
    flow = inc >> twin.flow
    flow.validate()
    assert flow.to_mermaid().startswith("flowchart TD\n")
