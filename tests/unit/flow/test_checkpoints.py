"""What flows leave in checkpoints: plain data and the models that they declare."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.domain.frozen import Frozen
from phoenix.flow import Feedback, Reject, approve, branch_on, fallback, loop_until, map_over, parallel, step
from tests.unit.flow.steps import Draft, Reply, answered, config, inc, total, upto


class Nested(Frozen):
    inner: list[Reply] = []


@step
async def draft(x: int, feedback: Feedback | None) -> Draft:
    return Draft(text=f"{x} {feedback.text if feedback else ''}", round=x + 1)


@step
async def rounds(done: Draft | int) -> int:
    return done.round if isinstance(done, Draft) else done


@step
async def dies(x: Draft) -> Draft:
    raise ValueError(x)


@step(validate=[lambda _value, output: Reject("again") if output.text == "first" else None])
async def checked(old: Draft, feedback: Feedback | None) -> Draft:
    return old if feedback else Draft(text="first")


async def test_every_construct_runs_under_the_strict_serializer() -> None:
    """Nothing but plain data and declared models reaches a checkpoint."""

    @step(timeout_seconds=5)
    async def same(done: Draft) -> Draft:
        await asyncio.sleep(0)
        return done

    flow = (
        inc
        >> draft
        >> checked
        >> fallback(dies, same)
        >> parallel(on_failure="ignore", a=approve("gate", revise=same) >> rounds, b=dies)
        >> step(name="pick")(_pick)
        >> loop_until(lambda x: x > 3, inc, cap=9)
        >> branch_on(lambda x: "up", up=upto)
        >> map_over(draft >> approve("item") >> rounds)
        >> total
    )
    saver = InMemorySaver(serde=StrictSerializer(*flow.models()))
    waiting = await flow.run(1, checkpointer=saver, config=config())
    first = waiting.requests[0].interrupt_id  # type: ignore[union-attr]
    reject = {"verdict": "reject", "reason": "longer"}
    waiting = await flow.resume({first: reject}, checkpointer=saver, config=config())
    assert await answered(flow, waiting, saver) == 1 + 2 + 3 + 4


async def _pick(parts: dict[str, Any]) -> int:
    return int(parts["a"])


async def test_a_failed_step_leaves_a_readable_checkpoint() -> None:
    """The step's own error is seen, and the thread can be read and resumed."""
    flow = inc >> draft >> dies
    saver = InMemorySaver(serde=StrictSerializer(*flow.models()))
    for start in (True, False):
        with pytest.raises(ValueError):
            await (
                flow.run(1, checkpointer=saver, config=config())
                if start
                else flow.resume({}, checkpointer=saver, config=config())
            )
    state = await flow.compile(checkpointer=saver).aget_state(config())  # type: ignore[arg-type]
    assert state.next == ("dies",)


def test_a_flow_names_the_models_of_its_values() -> None:
    """Those of fields and bodies too: they go on the serializer's allow-list."""

    @step
    async def nest(x: Any) -> list[Nested] | None:
        return None

    flow = inc >> branch_on(str, a=loop_until(bool, draft >> rounds, cap=2), default=nest)
    assert flow.models() == {Draft, Nested, Reply}


@pytest.mark.parametrize("name", ["value", "feedback", "inc#2", "__start__", "a|b:c"])
async def test_a_step_may_have_any_name(name: str) -> None:
    """Names of channels and of other nodes do not clash."""

    @step(name=name)
    async def odd(x: int) -> int:
        return x

    assert await (inc >> odd >> inc >> odd).run(1) == 3
