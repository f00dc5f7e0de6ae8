"""What the pipeline algebra costs over raw LangGraph: 100 trivial steps with type checks, hooks off.

Both graphs run in turn, in pairs, in one process. The ratio of the medians comes last. Exits 0 only where
both ratios are at most 1.2. PHOENIX_TEST_DATABASE_URL names a server to use; else one is started. Run as
`python -m benchmarks.flow_overhead` or with the repository on PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict
from uuid import uuid4

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph

from phoenix.flow import Step, step
from phoenix.storage.embedded import EmbeddedPostgres

STEPS = 100
BAR = 1.2
PAIRS = int(os.environ.get("PHOENIX_BENCH_PAIRS", "40"))
WARM_UP = 5


class Raw(TypedDict):
    """The state of the graph written by hand."""

    value: int


async def add_one(value: int) -> int:
    return value + 1


def raw_graph(saver: Any) -> Any:
    """Write the graph by hand, as its author would without the algebra."""
    graph = StateGraph(Raw)

    async def node(state: Raw) -> Raw:
        return {"value": await add_one(state["value"])}

    previous = START
    for n in range(STEPS):
        graph.add_node(f"step{n}", node)
        graph.add_edge(previous, f"step{n}")
        previous = f"step{n}"
    graph.add_edge(previous, END)
    return graph.compile(checkpointer=saver).with_config({"recursion_limit": STEPS + 10})


def flow_graph(saver: Any) -> Any:
    """Write the same as a pipeline."""
    steps: list[Step[int, int]] = [step(name=f"step{n}")(add_one) for n in range(STEPS)]
    pipeline: Any = steps[0]
    for one in steps[1:]:
        pipeline = pipeline >> one
    return pipeline.compile(checkpointer=saver)


async def timed(graph: Any, durable: dict[str, Any]) -> float:
    """Run a graph once on a new thread and return the seconds it took."""
    config = {"configurable": {"thread_id": str(uuid4())}}
    gc.collect()
    began = time.perf_counter()
    done = await graph.ainvoke({"value": 0}, config, **durable)
    seconds = time.perf_counter() - began
    if done["value"] != STEPS:
        raise SystemExit(f"wrong result: {done}")
    return seconds


async def compare(title: str, saver: Any, pairs: int) -> bool:
    """Measure both in turn and print their medians and the ratio."""
    raw, flow = raw_graph(saver), flow_graph(saver)
    durable = {"durability": "sync"} if saver else {}
    taken: dict[str, list[float]] = {"raw": [], "flow": []}
    for pair in range(WARM_UP + pairs):
        order = [("raw", raw), ("flow", flow)]
        for name, graph in order if pair % 2 else reversed(order):
            seconds = await timed(graph, durable)
            if pair >= WARM_UP:
                taken[name].append(seconds)
    medians = {name: statistics.median(found) * 1000 for name, found in taken.items()}
    ratio = medians["flow"] / medians["raw"]
    print(
        f"{title}: {STEPS} steps, {pairs} pairs, raw LangGraph {medians['raw']:.1f} ms, "
        f"flow {medians['flow']:.1f} ms, ratio {ratio:.3f}"
    )
    return ratio <= BAR


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """Return the URL of the server given, or of one started for the measurement."""
    given = os.environ.get("PHOENIX_TEST_DATABASE_URL", "")
    if given:
        yield given
        return
    with TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(folder)) as url:
            yield url


async def main() -> int:
    """Measure with and without a saver."""
    held = await compare("no saver", None, PAIRS)
    async with database() as url, AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
        held = await compare("PostgreSQL saver", saver, max(PAIRS // 2, 5)) and held
    print(f"bar {BAR}: {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
