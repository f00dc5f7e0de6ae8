"""Hooks: order, payloads, nested steps, stopping a run, and the console tracer."""

from __future__ import annotations

import asyncio
import io
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from phoenix.errors import RunStopped
from phoenix.flow import (
    Hooks,
    approve,
    as_step,
    branch_on,
    console_tracer,
    loop_until,
    map_over,
    parallel,
    step,
)
from phoenix.flow.hooks import StepFailed, StepFinished, StepStarted
from tests.unit.flow.steps import answered, config, double, gathered, inc, total, upto


def recorder(log: list[Any]) -> Hooks:
    """Return hooks that append every payload to a log."""

    async def note(event: Any) -> None:
        log.append(event)

    return Hooks(*([note],) * 8)


def outline(log: list[Any]) -> list[str]:
    """Return kinds and paths in order."""
    return [
        f"{type(e).__name__} {'/'.join(e.place.path)}" if hasattr(e, "place") else type(e).__name__
        for e in log
    ]


async def test_hooks_fire_in_order_with_typed_payloads() -> None:
    """Run, then each step from start to end, then run."""
    log: list[Any] = []
    await (inc >> double).run(1, hooks=recorder(log))
    assert outline(log) == [
        "RunStarted",
        "StepStarted inc",
        "StepFinished inc",
        "StepStarted double",
        "StepFinished double",
        "RunFinished",
    ]
    assert (log[1].value, log[2].output, log[2].cached) == (1, 2, False)
    assert log[2].seconds >= 0
    assert (log[-1].status, log[-1].value) == ("success", 4)
    with pytest.raises(FrozenInstanceError):
        log[1].value = 2


async def test_nested_steps_are_seen_with_their_path() -> None:
    """Every nested step takes the same way as a top one."""
    log: list[Any] = []
    flow = as_step(inc, "start") >> branch_on(
        lambda x: "go",
        go=loop_until(bool, parallel(a=upto >> map_over(inc) >> total, b=double) >> gathered, cap=2),
    )
    await flow.run(1, hooks=recorder(log))
    paths = {"/".join(e.place.path) for e in log if isinstance(e, StepFinished)}
    around = "go/until bool"
    assert paths == {
        "start/inc",
        f"{around}/parallel/a/upto",
        f"{around}/parallel/a/map inc[0]/inc",
        f"{around}/parallel/a/map inc[1]/inc",
        f"{around}/parallel/a/total",
        f"{around}/parallel/b/double",
        f"{around}/gathered",
    }


async def test_a_failed_step_is_reported_before_the_run() -> None:
    """The event holds the step's own error."""

    @step
    async def breaks(x: int) -> int:
        raise ZeroDivisionError

    log: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        await (inc >> breaks).run(1, hooks=recorder(log))
    assert outline(log)[-2:] == ["StepFailed breaks", "RunFinished"]
    assert isinstance(log[-2].error, ZeroDivisionError)
    assert (log[-2].will_retry, log[-1].status) == (False, "failed")


async def test_a_timed_out_attempt_is_reported() -> None:
    """LangGraph ends the attempt from outside; the hooks see it nevertheless."""

    @step(timeout_seconds=0.02)
    async def endless(x: int) -> int:
        await asyncio.sleep(30)
        return x

    log: list[Any] = []
    with pytest.raises(Exception, match="run timeout"):
        await (inc >> endless).run(1, hooks=recorder(log))
    assert any(isinstance(e, StepFailed) and isinstance(e.error, TimeoutError) for e in log)


async def test_a_hook_can_stop_a_run_before_a_step() -> None:
    """Nothing of the step is done."""
    ran: list[int] = []

    @step
    async def expensive(x: int) -> int:
        ran.append(x)
        return x

    async def guard(event: StepStarted) -> None:
        if event.place.step == "expensive":
            raise RunStopped("too expensive")

    with pytest.raises(RunStopped, match="too expensive"):
        await (inc >> parallel(on_failure="ignore", a=inc >> expensive)).run(
            1, hooks=Hooks(pre_step=(guard,))
        )
    assert ran == []


