"""Durability on PostgreSQL: after any crash a run goes on, and no finished step runs again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from phoenix.flow import Flow, Waiting, approve, branch_on, loop_until, map_over, parallel, step
from phoenix.flow.hooks import Hooks, StepStarted
from tests.unit.flow.steps import Draft, answered, config, double, gathered, inc, total, upto


class Crash(BaseException):
    """A process that dies: nothing in a flow may catch it."""


FOLLOWERS = {
    "first(1)": {"body(2)"},
    "body(2)": {"body(3)"},
    "body(3)": {"left(4)", "item(0)", "item(1)", "item(2)", "item(3)"},
    "left(4)": {"left2(5)"},
    **{f"item({n})": {f"item2({n + 1})"} for n in range(4)},
    **{name: {"last(16)"} for name in ("left2(5)", "item2(1)", "item2(2)", "item2(3)", "item2(4)")},
}
"""A step is finished for sure once one that follows it has begun."""


def crashing(ran: Counter[str], begun: set[str], at: int) -> Flow[Any, Any]:
    """Return a flow over all constructs whose n-th step dies before it has done anything."""
    count = 0

    def named(name: str, change: int) -> Any:
        @step(name=name)
        async def work(x: int) -> int:
            nonlocal count
            count += 1
            begun.add(f"{name}({x})")
            if count == at:
                raise Crash
            ran[f"{name}({x})"] += 1
            return x + change

        return work

    side = upto >> map_over(named("item", 1) >> named("item2", 0)) >> total
    return (
        named("first", 1)
        >> branch_on(lambda x: "a", a=loop_until(lambda x: x > 3, named("body", 1), cap=5))
        >> parallel(a=named("left", 1) >> named("left2", 1), b=side)
        >> gathered
        >> named("last", 0)
    )


async def attempt(flow: Flow[Any, Any], url: str, thread: str, *, start: bool) -> Any:
    """Run or go on, on a connection of its own as a process would; return None when it died."""
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        try:
            if start:
                return await flow.run(1, checkpointer=saver, config=config(thread))
            return await flow.resume({}, checkpointer=saver, config=config(thread))
        except Crash:
            return None


async def test_resume_after_a_crash_never_runs_a_finished_step_again(database_url: str) -> None:
    """A process dies at each step in turn, in every construct; the next one goes on from there."""
    async with AsyncPostgresSaver.from_conn_string(database_url) as saver:
        await saver.setup()
    died = 0
    for at in range(1, 15):
        ran: Counter[str] = Counter()
        begun: set[str] = set()
        result = await attempt(crashing(ran, begun, at), database_url, str(at), start=True)
        finished = {name for name in ran if FOLLOWERS.get(name, set()) & begun}
        if result is None:
            died += 1
            result = await attempt(crashing(ran, begun, 0), database_url, str(at), start=False)
        assert result == 16, at
        assert {name: ran[name] for name in finished} == dict.fromkeys(finished, 1), at
    assert died == 14


async def test_a_failed_run_goes_on_from_the_failed_step(database_url: str) -> None:
    """What was done beside the failure is kept."""
    ran: Counter[str] = Counter()
    broken = True

    @step
    async def before(x: int) -> int:
        ran["before"] += 1
        return x

    @step
    async def fails(x: int) -> int:
        if broken:
            raise ValueError
        return x

    flow = before >> parallel(a=before >> fails, b=before) >> gathered
    async with AsyncPostgresSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        with pytest.raises(ValueError):
            await flow.run(1, checkpointer=saver, config=config())
        broken = False
        assert await flow.resume({}, checkpointer=saver, config=config()) == 2
    assert ran["before"] == 3


async def test_people_answer_a_run_that_another_process_started(database_url: str) -> None:
    """Models come back from the database as models; only what is left is done."""
    started: list[str] = []

    async def note(event: StepStarted) -> None:
        started.append(event.place.step)

    @step
    async def draft(x: int) -> Draft:
        return Draft(text="x" * x)

    @step
    async def size(done: Draft) -> int:
        return len(done.text)

    flow = inc >> parallel(a=draft >> approve("spec") >> size, b=inc >> double) >> gathered
    hooks = Hooks(pre_step=(note,))
    async with AsyncPostgresSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        waiting = await flow.run(1, checkpointer=saver, config=config(), hooks=hooks)
        assert isinstance(waiting, Waiting)
        assert sorted(started) == ["double", "draft", "inc", "inc"]
    started.clear()
    async with AsyncPostgresSaver.from_conn_string(database_url) as saver:
        given = {waiting.requests[0].interrupt_id: {"verdict": "approve"}}
        assert await flow.resume(given, checkpointer=saver, config=config(), hooks=hooks) == 8
    assert started == ["size", "gathered"]


async def test_a_value_is_stored_once_per_version(database_url: str) -> None:
    """Loops, branches and approvals store no copies of a value that they only pass on."""

    @step
    async def big(x: int) -> Draft:
        return Draft(text="y" * 2_000)

    flow = big >> branch_on(lambda x: "a", a=approve("one")) >> approve("two")
    async with AsyncPostgresSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        waiting = await flow.run(1, checkpointer=saver, config=config())
        await answered(flow, waiting, saver)
        async with saver.conn.cursor() as cursor:  # type: ignore[union-attr]
            await cursor.execute(
                "select count(*) as n from checkpoint_blobs where channel = 'value' and length(blob) > 1000"
            )
            row = await cursor.fetchone()
    assert row == {"n": 1}
