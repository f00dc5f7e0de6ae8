"""What the parts of a 10-step run cost: processor time of this process a run, part by part.

The graph alone, the flow that Phoenix compiles, the flow with the events of its steps, with checkpoints, with
both, and at last the whole run: launch, queue, worker, fence, and the wait for its end. Ten at a time, parts
in turn, medians of the rounds. PostgreSQL's own time is not in it. There is no bar: it shows where to look.

PHOENIX_TEST_DATABASE_URL names a server to use; else one is started. Run as
`python -m benchmarks.engine_parts [--rounds N] [--runs N]`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from benchmarks.databases import drop, fresh, postgres
from benchmarks.server.graph import STEPS, build
from phoenix.bootstrap import open_system
from phoenix.checkpoints.saver import open_saver
from phoenix.domain.run import Project
from phoenix.engine.launch import Launch
from phoenix.engine.programs import step_hooks
from phoenix.flow import Step, step
from phoenix.settings import Settings
from phoenix.storage import projects
from phoenix.storage.database import connect, conninfo, transaction
from phoenix.storage.event_batch import EventBatches
from phoenix.telemetry.logs import configure_logs

AT_ONCE = 10

Run = Callable[[], Awaitable[Any]]


async def add_one(value: int) -> int:
    return value + 1


def flow() -> Any:
    """Return ten steps, each adding one."""
    steps: list[Step[int, int]] = [step(name=f"step{n}")(add_one) for n in range(STEPS)]
    pipeline: Any = steps[0]
    for one in steps[1:]:
        pipeline = pipeline >> one
    return pipeline


def invoking(graph: Any, **durable: Any) -> Run:
    """Return what runs a graph once on a thread of its own."""

    async def run() -> Any:
        config = {"configurable": {"thread_id": str(uuid4())}}
        return (await graph.ainvoke({"value": 0}, config, **durable))["value"]

    return run


async def cpu_ms(run: Run, count: int) -> float:
    """Return the milliseconds of this process's processor time that a run costs, ten at a time."""

    async def some() -> None:
        for _ in range(count // AT_ONCE):
            if await run() != STEPS:
                raise SystemExit("wrong result")

    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return (time.process_time() - began) * 1000 / (count // AT_ONCE * AT_ONCE)


async def events_of(url: str, stack: AsyncExitStack) -> Callable[..., asyncio.Future[None]]:
    """Return what appends the events of steps, to one of ten projects by turns."""
    database = connect(url)
    stack.push_async_callback(database.dispose)
    ids = [uuid4() for _ in range(AT_ONCE)]
    async with transaction(database) as connection:
        for key in ids:
            now = datetime.now(UTC)
            await projects.add(
                connection, Project(id=key, title="T", requirement="R", model="", created_at=now)
            )
    batches = await stack.enter_async_context(EventBatches(conninfo(url)).open())

    def emit(run_id: UUID, kind: str, data: dict[str, Any]) -> asyncio.Future[None]:
        return batches.append(ids[run_id.int % AT_ONCE], kind, data, run_id=run_id)

    return emit


async def whole(url: str, stack: AsyncExitStack) -> Run:
    """Return what launches a run and waits for its end, with a worker beside it."""
    home = Path(stack.enter_context(TemporaryDirectory()))
    settings = Settings(home=home, database_url=SecretStr(url), concurrency=AT_ONCE)
    system = await stack.enter_async_context(open_system(settings, execution=False, flows={"ten": flow()}))
    await stack.enter_async_context(system.engine.worker())

    async def run() -> Any:
        launch = Launch(requirement="Count to ten.", model="", flow="ten", input=0)
        return ((await system.engine.complete(launch)).output or {}).get("value")

    return run


async def main() -> None:
    configure_logs()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(postgres())
        url = await fresh(server, "parts")
        stack.push_async_callback(drop, server, url)
        run_all = await whole(url, stack)
        saver = await stack.enter_async_context(open_saver(conninfo(url)))
        hooks = step_hooks(await events_of(url, stack))
        parts: dict[str, Run] = {
            "raw graph": invoking(build().compile()),
            "flow": invoking(flow().compile()),
            "flow, events": invoking(flow().compile(hooks=hooks)),
            "flow, checkpoints": invoking(flow().compile(checkpointer=saver), durability="sync"),
            "flow, events, checkpoints": invoking(
                flow().compile(checkpointer=saver, hooks=hooks), durability="sync"
            ),
            "launched, worked on, waited for": run_all,
        }
        taken: dict[str, list[float]] = {name: [] for name in parts}
        for number in range(options.rounds + 1):
            for name, run in parts.items():
                found = await cpu_ms(run, options.runs)
                if number:
                    taken[name].append(found)
    floor = statistics.median(taken["raw graph"])
    for name, found_ms in taken.items():
        middle = statistics.median(found_ms)
        print(
            f"{name:34} {middle:6.1f} ms a run, {middle / floor:5.1f} times the raw graph,"
            f" at most {1000 / middle:4.0f} runs/s of one process"
        )


if __name__ == "__main__":
    asyncio.run(main())
