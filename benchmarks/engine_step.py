"""One run alone: what a step costs in time, and what it leaves in the database.

Time: runs of 100 steps that do nothing, every checkpoint durable, LangGraph's own PostgreSQL saver and
Phoenix's (fenced) in turn. Bytes: an agent's messages grow from 10 to 1,000 of 1 kB, one a step; what a step
stores around the 10th message and just before the 1,000th is compared, and the same for a graph that passes
its steps 1,000 times over. The ratios come last, each with its bar; exits 0 only where all hold.

PHOENIX_TEST_DATABASE_URL names a server to use; else an embedded one is started with its durable defaults.
Run as `python -m benchmarks.engine_step [--pairs 15] [--messages 1000]`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from typing import Annotated, Any, TypedDict

import psycopg
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph

from benchmarks.savers import (
    chain,
    config_of,
    database,
    ours,
    running_runs,
    server,
    set_collector,
    stock,
)
from phoenix.agents.messages import messages_channel

STEPS = 100
WARM_UP = 2
TIME_BAR, BYTES_BAR = 0.77, 1.05
EARLY = 10
WINDOW = 50
"""Steps over which bytes are averaged: from the 10th message on, and up to the last."""
KILOBYTE = "x" * 1024

BYTES = """
SELECT
    (SELECT coalesce(sum(pg_column_size(checkpoint) + pg_column_size(metadata)), 0) FROM checkpoints)
    + (SELECT coalesce(sum(pg_column_size(blob)), 0) FROM checkpoint_blobs)
    + (SELECT coalesce(sum(pg_column_size(blob)), 0) FROM checkpoint_writes)
"""
"""What checkpoints hold, as it is stored: compressed where PostgreSQL compresses."""


async def timed(graph: Any, run_id: Any) -> float:
    """Run a graph once on a new thread and return the seconds a step."""
    gc.collect()
    began = time.perf_counter()
    done = await graph.ainvoke({"n": 0, "found": {}}, config_of(run_id), durability="sync")
    seconds = time.perf_counter() - began
    if done["n"] != STEPS:
        raise SystemExit(f"wrong result: {done}")
    return seconds / STEPS


async def step_time(server_url: str, pairs: int) -> float:
    """Print what a step takes with either saver and return the ratio."""
    taken: dict[str, list[float]] = {"stock": [], "phoenix": []}
    async with (
        database(server_url) as stock_url,
        database(server_url) as our_url,
        stock(stock_url) as theirs,
        ours(our_url) as mine,
    ):
        graphs = {"stock": chain(STEPS, [0], theirs), "phoenix": chain(STEPS, [0], mine)}
        for pair in range(WARM_UP + pairs):
            (run_id,) = await running_runs(our_url, 1)
            for name in list(graphs)[:: 1 if pair % 2 else -1]:
                seconds = await timed(graphs[name], run_id)
                if pair >= WARM_UP:
                    taken[name].append(seconds * 1000)
    medians = {name: statistics.median(found) for name, found in taken.items()}
    print(
        f"{STEPS} steps, {pairs} pairs: stock {medians['stock']:.2f} ms a step, "
        f"phoenix {medians['phoenix']:.2f} ms"
    )
    return statistics.median(a / b for a, b in zip(taken["phoenix"], taken["stock"], strict=True))


class Talk(TypedDict):
    """An agent's messages, and a count."""

    messages: Annotated[list[AnyMessage], messages_channel()]
    n: int


def talking(turns: int, saver: Any) -> Any:
    """Return a graph whose one node adds a message a step."""

    async def speak(state: Talk) -> dict[str, Any]:
        return {"messages": [AIMessage(KILOBYTE)], "n": state["n"] + 1}

    graph = StateGraph(Talk)
    graph.add_node("speak", speak)
    graph.add_edge(START, "speak")
    graph.add_conditional_edges("speak", lambda state: "speak" if state["n"] < turns else END)
    return graph.compile(checkpointer=saver).with_config({"recursion_limit": turns + 10})


class Trace(TypedDict):
    """A value that each step replaces."""

    value: dict[str, Any]
    n: int


def passing(turns: int, saver: Any) -> Any:
    """Return a graph of three steps that is passed over and over."""

    async def step(state: Trace) -> dict[str, Any]:
        return {"value": {"text": KILOBYTE, "n": state["n"]}, "n": state["n"] + 1}

    graph = StateGraph(Trace)
    for name in ("code", "check", "review"):
        graph.add_node(name, step)
    graph.add_edge(START, "code")
    graph.add_edge("code", "check")
    graph.add_edge("check", "review")
    graph.add_conditional_edges("review", lambda state: "code" if state["n"] < turns else END)
    return graph.compile(checkpointer=saver).with_config({"recursion_limit": turns + 10})


async def growth(server_url: str, title: str, make: Any, start: dict[str, Any], turns: int) -> float:
    """Print the bytes a step at the beginning and the end of one run, and return their ratio."""
    sizes: dict[int, int] = {}
    wanted = {EARLY, EARLY + WINDOW, turns - WINDOW - 1, turns - 1}
    async with database(server_url) as url, ours(url) as saver:
        (run_id,) = await running_runs(url, 1)
        graph = make(turns, saver)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            step = 0
            stream = graph.astream(start, config_of(run_id), stream_mode="updates", durability="sync")
            async for _ in stream:
                step += 1
                if step in wanted:
                    row = await (await connection.execute(BYTES)).fetchone()
                    sizes[step] = int(row[0]) if row else 0
    early = (sizes[EARLY + WINDOW] - sizes[EARLY]) / WINDOW
    late = (sizes[turns - 1] - sizes[turns - WINDOW - 1]) / WINDOW
    print(f"{title}: {early:.0f} bytes a step from step {EARLY}, {late:.0f} up to step {turns}")
    return late / early


async def main() -> int:
    """Measure time and bytes."""
    parser = argparse.ArgumentParser(description="One run alone.")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--messages", type=int, default=1000)
    arguments = parser.parse_args()
    async with server() as url:
        set_collector(tuned=True)
        taken = await step_time(url, arguments.pairs)
        messages = await growth(url, "messages", talking, {"messages": [], "n": 0}, arguments.messages)
        trace = await growth(url, "trace", passing, {"value": {}, "n": 0}, arguments.messages)
    held = True
    for title, ratio, bar in (
        ("phoenix / stock, time a step", taken, TIME_BAR),
        ("late / early, bytes a step as messages grow", messages, BYTES_BAR),
        ("late / early, bytes a step as the trace grows", trace, BYTES_BAR),
    ):
        held = held and ratio <= bar
        print(f"{title}: {ratio:.3f} (bar <= {bar}) {'held' if ratio <= bar else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
