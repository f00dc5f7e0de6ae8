"""What holding and counting cost when fifty agents of three processes call models under one budget.

    python -m benchmarks.budgets [CALLS]

Each call holds what it may cost in its project's budget and in those of its organisation and of the day,
and is counted with its answer. Beside it the same calls are counted without any limit.
While it runs, one statement after the other sums what is held and counted. Prints calls a second, p50 and
p95 of both; exits 0 only where the sum never passed the limit, and at least a third as many calls are held
and counted as are counted without limits: holding is a second transaction beside the one that counts.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

from sqlalchemy import text

from phoenix.domain.budget import Hold, Spent
from phoenix.domain.run import Project, Run
from phoenix.storage.database import transaction
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.migrate import upgrade
from tests.unit.storage.budget_rows import Process, call, most, open_process

CALLS = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
AGENTS, PROCESSES = 50, 3
BAR = 1 / 3
DEAREST = 90_000
"""Millionths of a USD that a call holds at most."""
LIMIT = Decimal(CALLS) * DEAREST / 4 / 1_000_000
"""About what all calls cost: at the end some of them find it spent."""

SUM = text(
    "SELECT (SELECT coalesce(sum(cost_usd), 0) FROM model_calls WHERE project_id = :project)"
    " + (SELECT coalesce(sum(usd), 0) FROM budget_holds WHERE project_id = :project)"
)


async def agent(
    process: Process, run: Run, project: Project, seed: int, holds: list[float], counts: list[float]
) -> None:
    """Make calls under a budget until they are made, or it is spent."""
    luck = random.Random(seed)
    for _ in range(CALLS // AGENTS):
        dear = Decimal(luck.randint(1, DEAREST)) / 1_000_000
        while True:
            began = time.perf_counter()
            found = await process.hold(run, project, most(str(dear)), task=f"T{seed % 10}")
            holds.append(time.perf_counter() - began)
            if found is not None:
                break
            await asyncio.sleep(0.01)
        if isinstance(found, Spent):
            return
        await count(process, run, found, dear * luck.randint(1, 100) / 100, seed, counts)


async def count(
    process: Process, run: Run, hold: Hold | None, cost: Decimal, seed: int, counts: list[float]
) -> None:
    """Count a call with its answer."""
    began = time.perf_counter()
    await process.settle(run, hold, call(str(cost), task=f"T{seed % 10}"))
    counts.append(time.perf_counter() - began)


async def unlimited(process: Process, run: Run, seed: int, counts: list[float]) -> None:
    """Make as many calls without any limit."""
    for _ in range(CALLS // AGENTS):
        await count(process, run, None, Decimal("0.01"), seed, counts)


async def watch(process: Process, project: Project, seen: list[Decimal]) -> None:
    """Sum what is held and counted, again and again."""
    while True:
        async with transaction(process.database) as connection:
            found = await connection.execute(SUM, {"project": project.id})
            seen.append(Decimal(found.scalar_one()))
        await asyncio.sleep(0.01)


def shown(name: str, seconds: list[float]) -> None:
    """Print p50 and p95."""
    cuts = statistics.quantiles(seconds, n=20)
    p50 = statistics.median(seconds)
    print(f"{name}: {len(seconds)} times, p50 {p50 * 1000:.1f} ms, p95 {cuts[-1] * 1000:.1f} ms")


async def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(folder) / "home") as url, AsyncExitStack() as stack:
            await upgrade(url)
            processes = [await open_process(url, stack) for _ in range(PROCESSES)]
            of = [processes[n % PROCESSES] for n in range(AGENTS)]
            free, _ = await processes[0].launch(organisation_id=await processes[0].organisation())
            plain: list[float] = []
            began = time.perf_counter()
            await asyncio.gather(*(unlimited(of[n], free, n, plain) for n in range(AGENTS)))
            before = len(plain) / (time.perf_counter() - began)

            whole = await processes[0].organisation(limits={"usd": "100000"}, max_usd_day=Decimal(50_000))
            run, project = await processes[0].launch(str(LIMIT), organisation_id=whole)
            holds: list[float] = []
            counts: list[float] = []
            seen: list[Decimal] = []
            watching = asyncio.create_task(watch(processes[0], project, seen))
            began = time.perf_counter()
            await asyncio.gather(*(agent(of[n], run, project, n, holds, counts) for n in range(AGENTS)))
            after = len(counts) / (time.perf_counter() - began)
            watching.cancel()
    print(f"{AGENTS} agents in {PROCESSES} processes' pools, one organisation, one project")
    shown("counted without limits", plain)
    shown("held", holds)
    shown("counted under limits", counts)
    passed = sum(total > LIMIT for total in seen)
    print(
        f"limit {LIMIT:.2f} USD, most held and counted {max(seen):.6f}, passed {passed} of {len(seen)} looks"
    )
    print(f"calls a second: {before:.0f} without limits, {after:.0f} held and counted under three limits")
    print(f"ratio, under limits over without: {after / before:.2f}")
    return 0 if not passed and after / before >= BAR else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
