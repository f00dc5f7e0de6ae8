"""Attempts: what is tried again, how often, and whose error is seen."""

from __future__ import annotations

import asyncio

import pytest
from langgraph.errors import NodeTimeoutError
from langgraph.types import RetryPolicy

from phoenix.errors import FlowInvalid, ModelRefusedKey, ModelTimeout, PhoenixError, SandboxUnavailable
from phoenix.flow import Hooks, Step, fallback, is_transient, loop_until, parallel, step, step_of
from tests.unit.flow.steps import double, inc

QUICK = RetryPolicy(initial_interval=0.001, jitter=False)


def failing(error: BaseException, times: int, ran: list[int], **options: object) -> Step[int, int]:
    """Return a step that fails so many times before it succeeds."""

    @step(retry=QUICK, **options)  # type: ignore[call-overload, untyped-decorator]
    async def flaky(x: int) -> int:
        ran.append(x)
        if len(ran) <= times:
            raise error
        return x + 1

    return flaky  # type: ignore[no-any-return]


HOOKED = Hooks(post_step=[lambda _event: asyncio.sleep(0)])  # type: ignore[arg-type]


@pytest.mark.parametrize("hooks", [None, HOOKED], ids=["plain", "hooked"])
@pytest.mark.parametrize("error", [ModelTimeout(), TimeoutError(), ConnectionResetError()])
async def test_a_transient_error_is_tried_exactly_max_attempts_times(
    error: Exception, hooks: Hooks | None
) -> None:
    """Neither once more nor once less; then the step's own error is seen."""
    ran: list[int] = []
    with pytest.raises(type(error)) as caught:
        await (inc >> failing(error, 99, ran, max_attempts=4)).run(1, hooks=hooks)
    assert len(ran) == 4
    assert caught.value is error
    assert step_of(caught.value) == "flaky"


@pytest.mark.parametrize("hooks", [None, HOOKED], ids=["plain", "hooked"])
async def test_the_last_attempt_may_succeed(hooks: Hooks | None) -> None:
    """Three attempts may fail twice."""
    ran: list[int] = []
    assert await (inc >> failing(ModelTimeout(), 2, ran, max_attempts=3)).run(1, hooks=hooks) == 3
    assert len(ran) == 3


@pytest.mark.parametrize("error", [ModelRefusedKey(), ValueError("wrong"), SandboxUnavailable()])
async def test_a_permanent_error_is_not_tried_again(error: Exception) -> None:
    """A refused key stays refused."""
    ran: list[int] = []
    with pytest.raises(type(error)):
        await (inc >> failing(error, 99, ran, max_attempts=4)).run(1)
    assert len(ran) == 1


async def test_a_step_is_tried_once_unless_it_says_otherwise() -> None:
    """Around an agent a retry repeats finished work."""
    ran: list[int] = []

    @step
    async def once(x: int) -> int:
        ran.append(x)
        raise ModelTimeout

    with pytest.raises(ModelTimeout):
        await (inc >> once).run(1)
    assert len(ran) == 1


async def test_the_policy_may_say_what_is_tried_again() -> None:
    """A step knows its own errors best."""
    ran: list[int] = []

    @step(retry=QUICK._replace(retry_on=KeyError), max_attempts=3)
    async def odd(x: int) -> int:
        ran.append(x)
        raise KeyError(x)

    with pytest.raises(KeyError):
        await (inc >> odd).run(1)
    assert len(ran) == 3


async def test_nested_steps_are_tried_as_often_as_top_ones() -> None:
    """No construct around a step adds attempts."""
    ran: list[int] = []
    body = failing(ModelTimeout(), 99, ran, max_attempts=2)
    with pytest.raises(ModelTimeout) as caught:
        await (inc >> parallel(a=loop_until(bool, inc >> body, cap=3))).run(1)
    assert len(ran) == 2
    assert step_of(caught.value) == "flaky"


@pytest.mark.parametrize("hooks", [None, HOOKED], ids=["plain", "hooked"])
async def test_a_timeout_ends_an_attempt_and_is_tried_again(hooks: Hooks | None) -> None:
    """Each attempt has its own time."""
    ran: list[int] = []

    @step(timeout_seconds=0.05, retry=QUICK, max_attempts=2)
    async def endless(x: int) -> int:
        ran.append(x)
        await asyncio.sleep(30)
        return x

    with pytest.raises(NodeTimeoutError) as caught:
        await (inc >> endless).run(1, hooks=hooks)
    assert len(ran) == 2
    assert step_of(caught.value) == "endless"


async def test_the_error_keeps_its_type_and_gains_a_note() -> None:
    """Nothing wraps a failed step's error; the step's name stands beside it."""

    class OwnError(Exception):
        pass

    @step
    async def breaks(x: int) -> int:
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine") as caught:
        await (inc >> breaks >> double).run(1)
    assert type(caught.value) is OwnError
    assert "in step 'breaks'" in caught.value.__notes__


async def test_a_fallback_takes_over_after_the_last_attempt() -> None:
    """It gets the same input."""
    ran: list[int] = []
    flow = inc >> fallback(failing(ModelTimeout(), 99, ran, max_attempts=2), double) >> inc
    assert await flow.run(1) == 5
    assert len(ran) == 2


async def test_a_fallback_is_not_used_when_all_goes_well() -> None:
    """The first step's output counts."""
    assert await (fallback(inc, double) >> inc).run(5) == 7


async def test_a_failing_fallback_shows_its_own_error() -> None:
    """The last to fail is seen."""

    @step
    async def first(x: int) -> int:
        raise ValueError("first")

    @step
    async def second(x: int) -> int:
        raise KeyError("second")

    with pytest.raises(KeyError, match="second") as caught:
        await (inc >> fallback(first, second)).run(1)
    assert step_of(caught.value) == "second"


async def test_fallbacks_may_be_chained_and_be_pipelines() -> None:
    """A fallback is any flow."""

    @step
    async def broken(x: int) -> int:
        raise ValueError

    @step
    async def broken_too(x: int) -> int:
        raise ValueError

    assert await fallback(broken, fallback(broken_too, inc >> double)).run(1) == 4


async def test_a_fallback_catches_a_timeout() -> None:
    """LangGraph's own error is a failure like any other."""

    @step(timeout_seconds=0.02)
    async def endless(x: int) -> int:
        await asyncio.sleep(30)
        return x

    assert await fallback(endless, inc).run(1) == 2


async def test_a_fallback_never_hides_what_ends_everything() -> None:
    """A missing sandbox is no reason to try something else."""

    @step
    async def unsafe(x: int) -> int:
        raise SandboxUnavailable

    with pytest.raises(SandboxUnavailable):
        await fallback(unsafe, inc).run(1)


def test_a_cycle_of_fallbacks_is_refused() -> None:
    """a, then b, then a again would never end."""
    with pytest.raises(FlowInvalid, match="cycle"):
        fallback(inc, fallback(double, inc)).validate()
    with pytest.raises(FlowInvalid, match="cycle"):
        fallback(inc, double >> inc).validate()


def test_categories_decide_what_is_transient() -> None:
    """Every error of the tree says so itself."""
    assert is_transient(ModelTimeout())
    assert not is_transient(PhoenixError())
    assert not is_transient(OSError())
