"""branch_on: routing by key."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from phoenix.errors import BranchMissing, FlowInvalid
from phoenix.flow import branch_on, step, step_of
from tests.unit.flow.steps import config, double, inc


def parity(x: int) -> str:
    return "odd" if x % 2 else "even"


async def test_the_key_decides_the_way() -> None:
    """Each value goes one way and all meet again."""
    flow = branch_on(parity, odd=inc, even=double) >> inc
    assert [await flow.run(x) for x in (1, 2)] == [3, 5]


async def test_an_unknown_key_takes_the_default() -> None:
    """The default is for every key without a branch."""
    flow = inc >> branch_on(parity, odd=inc, default=double)
    assert [await flow.run(x) for x in (1, 2)] == [4, 4]


async def test_an_unknown_key_without_default_fails_by_name() -> None:
    """The message names the key and those that are known."""
    with pytest.raises(BranchMissing, match=r"no branch for the key 'even'; it has 'odd', 'other'") as caught:
        await (inc >> branch_on(parity, odd=inc, other=inc)).run(1)
    assert step_of(caught.value) == "parity"


async def test_a_branch_can_choose_between_branches() -> None:
    """Choices nest and cost no step of their own."""
    inner = branch_on(lambda x: "big" if x > 10 else "small", big=double, small=inc)
    flow = inc >> branch_on(parity, odd=inner, even=inner >> inc)
    assert [await flow.run(x) for x in (1, 2, 10, 11)] == [4, 4, 22, 25]


async def test_a_step_before_a_failing_choice_is_kept(saver: InMemorySaver) -> None:
    """The choice fails at a gate of its own: the step's output is kept, and it never runs again."""
    ran: list[int] = []

    @step
    async def once(x: int) -> int:
        ran.append(x)
        return x * 2

    flow = once >> branch_on(parity, odd=inc)
    with pytest.raises(BranchMissing):
        await flow.run(1, checkpointer=saver, config=config())
    with pytest.raises(BranchMissing):
        await flow.resume({}, checkpointer=saver, config=config())
    assert ran == [1]
    state = await flow.compile(checkpointer=saver).aget_state(config())  # type: ignore[arg-type]
    assert state.values["value"] == 2


async def test_an_error_of_the_key_function_is_its_own() -> None:
    """A bug in the choice is shown as it is, and as the choice's."""

    def broken(x: int) -> str:
        return {}[x]

    with pytest.raises(KeyError) as caught:
        await (inc >> branch_on(broken, a=inc)).run(1)
    assert step_of(caught.value) == "broken"


def test_no_branches_are_refused() -> None:
    """A choice needs something to choose."""
    with pytest.raises(FlowInvalid):
        branch_on(parity)


def test_a_branch_must_be_a_flow() -> None:
    """The message names the branch."""
    with pytest.raises(FlowInvalid, match="'odd'"):
        branch_on(parity, odd=print)  # type: ignore[arg-type]
