"""A superseded attempt stores nothing, and nobody else is the worse for it."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from phoenix.checkpoints.fence import claim_of
from phoenix.checkpoints.saver import open_saver
from phoenix.domain.run import ATTEMPT_KEY, RUN_KEY
from phoenix.errors import CheckpointRefused, DatabaseUnavailable, RunSuperseded
from tests.unit.checkpoints.fenced import a_run, execute, of, put, supersede, unfenced


async def stored(url: str, thread: Any) -> int:
    """Return how many rows a thread has."""
    query = " UNION ALL ".join(
        f"SELECT 1 FROM {table} WHERE thread_id = %s"
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
    )
    return len(await execute(url, query, *[str(thread)] * 3))


async def test_a_zombies_writes_are_refused_and_no_one_elses(migrated_database_url: str) -> None:
    """Of one batch only the old attempt's write fails; the new one, other runs and scripts store theirs."""
    run, other, script = (
        await a_run(migrated_database_url, attempt=2),
        await a_run(migrated_database_url),
        unfenced(),
    )
    async with open_saver(migrated_database_url) as saver:
        results = await asyncio.gather(
            put(saver, of(run, 1), value=["zombie"]),
            put(saver, of(run, 2), value=["alive"]),
            put(saver, of(other), value=["other"]),
            put(saver, script, value=["script"]),
            return_exceptions=True,
        )
        assert [isinstance(r, RunSuperseded) for r in results] == [True, False, False, False]
        for config, value in ((of(run, 2), ["alive"]), (of(other), ["other"]), (script, ["script"])):
            found = await saver.aget_tuple(config)
            assert found is not None
            assert found.checkpoint["channel_values"] == {"value": value}
        with pytest.raises(RunSuperseded):
            await saver.aput_writes(at(of(run, 1), results[1]), [("c", 1)], "t")
    assert await stored(migrated_database_url, run) == 2


def at(config: Any, of_point: Any) -> Any:
    """Return a configuration at a checkpoint."""
    return {"configurable": {**of_point["configurable"], **config["configurable"]}}


@pytest.mark.parametrize("status", ["pending", "waiting", "success", "failed", "cancelled"])
async def test_only_a_running_run_writes(migrated_database_url: str, status: str) -> None:
    """Once a run has stopped its attempt stores nothing more, whoever still works on it."""
    run = await a_run(migrated_database_url, status=status)
    async with open_saver(migrated_database_url) as saver:
        with pytest.raises(RunSuperseded):
            await put(saver, of(run), value=[1])
    assert await stored(migrated_database_url, run) == 0


async def test_a_held_row_stalls_only_its_own_run(migrated_database_url: str) -> None:
    """While somebody takes a run over, all others go on; then the taken one's old attempt is refused."""
    taken, freed, other = [await a_run(migrated_database_url) for _ in range(3)]
    async with (
        open_saver(migrated_database_url) as saver,
        await psycopg.AsyncConnection.connect(migrated_database_url) as claim,
    ):
        await claim.execute("UPDATE runs SET attempt = 2 WHERE id = %s", [taken])
        await claim.execute("SELECT FROM runs WHERE id = %s FOR UPDATE", [freed])
        waiting = [asyncio.create_task(put(saver, of(run), value=[1])) for run in (taken, freed)]
        async with asyncio.timeout(5):
            for n in range(20):
                await put(saver, of(other), value=[n])
        assert not any(task.done() for task in waiting)
        await claim.commit()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], RunSuperseded)
    assert not isinstance(results[1], BaseException)
    assert await stored(migrated_database_url, taken) == 0
    assert await stored(migrated_database_url, freed) == 2


async def test_a_row_that_is_held_for_too_long_is_an_error(migrated_database_url: str) -> None:
    """A call does not wait for ever, and says for what it waited."""
    run = await a_run(migrated_database_url)
    async with (
        open_saver(migrated_database_url, patience_seconds=0.2) as saver,
        await psycopg.AsyncConnection.connect(migrated_database_url) as claim,
    ):
        await claim.execute("SELECT FROM runs WHERE id = %s FOR UPDATE", [run])
        with pytest.raises(DatabaseUnavailable, match="held"):
            await put(saver, of(run), value=[1])


