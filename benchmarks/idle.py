"""What 10,000 projects that wait for people cost a worker: resident memory and processor time.

All of them are really launched, and taken by a worker in a process of its own to an open approval. Its
resident size then is compared with what it was before, after a warm-up of its own; so is that of a second
worker, started when all of them wait, with a worker started before there were any. Processor time is measured
over 20 s in which nothing happens. Exits 0 only where both grow by at most 5 % and use under 1 % of a core.

PHOENIX_TEST_DATABASE_URL names a server to use; else one is started. Run as
`python -m benchmarks.idle [--projects N] [--seconds S]`; 10,000 launches take some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import psycopg
from pydantic import SecretStr

from benchmarks.databases import drop, fresh, postgres
from phoenix.bootstrap import System, open_system
from phoenix.engine.launch import Launch
from phoenix.flow import approve, step
from phoenix.settings import Settings

MOST_GROWTH = 0.05
MOST_CPU = 0.01
SETTLE_SECONDS = 8.0
WARM_UP = 300
LAUNCHERS = 10


@step
async def draft(text: str) -> str:
    """Write what a person decides on."""
    return f"{text}, drafted"


@step
async def publish(text: str) -> str:
    """Go on after the decision, which never comes here."""
    return text


FLOWS: dict[str, Any] = {"gate": draft >> approve("spec") >> publish}


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[System]:
    """Open Phoenix as its commands do."""
    with TemporaryDirectory() as home:
        settings = Settings(home=Path(home), database_url=SecretStr(url))
        async with open_system(settings, execution=False, flows=FLOWS) as system:
            yield system


async def work(url: str) -> None:
    """Be a worker until killed; say so when it is one."""
    async with opened(url) as system, system.engine.worker():
        print("ready", flush=True)
        await asyncio.Event().wait()


class Worker:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._seen = psutil.Process(process.pid)

    def resident_mb(self) -> float:
        return float(self._seen.memory_info().rss) / 1024**2

    async def busy(self, seconds: float) -> float:
        """Return the share of one core that it uses over so long."""
        before, began = self._cpu(), time.perf_counter()
        await asyncio.sleep(seconds)
        return (self._cpu() - before) / (time.perf_counter() - began)

    def _cpu(self) -> float:
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    async def stop(self) -> None:
        self._process.terminate()
        await self._process.wait()


async def start_worker(url: str) -> Worker:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.idle", "--work"),
        env={**os.environ, "BENCH_DATABASE": url},
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdout is None or await process.stdout.readline() != b"ready\n":
        raise SystemExit("the worker did not start")
    worker = Worker(process)
    await asyncio.sleep(SETTLE_SECONDS)
    return worker


async def launch(system: System, count: int) -> None:
    """Launch projects, ten at a time."""
    left = count

    async def launcher() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await system.engine.launch(
                Launch(requirement="Wait for a person.", model="", flow="gate", input="text")
            )

    await asyncio.gather(*(launcher() for _ in range(LAUNCHERS)))


async def until_waiting(url: str, count: int) -> None:
    """Return once so many runs wait for a person."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            found = await connection.execute("SELECT count(*) FROM runs WHERE status = 'waiting'")
            row = await found.fetchone()
            if row is not None and row[0] >= count:
                return
            await asyncio.sleep(0.5)


def grown(title: str, before: float, after: float) -> bool:
    growth = after / before - 1
    held = growth <= MOST_GROWTH
    print(
        f"{title}: {before:.1f} MB without, {after:.1f} MB with them, {growth:+.1%};"
        f" bar {MOST_GROWTH:.0%} {'held' if held else 'MISSED'}",
        flush=True,
    )
    return held


def idle(title: str, share: float) -> bool:
    held = share < MOST_CPU
    print(f"{title}: {share:.2%} of a core; bar {MOST_CPU:.0%} {'held' if held else 'MISSED'}", flush=True)
    return held


async def measure(url: str, projects: int, seconds: float) -> bool:
    """Measure a worker that lets them all wait, and one that comes when they do."""
    async with opened(url) as system:
        old = await start_worker(url)
        try:
            fresh_mb = old.resident_mb()
            print(
                f"a fresh worker without projects: {fresh_mb:.1f} MB, {await old.busy(seconds):.2%} of a core"
            )
            await launch(system, WARM_UP)
            await until_waiting(url, WARM_UP)
            await asyncio.sleep(SETTLE_SECONDS)
            warm_mb = old.resident_mb()
            began = time.perf_counter()
            await launch(system, projects - WARM_UP)
            await until_waiting(url, projects)
            print(f"{projects} projects wait, the last of them after {time.perf_counter() - began:.0f} s")
            await asyncio.sleep(SETTLE_SECONDS)
            held = [grown("the worker that took them there", warm_mb, old.resident_mb())]
            held.append(idle("the worker that took them there", await old.busy(seconds)))
        finally:
            await old.stop()
        new = await start_worker(url)
        try:
            held.append(grown("a worker started then", fresh_mb, new.resident_mb()))
            held.append(idle("a worker started then", await new.busy(seconds)))
        finally:
            await new.stop()
    return all(held)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        await work(os.environ["BENCH_DATABASE"])
        return 0
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(postgres())
        url = await fresh(server, "idle")
        stack.push_async_callback(drop, server, url)
        held = await measure(url, options.projects, options.seconds)
    print(f"bars {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