async def test_a_hook_can_stop_a_run_before_it_begins() -> None:
    """pre_run comes before everything."""

    async def no(_event: Any) -> None:
        raise RunStopped

    log: list[Any] = []
    with pytest.raises(RunStopped):
        await (inc >> inc).run(1, hooks=Hooks(pre_run=(no,)) + recorder(log))
    assert log == []


async def test_hooks_of_two_sets_fire_one_after_the_other() -> None:
    """Adding sets keeps their order."""
    log: list[str] = []

    def named(name: str) -> Hooks:
        async def note(_event: Any) -> None:
            log.append(name)

        return Hooks(pre_step=(note,))

    await (inc >> inc).run(1, hooks=named("a") + named("b"))
    assert log == ["a", "b", "a", "b"]


async def test_tools_and_models_of_a_step_are_seen() -> None:
    """Calls come with the step that makes them, also when it is nested."""

    @tool
    async def lookup(word: str) -> str:
        """Look a word up."""
        return word.upper()

    @step
    async def agent(text: str) -> str:
        found = await lookup.ainvoke({"word": text})
        return str((await FakeListChatModel(responses=[found]).ainvoke(text)).content)

    log: list[Any] = []
    assert await parallel(a=agent).run("x", hooks=recorder(log)) == {"a": "X"}
    assert outline(log)[1:-1] == [
        "StepStarted parallel/a/agent",
        "ToolStarted parallel/a/agent",
        "ToolFinished parallel/a/agent",
        "ModelStarted parallel/a/agent",
        "ModelFinished parallel/a/agent",
        "StepFinished parallel/a/agent",
    ]
    assert (log[2].tool, log[2].input, log[3].output) == ("lookup", {"word": "x"}, "X")


async def test_a_hook_can_stop_a_tool_call() -> None:
    """The tool is not called, and the run ends."""
    called: list[str] = []

    @tool
    async def delete(name: str) -> str:
        """Delete something."""
        called.append(name)
        return name

    @step
    async def agent(text: str) -> str:
        return str(await delete.ainvoke({"name": text}))

    async def no(_event: Any) -> None:
        raise RunStopped("no deleting")

    with pytest.raises(RunStopped, match="no deleting"):
        await parallel(a=agent).run("x", hooks=Hooks(pre_tool=(no,)))
    assert called == []


async def test_a_paused_run_says_so_and_says_when_it_goes_on(saver: InMemorySaver) -> None:
    """Human steps fire no step hooks: their interrupt is their event."""
    log: list[Any] = []
    flow = inc >> approve("go") >> double
    waiting = await flow.run(1, checkpointer=saver, config=config(), hooks=recorder(log))
    assert outline(log) == ["RunStarted", "StepStarted inc", "StepFinished inc", "RunFinished"]
    assert log[-1].status == "waiting"
    log.clear()
    given = {waiting.requests[0].interrupt_id: {"verdict": "approve"}}  # type: ignore[union-attr]
    await flow.resume(given, checkpointer=saver, config=config(), hooks=recorder(log))
    assert log[0].resumed
    assert outline(log)[1:-1] == ["StepStarted double", "StepFinished double"]
    assert await answered(flow, None, saver) is None


async def test_the_console_tracer_prints_a_line_for_each_event() -> None:
    """Nested steps are indented below what encloses them."""
    out = io.StringIO()
    await (inc >> parallel(a=double)).run(1, hooks=console_tracer(out))
    lines = out.getvalue().splitlines()
    assert lines[0] == "started inc >> parallel"
    assert any(line.startswith("      < parallel/a/double ") for line in lines)
    assert lines[-1].startswith("success")


async def test_tool_hooks_alone_know_the_step() -> None:
    """No step hook is needed to learn who calls, and other callbacks stay."""

    @tool
    async def lookup(word: str) -> str:
        """Look a word up."""
        return word

    @step
    async def agent(text: str) -> str:
        return str(await lookup.ainvoke({"word": text}))

    log: list[Any] = []

    async def note(event: Any) -> None:
        log.append(event.place.path)

    await parallel(a=agent).run("x", hooks=Hooks(pre_tool=(note,)))
    assert log == [("parallel", "a", "agent")]
