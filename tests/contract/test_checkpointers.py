"""One suite for the checkpointer, and LangGraph's own where both do the same."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langchain_core.messages import AIMessage, AnyMessage, RemoveMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from phoenix.agents.messages import messages_channel
from phoenix.checkpoints.saver import Checkpointer, open_saver


async def test_it_passes_langgraphs_conformance_suite_in_full(migrated_database_url: str) -> None:
    """Every capability that LangGraph knows of is there, and every test of it passes."""

    @checkpointer_test(name="phoenix")
    async def ours() -> AsyncIterator[Checkpointer]:
        async with open_saver(migrated_database_url) as saver:
            yield saver

    report = await validate(ours)
    results = report.results
    assert {name: result.failures for name, result in results.items() if not result.passed} == {}
    assert sum(result.tests_passed for result in results.values()) > 50


class Speech(TypedDict):
    messages: Annotated[list[AnyMessage], messages_channel()]
    note: Any
    n: int


LONG = "long and\nof two lines " * 20


async def speak(state: Speech) -> dict[str, Any]:
    """Say one thing more; at the fifth forget all but the last."""
    n = state["n"]
    said: list[Any] = [AIMessage(f"{n}", id=f"m{n}")]
    if n == 5:
        said = [RemoveMessage(id=REMOVE_ALL_MESSAGES), *said]
    return {"messages": said, "n": n + 1}


def speech(saver: Any) -> Any:
    graph = StateGraph(Speech)
    graph.add_node("speak", speak)
    graph.add_edge(START, "speak")
    graph.add_conditional_edges("speak", lambda state: "speak" if state["n"] % 8 else END)
    return graph.compile(checkpointer=saver)


async def told(saver: Any, config: Any) -> list[Any]:
    """Return a thread's whole history: messages, note and step of each checkpoint."""
    return [
        ([m.content for m in state.values.get("messages", [])], state.values.get("note"), state.metadata)
        async for state in speech(saver).aget_state_history(config)
    ]


@pytest.mark.parametrize("first", ["phoenix", "stock"])
async def test_each_goes_on_with_what_the_other_wrote(migrated_database_url: str, first: str) -> None:
    """Messages kept as deltas, small values and long ones: Phoenix and LangGraph's saver read the same."""
    config: Any = {"configurable": {"thread_id": "talk"}}
    async with (
        open_saver(migrated_database_url) as ours,
        AsyncPostgresSaver.from_conn_string(migrated_database_url) as stock,
    ):
        await stock.setup()
        savers = {"phoenix": ours, "stock": stock}
        begins = savers.pop(first)
        (goes_on,) = savers.values()
        await speech(begins).ainvoke({"messages": [], "note": LONG, "n": 0}, config, durability="sync")
        done = await speech(goes_on).ainvoke({"n": 9, "messages": []}, config, durability="sync")
        assert [m.content for m in done["messages"]] == [
            "5",
            "6",
            "7",
            "9",
            "10",
            "11",
            "12",
            "13",
            "14",
            "15",
        ]
        assert done["note"] == LONG
        assert await told(ours, config) == await told(stock, config)


async def test_a_fork_goes_its_own_way(migrated_database_url: str) -> None:
    """Two branches from one checkpoint keep their own messages, and so does the trunk."""
    config: Any = {"configurable": {"thread_id": "talk"}}
    async with open_saver(migrated_database_url) as saver:
        graph = speech(saver)
        await graph.ainvoke({"messages": [], "note": 1, "n": 0}, config, durability="sync")
        states = [state async for state in graph.aget_state_history(config)]
        third = next(state for state in states if state.values.get("n") == 3)
        ends = []
        for text in ("left", "right"):
            fork = await graph.aupdate_state(third.config, {"messages": [AIMessage(text, id=text)]})
            done = await graph.ainvoke(None, fork, durability="sync")
            ends.append([m.content for m in done["messages"]])
        trunk = await graph.aget_state(states[0].config)
    assert ends == [["5", "6", "7"]] * 2
    assert [m.content for m in trunk.values["messages"]] == ["5", "6", "7"]


async def test_threads_are_thinned_and_copied_with_their_messages(migrated_database_url: str) -> None:
    """Of a thread whose messages are deltas, the latest state outlives thinning, in the copy as well."""
    async with open_saver(migrated_database_url) as saver:
        graph = speech(saver)
        config: Any = {"configurable": {"thread_id": "talk"}}
        copy: Any = {"configurable": {"thread_id": "copy"}}
        await graph.ainvoke({"messages": [], "note": LONG, "n": 6}, config, durability="sync")
        await saver.acopy_thread("talk", "copy")
        for thread in (config, copy):
            await saver.aprune([thread["configurable"]["thread_id"]])
            state = await graph.aget_state(thread)
            assert [m.content for m in state.values["messages"]] == ["6", "7"]
            assert state.values["note"] == LONG
        await saver.adelete_thread("talk")
        assert [found async for found in saver.alist(config)] == []
        assert (await graph.aget_state(copy)).values["note"] == LONG


@pytest.mark.parametrize(
    "value",
    [
        1e300,
        -0.0,
        10.0,
        math.inf,
        2**63 - 1,
        True,
        None,
        "",
        "a\nb",
        "\x7f",
        b"\x00",
        LONG,
        [LONG],
        "é" * 200,
    ],
    ids=str,
)
async def test_values_come_back_as_they_were(migrated_database_url: str, value: Any) -> None:
    """Also those that JSON would change."""
    config: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": ""}}
    point: Any = {**empty_checkpoint(), "channel_values": {"v": value}, "channel_versions": {"v": "1"}}
    async with open_saver(migrated_database_url) as saver:
        await saver.aput(config, point, {}, {"v": "1"})
        found = await saver.aget_tuple(config)
    assert found is not None
    back = found.checkpoint["channel_values"]["v"]
    assert (type(back), repr(back)) == (type(value), repr(value))


async def test_a_value_is_stored_once_a_version(migrated_database_url: str) -> None:
    """A long text that no step changes has one row, and no checkpoint repeats it."""
    config: Any = {"configurable": {"thread_id": "talk"}}
    async with open_saver(migrated_database_url) as saver:
        await speech(saver).ainvoke({"messages": [], "note": LONG, "n": 0}, config, durability="sync")
    async with await psycopg.AsyncConnection.connect(migrated_database_url) as connection:
        rows = await (
            await connection.execute(
                "SELECT (SELECT count(*) FROM checkpoint_blobs WHERE channel = 'note'),"
                " (SELECT count(*) FROM checkpoints WHERE checkpoint::text LIKE '%%of two lines%%')"
            )
        ).fetchone()
    assert rows == (1, 0)


async def test_it_is_asynchronous_only(migrated_database_url: str) -> None:
    """Each synchronous method says what to call instead."""
    async with open_saver(migrated_database_url) as saver:
        for name in ("get_tuple", "list", "put", "put_writes", "delete_thread", "prune"):
            with pytest.raises(NotImplementedError, match="ainvoke"):
                getattr(saver, name)({})
        with pytest.raises(ValueError, match="keep_latest"):
            await saver.aprune(["a"], strategy="some")
