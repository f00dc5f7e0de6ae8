"""Validation plugins: accept, reject with feedback, redirect, replace."""

from __future__ import annotations

import asyncio

import pytest
from langgraph.types import RetryPolicy

from phoenix.errors import FlowInvalid, ModelTimeout, StepRejected, StepTypeMismatch
from phoenix.flow import Accept, Feedback, Hooks, Redirect, Reject, Replace, Step, parallel, step
from phoenix.flow.hooks import StepFailed, StepFinished
from phoenix.flow.verdict import Validator, Verdict
from tests.unit.flow.steps import double, inc

QUICK = RetryPolicy(initial_interval=0.001, jitter=False)


def listener(*validators: Validator, said: list[str | None], max_attempts: int = 3) -> Step[int, int]:
    """Return a step that counts up with each attempt and notes the feedback it gets."""

    @step(validate=validators, max_attempts=max_attempts, retry=QUICK)
    async def attempt(x: int, feedback: Feedback | None) -> int:
        said.append(feedback.text if feedback else None)
        return x + len(said)

    return attempt


def at_least(limit: int) -> Validator:
    def check(_value: int, output: int) -> Verdict:
        return Accept() if output >= limit else Reject(f"{output} is below {limit}")

    return check


async def test_a_rejection_reaches_the_next_attempt_as_feedback() -> None:
    """Each attempt reads why the one before was not good."""
    said: list[str | None] = []
    assert await (inc >> listener(at_least(5), said=said) >> double).run(1) == 10
    assert said == [None, "3 is below 5", "4 is below 5"]


async def test_a_rejected_step_is_tried_exactly_max_attempts_times() -> None:
    """Then it fails with the last feedback."""
    said: list[str | None] = []
    with pytest.raises(StepRejected, match="4 is below 99"):
        await (inc >> listener(at_least(99), said=said, max_attempts=2)).run(1)
    assert said == [None, "3 is below 99"]


async def test_rejections_and_transient_errors_count_together() -> None:
    """No mix of failures gives a step more attempts than it has; the last one's own error is seen."""
    ran = 0

    @step(validate=[at_least(99)], max_attempts=4, retry=QUICK)
    async def mixed(x: int) -> int:
        nonlocal ran
        ran += 1
        if ran % 2 == 0:
            raise ModelTimeout
        return x

    with pytest.raises(ModelTimeout):
        await (inc >> mixed).run(1)
    assert ran == 4


async def test_rejections_and_timeouts_count_together() -> None:
    """LangGraph ends a timed-out attempt from outside; it counts all the same."""
    ran = 0

    @step(validate=[at_least(99)], max_attempts=3, retry=QUICK, timeout_seconds=0.05)
    async def mixed(x: int) -> int:
        nonlocal ran
        ran += 1
        if ran > 1:
            await asyncio.sleep(30)
        return x

    with pytest.raises(StepRejected, match="used all its 3 attempts"):
        await (inc >> mixed).run(1)
    assert ran == 3


async def test_feedback_is_cleared_after_success() -> None:
    """The next listening step hears nothing of it."""
    first: list[str | None] = []
    second: list[str | None] = []
    flow = listener(at_least(3), said=first) >> listener(said=second)
    await flow.run(1)
    assert first == [None, "2 is below 3"]
    assert second == [None]


async def test_attempts_start_anew_for_each_step() -> None:
    """One step's rejections are not another's."""
    first: list[str | None] = []
    second: list[str | None] = []
    await (listener(at_least(4), said=first) >> listener(at_least(7), said=second)).run(1)
    assert (len(first), len(second)) == (3, 3)


async def test_an_output_may_be_replaced() -> None:
    """Later validators and steps see the new one."""
    seen: list[int] = []

    def note(_value: int, output: int) -> Verdict:
        seen.append(output)
        return None

    async def mend(_value: int, output: int) -> Verdict:
        return Replace(output * 100)

    said: list[str | None] = []
    assert await (listener(mend, note, said=said) >> inc).run(1) == 201
    assert seen == [200]


async def test_a_replacement_is_checked_too() -> None:
    """A validator cannot smuggle in another type."""
    with pytest.raises(StepTypeMismatch, match="declares int"):
        await (inc >> listener(lambda _v, _o: Replace("text"), said=[])).run(1)


async def test_a_step_may_be_redirected() -> None:
    """Another flow does the work from the same input, then the pipeline goes on."""

    @step(validate=[lambda v, o: Redirect(double) if v > 10 else None], redirects=[double])
    async def small(x: int) -> int:
        return x + 1

    flow = small >> inc
    assert [await flow.run(x) for x in (1, 20)] == [3, 41]


async def test_a_redirect_must_be_listed() -> None:
    """An unlisted target is no part of the drawn graph, so it is refused by name."""

    @step(validate=[lambda v, o: Redirect(double)])
    async def small(x: int) -> int:
        return x + 1

    with pytest.raises(FlowInvalid, match="'double', which it does not list"):
        await (inc >> small).run(1)


async def test_validators_work_inside_branches() -> None:
    """A nested step's attempts are its own."""
    said: list[str | None] = []
    assert await parallel(a=listener(at_least(3), said=said), b=inc).run(1) == {"a": 3, "b": 2}
    assert len(said) == 2


async def test_hooks_see_rejected_attempts() -> None:
    """Each attempt has its number."""
    seen: list[tuple[str, int, bool]] = []

    async def note(event: StepFinished | StepFailed) -> None:
        retry = isinstance(event, StepFailed) and event.will_retry
        seen.append((type(event).__name__, event.place.attempt, retry))

    said: list[str | None] = []
    await (inc >> listener(at_least(4), said=said)).run(1, hooks=Hooks(post_step=(note,)))
    assert seen == [("StepFinished", 1, False), ("StepFailed", 1, True), ("StepFinished", 2, False)]
