"""loop_until: predicates, caps, nesting."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from phoenix.errors import FlowInvalid, LoopExhausted
from phoenix.flow import Waiting, approve, branch_on, loop_until, parallel, step, step_of
from tests.unit.flow.steps import answered, config, double, gathered, inc


def over_ten(x: int) -> bool:
    return x > 10


async def test_a_loop_leaves_when_its_predicate_holds() -> None:
    """Each round takes the output of the one before."""
    assert await (loop_until(over_ten, double, cap=10) >> inc).run(1) == 17


async def test_the_body_runs_at_least_once() -> None:
    """The predicate judges the body's output, not its input."""
    assert await loop_until(over_ten, double, cap=1).run(20) == 40


async def test_at_its_cap_a_loop_fails_with_its_last_output_kept(saver: InMemorySaver) -> None:
    """The error and the checkpoint both hold the last output; resuming runs no finished step again."""
    ran: list[int] = []

    @step
    async def once(x: int) -> int:
        ran.append(x)
        return x * 2

    flow = loop_until(over_ten, once, cap=2)
    with pytest.raises(LoopExhausted, match="2 rounds") as caught:
        await flow.run(1, checkpointer=saver, config=config())
    assert caught.value.last == 4
    assert step_of(caught.value) == "until over_ten"
    state = await flow.compile(checkpointer=saver).aget_state(config())  # type: ignore[arg-type]
    assert state.values["value"] == 4
    with pytest.raises(LoopExhausted):
        await flow.resume({}, checkpointer=saver, config=config())
    assert ran == [1, 2]


async def test_exactly_cap_rounds_are_allowed() -> None:
    """Leaving in the last round is no failure."""
    assert await loop_until(over_ten, double, cap=4).run(1) == 16
    with pytest.raises(LoopExhausted):
        await loop_until(over_ten, double, cap=3).run(1)


async def test_on_cap_takes_over_with_the_last_output() -> None:
    """A step may mend what the loop could not."""
    flow = loop_until(over_ten, double, cap=2, on_cap=inc) >> double
    assert await flow.run(1) == 10


async def test_a_person_may_take_over_at_the_cap(saver: InMemorySaver) -> None:
    """At the cap somebody decides with the last output before them."""
    flow = loop_until(over_ten, double, cap=2, on_cap=approve("give up")) >> inc
    waiting = await flow.run(1, checkpointer=saver, config=config())
    assert isinstance(waiting, Waiting)
    assert waiting.requests[0].request.value == {"value": 4}
    assert await answered(flow, waiting, saver) == 5


async def test_an_inner_loop_counts_anew_in_each_outer_round() -> None:
    """Rounds belong to one pass of a loop."""
    inner_rounds: list[int] = []

    @step
    async def note(x: int) -> int:
        inner_rounds.append(x)
        return x + 1

    def even(x: int) -> bool:
        return x % 2 == 0

    flow = loop_until(over_ten, loop_until(even, note, cap=2), cap=10)
    assert await flow.run(0) == 12
    assert len(inner_rounds) == 12


async def test_big_caps_and_nesting_stay_below_the_recursion_limit() -> None:
    """The limit is computed from the pipeline and reaches bodies in subgraphs."""

    def until(limit: int):  # type: ignore[no-untyped-def]
        return lambda x: x >= limit

    long = parallel(a=loop_until(until(150), inc, cap=1000), b=inc) >> gathered
    assert await (loop_until(until(100), inc, cap=200) >> long).run(0) == 251


async def test_a_loop_may_end_in_a_branch() -> None:
    """Choices at the end of a body are followed by the loop's own."""
    flow = loop_until(over_ten, branch_on(lambda x: str(x % 2), **{"0": inc, "1": double}), cap=20)
    assert await flow.run(1) == 14


def test_a_cap_below_one_is_refused() -> None:
    """A loop that may not run is a mistake."""
    with pytest.raises(FlowInvalid, match="cap of 0"):
        loop_until(over_ten, inc, cap=0)
