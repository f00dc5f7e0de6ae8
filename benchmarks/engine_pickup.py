"""What an idle worker costs and how fast it begins: launch to first step, the sweep, CPU and memory.

Measured with an empty database, then with 10,000 runs that wait for people and 10,000 of another
organisation that are held. Exits 0 only where launch to first step is under 50 ms at p95, idle CPU under
1 %, and memory within 5 % of that with an empty database. PHOENIX_TEST_DATABASE_URL names a server whose
database may be filled; else one is started. Run as `python -m benchmarks.engine_pickup`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import psutil
from sqlalchemy import text

from phoenix.checkpoints.saver import open_saver
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.engine.engine import Engine
from phoenix.engine.launch import Launch
from phoenix.engine.queue import open_queue
from phoenix.events.log import PostgresEventLog
from phoenix.flow import approve, step
from phoenix.ports import Ports
from phoenix.storage.database import connect, conninfo
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.events import EventRows
from phoenix.storage.migrate import upgrade
from phoenix.telemetry.logs import configure_logs

LAUNCHES = int(os.environ.get("PHOENIX_BENCH_LAUNCHES", "100"))
IDLE_SECONDS = float(os.environ.get("PHOENIX_BENCH_IDLE_SECONDS", "20"))
MANY = 10_000
PICKUP_BAR_MS, CPU_BAR, MEMORY_BAR = 50.0, 0.01, 1.05

begun: dict[str, float] = {}


@step
async def first(name: str) -> str:
    """Note when the first step began."""
    begun[name] = time.perf_counter()
    return name


FLOWS: Any = {"first": first, "gate": approve("gate")}

FILL = """
    WITH made AS (SELECT gen_random_uuid() AS id FROM generate_series(1, :count)),
    lines AS (INSERT INTO threads (id, project_id) SELECT id, :project FROM made)
    INSERT INTO runs (id, thread_id, project_id, organisation_id, parent_id, key, flow, status, input)
    SELECT made.id, made.id, p.id, p.organisation_id, root.id, made.id::text, 'none', :status, '{}'
    FROM made, (SELECT * FROM projects WHERE id = :project) AS p,
        (SELECT id FROM runs WHERE project_id = :project LIMIT 1) AS root
"""


@asynccontextmanager
async def open_engine(folder: Path) -> AsyncIterator[tuple[Engine, Any]]:
    """Open an engine over a new or given database."""
    async with AsyncExitStack() as stack:
        url = os.environ.get("PHOENIX_TEST_DATABASE_URL") or await stack.enter_async_context(
            EmbeddedPostgres(folder)
        )
        await upgrade(url)
        database = connect(url)
        stack.push_async_callback(database.dispose)
        queue = open_queue(conninfo(url))
        await stack.enter_async_context(queue.open_async())
        saver = await stack.enter_async_context(open_saver(conninfo(url), serializer=StrictSerializer()))
        log = await stack.enter_async_context(PostgresEventLog(conninfo(url), EventRows(database).read))
        yield (
            Engine(
                database=database,
                queue=queue,
                checkpointer=saver,
                flows=FLOWS,
                ports_for=lambda *_: cast("Ports", SimpleNamespace()),
                log=log,
            ),
            database,
        )


async def pickups(engine: Engine, label: str) -> float:
    """Launch one run after the other on an idle worker; return p95 of launch to first step in ms."""
    took = []
    for n in range(LAUNCHES + 5):
        name = f"{label}{n}"
        start = time.perf_counter()
        await engine.launch(Launch(requirement="x", model="none", flow="first", input=name))
        while name not in begun:  # noqa: ASYNC110 the step may begin before this waits
            await asyncio.sleep(0.001)
        took.append((begun[name] - start) * 1000)
        await asyncio.sleep(0.05)
    took = sorted(took[5:])
    p95 = took[int(len(took) * 0.95) - 1]
    print(f"{label:>7}: launch to first step p50 {statistics.median(took):6.1f} ms, p95 {p95:6.1f} ms")
    return p95


async def idle(label: str) -> tuple[float, int]:
    """Do nothing for a while; return the share of one CPU that this process used, and its memory."""
    process = psutil.Process()
    before, start = process.cpu_times(), time.perf_counter()
    await asyncio.sleep(IDLE_SECONDS)
    after, seconds = process.cpu_times(), time.perf_counter() - start
    share = (after.user + after.system - before.user - before.system) / seconds
    memory = process.memory_info().rss
    print(f"{label:>7}: idle CPU {share:.2%}, memory {memory / 1e6:.1f} MB")
    return share, memory


async def sweeps(engine: Engine, label: str) -> None:
    """Time the sweep."""
    sweep = engine._worker.sweep
    took = []
    for _ in range(20):
        start = time.perf_counter()
        await sweep()
        took.append((time.perf_counter() - start) * 1000)
    print(f"{label:>7}: a sweep takes {statistics.median(took):.1f} ms")


async def fill(engine: Engine, database: Any) -> None:
    """Store runs that wait for people, and runs of an organisation that may not have one more at work."""
    project = await engine.launch(Launch(requirement="x", model="none", flow="first", input="filler"))
    async with database.begin() as connection:
        other = "11111111-1111-1111-1111-111111111111"
        values = {"id": other}
        await connection.execute(text("INSERT INTO organisations VALUES (:id, 'held', 1)"), values)
        await connection.execute(text(FILL), {"count": MANY, "project": project.id, "status": "waiting"})
        await connection.execute(
            text("UPDATE projects SET organisation_id = :id WHERE id = :project"),
            {"id": other, "project": project.id},
        )
        await connection.execute(text(FILL), {"count": MANY, "project": project.id, "status": "pending"})
        # The one place is taken for ever.
        query = (
            "UPDATE runs SET admitted = true, status = 'running', worker = NULL, paused = true WHERE id = "
        )
        await connection.execute(
            text(query + "(SELECT id FROM runs WHERE organisation_id = :id LIMIT 1)"), values
        )
        await connection.execute(text("ANALYZE runs"))


async def main() -> int:
    """Measure, print, and return the exit code."""
    configure_logs("error")
    with TemporaryDirectory() as folder:
        async with open_engine(Path(folder)) as (engine, database):
            async with engine.worker():
                empty_p95 = await pickups(engine, "empty")
                await sweeps(engine, "empty")
                _, empty_memory = await idle("empty")
            await fill(engine, database)
            async with engine.worker():
                await asyncio.sleep(2)
                full_p95 = await pickups(engine, "full")
                await sweeps(engine, "full")
                share, memory = await idle("full")
    growth = memory / empty_memory
    p95 = max(empty_p95, full_p95)
    print(f"launch to first step p95 {p95:.1f} ms (at most {PICKUP_BAR_MS:.0f})")
    print(f"idle CPU {share:.2%} (at most {CPU_BAR:.0%})")
    print(f"memory ratio {growth:.3f} (at most {MEMORY_BAR})")
    return 0 if p95 <= PICKUP_BAR_MS and share <= CPU_BAR and growth <= MEMORY_BAR else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
