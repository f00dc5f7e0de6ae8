"""Pipelines: composition, static checks, and that run, astream and resume agree."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from phoenix.errors import FlowInvalid, ResumeRefused
from phoenix.flow import (
    Flow,
    Pipeline,
    Result,
    StepOutput,
    Waiting,
    approve,
    as_step,
    ask,
    branch_on,
    fallback,
    loop_until,
    map_over,
    parallel,
    step,
)
from tests.unit.flow.steps import (
    APPROVE,
    Reply,
    answered,
    config,
    double,
    gathered,
    inc,
    length,
    show,
    total,
    upto,
)


async def test_any_mix_gives_one_flat_pipeline() -> None:
    """Composing is associative: steps, constructs and pipelines chain in any way."""
    left = (inc >> double) >> (inc >> double)
    right = inc >> (double >> (inc >> double))
    assert [m.name for m in left.members] == [m.name for m in right.members] == ["inc", "double"] * 2
    assert await left.run(1) == await right.run(1) == 10


async def test_operands_never_change() -> None:
    """A pipeline can be the beginning of several others."""
    first = inc >> double
    one, other = first >> inc, first >> double
    assert len(first.members) == 2
    assert (await first.run(1), await one.run(1), await other.run(1)) == (4, 5, 8)
    with pytest.raises(AttributeError):
        first.members = ()  # type: ignore[misc]


def test_a_plain_function_cannot_be_chained() -> None:
    """The message says what to do."""
    with pytest.raises(FlowInvalid, match="@step"):
        inc >> print  # type: ignore[operator]


def test_a_pipeline_can_be_named() -> None:
    """The default name lists the steps."""
    assert (inc >> double).name == "inc >> double"
    assert (inc >> double).named("grow").name == "grow"


MISFITS: dict[str, Flow[Any, Any]] = {
    "sequence": show >> inc,
    "loop": inc >> loop_until(bool, show >> inc, cap=2),
    "loop back edge": length >> loop_until(bool, inc >> show, cap=2),
    "branch": inc >> branch_on(str, a=show >> inc),
    "branch end": inc >> branch_on(str, a=show, b=inc) >> inc,
    "parallel": inc >> parallel(a=show >> inc),
    "map": upto >> map_over(show >> inc),
    "map item": upto >> map_over(length),
    "fallback": inc >> fallback(inc, show) >> inc,
    "revise": inc >> approve("gate", revise=show >> inc),
    "revised": inc >> approve("gate", revise=show) >> inc,
    "as_step": inc >> as_step(show >> inc, "inner"),
    "deep": inc >> branch_on(str, a=loop_until(bool, parallel(x=show >> inc) >> gathered, cap=2)),
}


@pytest.mark.parametrize("where", MISFITS)
def test_a_mismatch_is_reported_with_both_names(where: str) -> None:
    """Static checks descend into every body."""
    with pytest.raises(FlowInvalid) as caught:
        MISFITS[where].validate()
    names = {"map item": ("upto", "length"), "loop back edge": ("show", "inc")}
    for name in names.get(where, ("show", "inc")):
        assert f"'{name}'" in str(caught.value)


def test_all_problems_are_listed_at_once() -> None:
    """Nobody mends a pipeline one message at a time."""
    with pytest.raises(FlowInvalid) as caught:
        (show >> inc >> length).validate()
    assert "'show' gives str but 'inc' takes int" in str(caught.value)
    assert "'inc' gives int but 'length' takes str" in str(caught.value)


def test_compile_refuses_what_does_not_fit() -> None:
    """A wrong pipeline never starts."""
    with pytest.raises(FlowInvalid):
        (show >> inc).compile()


def test_an_answer_flows_on_as_its_type() -> None:
    """After `ask` the value is the answer."""

    @step
    async def read(reply: Reply) -> str:
        return reply.text

    (inc >> ask("why", answer=Reply) >> read).validate()
    with pytest.raises(FlowInvalid, match="'why' gives Reply but 'inc' takes int"):
        (inc >> ask("why", answer=Reply) >> inc).validate()


async def test_a_recipe_is_an_ordinary_pipeline() -> None:
    """A factory's result can be inspected, drawn, composed and run."""

    def grow_until(limit: int, body: Flow[Any, Any]) -> Pipeline[Any, Any]:
        def enough(x: int) -> bool:
            return x >= limit

        return inc >> loop_until(enough, body, cap=10)

    recipe = grow_until(20, double)
    assert [m.name for m in recipe.members] == ["inc", "until enough"]
    assert "until enough" in recipe.to_mermaid()
    assert await (recipe >> inc).run(1) == 33


async def test_run_astream_and_resume_agree(saver: InMemorySaver) -> None:
    """The same flow gives the same value whichever way it is run."""
    flow = inc >> parallel(a=inc >> double, b=double) >> gathered >> upto >> map_over(inc) >> total
    expected = await flow.run(2)
    items = [item async for item in flow.astream(2)]
    assert items[-1] == Result(expected)
    paused = inc >> approve("go") >> flow
    waiting = await paused.run(1, checkpointer=saver, config=config())
    assert isinstance(waiting, Waiting)
    assert await answered(paused, waiting, saver) == expected


async def test_astream_yields_what_each_nested_step_gave() -> None:
    """Steps inside parallel branches are seen with their path."""
    flow = inc >> parallel(a=inc >> double, b=double)
    seen = {i.path: i.value async for i in flow.astream(1) if isinstance(i, StepOutput)}
    assert seen["inc",] == 2
    assert seen["parallel/a", "double"] == 6
    assert seen["parallel/b", "double"] == 4


async def test_new_input_is_refused_while_a_run_waits(saver: InMemorySaver) -> None:
    """An open approval is never silently abandoned."""
    flow = inc >> approve("go")
    await flow.run(1, checkpointer=saver, config=config())
    with pytest.raises(ResumeRefused, match="not at its end"):
        await flow.run(2, checkpointer=saver, config=config())


async def test_a_resume_must_name_its_interrupt(saver: InMemorySaver) -> None:
    """A bare or stray resume never approves anything."""
    flow = inc >> approve("go") >> double
    waiting = await flow.run(1, checkpointer=saver, config=config())
    assert isinstance(waiting, Waiting)
    for stray in ({}, APPROVE, {"0" * 32: APPROVE}, "approve", Command(resume=APPROVE)):
        with pytest.raises(ResumeRefused):
            await flow.resume(stray, checkpointer=saver, config=config())  # type: ignore[arg-type]
    assert await answered(flow, waiting, saver) == 4


async def test_a_flow_that_asks_needs_a_checkpointer() -> None:
    """The message says how to give one."""
    with pytest.raises(FlowInvalid, match="InMemorySaver"):
        await (inc >> approve("go")).run(1)


async def test_none_is_a_value() -> None:
    """A step may give nothing, and the next may take it."""

    @step
    async def nothing(x: int) -> None:
        return None

    @step
    async def after(x: None) -> str:
        return "done"

    assert await (nothing >> after).run(1) == "done"


async def test_the_same_step_can_be_used_twice() -> None:
    """Node names stay unique and stable."""
    graph = (inc >> inc >> inc).compile()
    assert [n for n in graph.nodes if n.startswith("inc")] == ["inc", "inc#2", "inc#3"]


def test_leaf_steps_are_the_nodes() -> None:
    """Loops are edges: the graph has a node per step, and a gate where a choice may fail."""
    graph = (inc >> loop_until(bool, double >> inc, cap=3)).compile()
    assert set(graph.nodes) == {"__start__", "inc", "double", "inc#2", "until bool"}
