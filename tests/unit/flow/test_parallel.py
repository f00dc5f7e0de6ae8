"""parallel and map_over: side by side, in order, waiting for nobody."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from phoenix.errors import BudgetSpent, FlowInvalid, StepTypeMismatch
from phoenix.flow import Waiting, approve, loop_until, map_over, parallel, step, step_of
from tests.unit.flow.steps import answered, config, double, gathered, inc, total, upto


async def test_outputs_are_keyed_by_branch_in_order() -> None:
    """The dict keeps the order of the branches."""
    done = await parallel(z=inc, a=double).run(5)
    assert list(done.items()) == [("z", 6), ("a", 10)]  # type: ignore[union-attr]


async def test_branches_run_at_the_same_time() -> None:
    """Two waits take the time of one."""

    @step
    async def slow(x: int) -> int:
        await asyncio.sleep(0.3)
        return x

    began = time.monotonic()
    await parallel(a=slow, b=slow).run(1)
    assert time.monotonic() - began < 0.55


async def test_a_two_step_branch_beside_a_slow_one_runs_to_its_end() -> None:
    """No branch waits at a barrier for its siblings."""
    ended = asyncio.Event()

    @step
    async def last(x: int) -> int:
        ended.set()
        return x

    @step
    async def waits(x: int) -> int:
        await asyncio.wait_for(ended.wait(), 2)
        return x

    assert await (parallel(two=inc >> last, slow=waits) >> gathered).run(1) == 3


async def test_a_two_step_branch_beside_a_waiting_one_runs_to_its_end(saver: InMemorySaver) -> None:
    """While a person thinks, the sibling finishes, once."""
    ran: list[str] = []

    @step
    async def first(x: int) -> int:
        ran.append("first")
        return x

    @step
    async def second(x: int) -> int:
        ran.append("second")
        return x

    flow = parallel(person=approve("go") >> inc, two=first >> second) >> gathered
    waiting = await flow.run(1, checkpointer=saver, config=config())
    assert isinstance(waiting, Waiting)
    assert ran == ["first", "second"]
    assert await answered(flow, waiting, saver) == 3
    assert ran == ["first", "second"]


async def test_a_failure_propagates_and_cancels_siblings() -> None:
    """The failed step's own error is what the user sees."""
    cancelled = False

    @step
    async def endless(x: int) -> int:
        nonlocal cancelled
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled = True
            raise
        return x

    @step
    async def breaks(x: int) -> int:
        await asyncio.sleep(0.02)
        raise ZeroDivisionError("own error")

    with pytest.raises(ZeroDivisionError, match="own error") as caught:
        await parallel(a=endless, b=inc >> breaks).run(1)
    assert cancelled
    assert step_of(caught.value) == "breaks"


async def test_an_ignored_failure_leaves_its_branch_out() -> None:
    """The others' outputs are kept."""

    @step
    async def breaks(x: int) -> int:
        raise ZeroDivisionError

    assert await parallel(on_failure="ignore", a=inc, b=breaks).run(1) == {"a": 2}


async def test_a_spent_budget_is_never_ignored() -> None:
    """It ends the run, siblings and all."""

    @step
    async def spends(x: int) -> int:
        raise BudgetSpent

    with pytest.raises(BudgetSpent):
        await parallel(on_failure="ignore", a=inc, b=spends).run(1)


async def test_an_ignoring_parallel_still_waits_for_people(saver: InMemorySaver) -> None:
    """A pause is no failure."""
    flow = parallel(on_failure="ignore", a=inc, b=approve("go"))
    waiting = await flow.run(1, checkpointer=saver, config=config())
    assert await answered(flow, waiting, saver) == {"a": 2, "b": 1}


async def test_map_keeps_the_order() -> None:
    """Outputs stand where their items stood, whoever ends first."""

    @step
    async def backwards(x: int) -> int:
        await asyncio.sleep(0.05 - x / 100)
        return x * 10

    assert await (upto >> map_over(backwards >> inc)).run(4) == [1, 11, 21, 31]


async def test_map_over_nothing_gives_nothing() -> None:
    """An empty list needs no body."""
    assert await (upto >> map_over(inc) >> total).run(0) == 0
    assert await map_over(inc).run([]) == []


async def test_map_runs_at_most_so_many_at_once() -> None:
    """The bound holds, and is used."""
    running = peak = 0

    @step
    async def counted(x: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.01)
        running -= 1
        return x

    await (upto >> map_over(counted >> inc, concurrency=3)).run(10)
    assert peak == 3


async def test_runs_do_not_share_their_lanes() -> None:
    """The bound is of one map in one run."""
    running = peak = 0

    @step
    async def counted(x: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.05)
        running -= 1
        return x

    graph = (upto >> map_over(counted, concurrency=1)).compile()
    await asyncio.gather(*(graph.ainvoke({"value": 2}) for _ in range(3)))
    assert peak == 3


async def test_an_item_that_waits_lets_the_next_begin(saver: InMemorySaver) -> None:
    """People do not occupy the machine."""
    flow = upto >> map_over(approve("item"), concurrency=1) >> total
    waiting = await flow.run(3, checkpointer=saver, config=config())
    assert isinstance(waiting, Waiting)
    assert len(waiting.requests) == 3
    assert await answered(flow, waiting, saver) == 3


async def test_map_refuses_what_is_no_list() -> None:
    """The message names the step that gave it."""

    @step
    async def single(x: int) -> Any:
        return x

    with pytest.raises(StepTypeMismatch, match="'single' gave int"):
        await (single >> map_over(inc)).run(1)


async def test_a_map_in_a_loop_starts_anew_each_round() -> None:
    """No output of an earlier round is seen again."""
    flow = loop_until(lambda x: x > 30, upto >> map_over(inc) >> total, cap=5)
    assert await flow.run(4) == 55


def test_no_branches_are_refused() -> None:
    """Nothing beside nothing is a mistake."""
    with pytest.raises(FlowInvalid):
        parallel()


def test_a_concurrency_below_one_is_refused() -> None:
    """No lane means no item ever runs."""
    with pytest.raises(FlowInvalid):
        map_over(inc, concurrency=0)