async def test_whoever_takes_a_run_over_waits_for_a_write_that_was_accepted(
    migrated_database_url: str,
) -> None:
    """An accepted write is committed before the run can be another's: it sees all of the old attempt."""
    run = await a_run(migrated_database_url)
    async with (
        open_saver(migrated_database_url) as saver,
        await psycopg.AsyncConnection.connect(migrated_database_url) as blocker,
    ):
        # Past the fence, the write meets the same value of somebody who has not committed yet.
        await blocker.execute(
            "INSERT INTO checkpoint_blobs VALUES (%s, '', 'value', '1', 'null', NULL)", [str(run)]
        )
        writing = asyncio.create_task(put(saver, of(run), value=[1]))
        await until_waiting(migrated_database_url, "checkpoint_blobs")
        takeover = asyncio.create_task(supersede(migrated_database_url, run))
        await asyncio.sleep(0.2)
        assert not takeover.done()
        await blocker.rollback()
        await writing
        await takeover
        assert await stored(migrated_database_url, run) == 2


async def until_waiting(url: str, what: str) -> None:
    """Return once a statement about something waits for a lock."""
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    async with asyncio.timeout(10):
        while not await execute(url, query, f"%INSERT INTO {what}%"):
            await asyncio.sleep(0.02)


class Outer(TypedDict, total=False):
    items: list[int]
    results: Annotated[list[int], operator.add]


class Inner(TypedDict, total=False):
    n: int
    results: Annotated[list[int], operator.add]


def nested(saver: Any, takeover: Any) -> Any:
    """Return a graph that sends items to a subgraph in parallel; one of them loses the run midway."""

    async def begin(state: Inner) -> Inner:
        if state["n"] == 2:
            await takeover()
        return {"n": state["n"] * 10}

    async def finish(state: Inner) -> Inner:
        return {"results": [state["n"]]}

    inner = StateGraph(Inner)
    inner.add_node("begin", begin)
    inner.add_node("finish", finish)
    inner.add_edge(START, "begin")
    inner.add_edge("begin", "finish")
    inner.add_edge("finish", END)
    compiled = inner.compile()

    async def by_call(state: Inner) -> Outer:
        done = await compiled.ainvoke({"n": state["n"]})
        return {"results": done["results"]}

    outer = StateGraph(Outer)
    outer.add_node("plan", lambda state: {"items": [1, 2, 3]})
    outer.add_node("work", by_call)
    outer.add_edge(START, "plan")
    outer.add_conditional_edges(
        "plan", lambda state: [Send("work", {"n": n}) for n in state["items"]], ["work"]
    )
    outer.add_edge("work", END)
    return outer.compile(checkpointer=saver)


async def test_subgraphs_inherit_the_fence(migrated_database_url: str) -> None:
    """A run that loses its attempt inside a subgraph stores nothing more, in whatever namespace."""
    run = await a_run(migrated_database_url)
    before: list[int] = []

    async def takeover() -> None:
        async with await psycopg.AsyncConnection.connect(migrated_database_url) as connection:
            # Whoever takes a run over sees all that its old attempt will ever have stored.
            await connection.execute("UPDATE runs SET attempt = attempt + 1 WHERE id = %s", [run])
            before.append(await stored(migrated_database_url, run))

    async with open_saver(migrated_database_url) as saver:
        with pytest.raises(RunSuperseded):
            await nested(saver, takeover).ainvoke({}, of(run), durability="sync")
    assert before == [await stored(migrated_database_url, run)]
    spaces = await execute(
        migrated_database_url, "SELECT DISTINCT checkpoint_ns FROM checkpoints WHERE thread_id = %s", str(run)
    )
    assert len(spaces) > 1


async def test_the_fence_leaves_no_trace_in_metadata(migrated_database_url: str) -> None:
    """With and without subgraphs, checkpoints do not name the attempt; and the run ends with its results."""
    run = await a_run(migrated_database_url)

    async def nothing() -> None:
        return

    async with open_saver(migrated_database_url) as saver:
        graph = nested(saver, nothing)
        done = await graph.ainvoke({}, of(run), durability="sync")
        assert done["results"] == [10, 20, 30]
        # A read needs no fence.
        state = await graph.aget_state({"configurable": {"thread_id": str(run)}})
        assert state.values["results"] == [10, 20, 30]
    keys = await execute(
        migrated_database_url, "SELECT DISTINCT jsonb_object_keys(metadata) FROM checkpoints ORDER BY 1"
    )
    assert not [key for (key,) in keys if "phoenix" in key]


@pytest.mark.parametrize(
    "half",
    [{RUN_KEY: "a"}, {ATTEMPT_KEY: 1}, {RUN_KEY: "a", ATTEMPT_KEY: 1}, {RUN_KEY: "a", ATTEMPT_KEY: "1"}],
)
def test_half_a_fence_is_refused(half: Any) -> None:
    """A configuration that means to be fenced never writes unfenced."""
    with pytest.raises(CheckpointRefused):
        claim_of({"configurable": half})
