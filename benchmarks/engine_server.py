"""How many 10-step runs a second a server launches and finishes, beside three others.

Phoenix (launch transaction, queue, worker, fence, events, checkpoints with durability sync; one process
behind a minimal door), Aegra with its defaults, a bare FastAPI app that runs the graph inline with the stock
PostgreSQL saver, and `langgraph dev`, which keeps everything in memory. Each has a process of its own; one
client with ten keep-alive connections posts a run and waits for its result, the way each server offers.
The servers take turns in every round; the medians of the rounds give the ratios, which come last. Exits 0
only where all of them can run and all bars hold.

PHOENIX_TEST_DATABASE_URL names a PostgreSQL server for all; else one is started. Run as
`python -m benchmarks.engine_server [--peers DIR] [--rounds N] [--seconds S] [--only NAME,...]`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from benchmarks import databases
from benchmarks.databases import drop, fresh, postgres
from benchmarks.server.contenders import PEERS, PHOENIX, CannotRun, Contender, install, serving, versions

CONNECTIONS = 10
STEPS = 10
BARS = {"aegra": 4.0, "bare FastAPI": 1.5, "langgraph dev": 1.5}
FIRST_STEP_MS = 50.0
FIRST_STEPS = 200


@dataclass
class Running:
    """A server that is up, and what was measured of it."""

    contender: Contender
    url: str
    pid: int
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    database_ms: list[float] = field(default_factory=list)
    client_ms: list[float] = field(default_factory=list)

    def most(self) -> float:
        """Return the runs a second that this machine could give, if nobody ever waited for anybody.

        The server is one process, so one core; the cores together have the database and the client too.
        """
        own, database, client = (
            statistics.median(ms) for ms in (self.cpu_ms, self.database_ms, self.client_ms)
        )
        cores = len(psutil.Process().cpu_affinity() or [0])
        return min(1000 / own, cores * 1000 / (own + database + client))


async def one_run(client: httpx.AsyncClient, contender: Contender, url: str) -> None:
    """Launch a run, wait for its end, and check what it gave."""
    answer = await client.post(f"{url}/runs/wait", json={**contender.request, "input": {"value": 0}})
    if answer.status_code != 200 or answer.json().get("value") != STEPS:
        raise SystemExit(f"{contender.name} answered {answer.status_code}: {answer.text[:500]}")


async def load(server: Running, seconds: float) -> tuple[float, int]:
    """Keep ten connections busy for so long; return the seconds until the last answer, and the runs."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    done = 0
    began = time.perf_counter()

    async def connection(client: httpx.AsyncClient) -> None:
        nonlocal done
        while time.perf_counter() - began < seconds:
            await one_run(client, server.contender, server.url)
            done += 1

    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        await asyncio.gather(*(connection(client) for _ in range(CONNECTIONS)))
        return time.perf_counter() - began, done


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its children so far."""
    process = psutil.Process(pid)
    return sum(
        p.cpu_times().user + p.cpu_times().system for p in (process, *process.children(recursive=True))
    )


async def first_steps(server: Running) -> list[float]:
    """Launch runs one by one on an idle worker; return the milliseconds to their first step."""
    taken: list[float] = []
    async with httpx.AsyncClient(timeout=60) as client:
        for n in range(FIRST_STEPS):
            # Beyond what other runs count to, so that each is known by its input.
            answer = await client.post(f"{server.url}/first-step", json={"input": {"value": 1000 * (n + 1)}})
            taken.append(float(answer.json()))
            await asyncio.sleep(0.02)
    return sorted(taken)


async def start(contender: Contender, folder: Path, server: str, stack: AsyncExitStack) -> Running:
    """Install and start a server, and warm it up.

    Raises:
        CannotRun: it cannot be measured here; says why.
    """
    python = await asyncio.to_thread(install, contender, folder)
    url = await fresh(server, contender.name)
    stack.push_async_callback(drop, server, url)
    address, pid = await stack.enter_async_context(serving(contender, python, folder, url))
    running = Running(contender, address, pid)
    await load(running, 2.0)
    print(f"{contender.name}: {versions(contender, python)}", flush=True)
    return running


async def measure(servers: list[Running], rounds: int, seconds: float, database: str) -> None:
    """Load the servers in turn, so often; the order turns round as well."""
    for number in range(rounds):
        for server in servers if number % 2 else reversed(servers):
            before = cpu_seconds(server.pid), await databases.cpu_seconds(database), time.process_time()
            taken, done = await load(server, seconds)
            server.rates.append(done / taken)
            after = cpu_seconds(server.pid), await databases.cpu_seconds(database), time.process_time()
            for ms, b, a in zip(
                (server.cpu_ms, server.database_ms, server.client_ms), before, after, strict=True
            ):
                ms.append((a - b) * 1000 / done)
        print(
            f"round {number + 1}: " + ", ".join(f"{s.contender.name} {s.rates[-1]:.1f}" for s in servers),
            flush=True,
        )


def verdict(servers: list[Running], missing: dict[str, str], steps: list[float]) -> bool:
    """Print medians, then ratios; return whether all bars hold."""
    for s in servers:
        print(
            f"{s.contender.name}: median {statistics.median(s.rates):.1f} runs/s"
            f" (from {min(s.rates):.1f} to {max(s.rates):.1f}),"
            f" {statistics.median(s.cpu_ms):.1f} ms of its process's CPU a run,"
            f" {statistics.median(s.database_ms):.1f} of PostgreSQL's, {statistics.median(s.client_ms):.1f}"
            f" of the client's: at most {s.most():.0f} runs/s here"
        )
    held = True
    if steps:
        p50, p95 = steps[len(steps) // 2], steps[int(len(steps) * 0.95)]
        held = p95 < FIRST_STEP_MS
        print(
            f"launch to first step on an idle worker: p50 {p50:.1f} ms, p95 {p95:.1f} ms of {len(steps)};"
            f" bar {FIRST_STEP_MS:.0f} ms {'held' if held else 'MISSED'}"
        )
    for name, why in missing.items():
        print(f"NOT COMPARED with {name}: {why}")
    ours = next((s for s in servers if s.contender.is_ours), None)
    for s in servers:
        if ours is not None and s is not ours:
            ratio = statistics.median(ours.rates) / statistics.median(s.rates)
            bar = BARS[s.contender.name]
            held = held and ratio >= bar
            print(
                f"phoenix to {s.contender.name}: ratio {ratio:.2f},"
                f" bar {bar} {'held' if ratio >= bar else 'MISSED'}"
            )
    return held and not missing


async def main() -> int:
    """Measure all that can run here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="keep the peers' environments in this folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of load in each round")
    parser.add_argument("--only", default="", help="names of contenders, divided by commas")
    options = parser.parse_args()
    wanted = [c for c in (PHOENIX, *PEERS) if not options.only or c.name in options.only.split(",")]
    async with AsyncExitStack() as stack:
        folder = options.peers or Path(stack.enter_context(TemporaryDirectory()))
        server = await stack.enter_async_context(postgres())
        servers: list[Running] = []
        missing: dict[str, str] = {}
        for contender in wanted:
            try:
                servers.append(await start(contender, folder.absolute(), server, stack))
            except CannotRun as error:
                missing[contender.name] = str(error)
                print(f"{contender.name} cannot run here: {error}", flush=True)
        await measure(servers, options.rounds, options.seconds, server)
        ours = next((s for s in servers if s.contender.is_ours), None)
        steps = await first_steps(ours) if ours is not None else []
        held = verdict(servers, missing, steps)
    print(f"bars {'held' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
