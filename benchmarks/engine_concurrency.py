"""Many runs at once: 1,000 runs of 10 steps that wait 200 ms each, every checkpoint durable, in one process.

Compared in turn, in pairs, each time in a fresh database of one server: LangGraph's own PostgreSQL saver as
shipped, Phoenix's checkpointer (fenced, as the engine runs it), and no saver at all. Each measurement is a
process of its own that does nothing else. Then two processes with half the runs each. A saver that stores
nothing, and two processes without any, show what LangGraph leaves to be won on this machine. The ratios come
last, each with its bar; exits 0 only where all hold.

PHOENIX_TEST_DATABASE_URL names a server to use; else an embedded one is started with its durable defaults.
Run as `python -m benchmarks.engine_concurrency [--runs 1000] [--rounds 5]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from typing import Any

from benchmarks.savers import SAVERS, chain, commits, config_of, database, running_runs, server, set_collector

STEPS, WAIT_SECONDS = 10, 0.2
JITTER = 0.5
VARIANTS = 50
"""Graphs with waits of their own, where waits are jittered."""
START_SECONDS = 60.0


async def timed(kind: str, url: str, ids: list[Any], *, jitter: float, seed: int) -> float:
    """Run all runs to their end and return the seconds it took, from a common start."""
    chance = random.Random(seed)
    async with SAVERS[kind](url) as saver:
        graphs = [
            chain(STEPS, [WAIT_SECONDS * chance.uniform(1 - jitter, 1 + jitter) for _ in range(STEPS)], saver)
            for _ in range(VARIANTS if jitter else 1)
        ]
        durable = {} if saver is None else {"durability": "sync"}

        async def one(position: int, run_id: Any) -> None:
            graph = graphs[position % len(graphs)]
            done = await graph.ainvoke({"n": 0, "found": {}}, config_of(run_id), **durable)
            if done["n"] != STEPS:
                raise SystemExit(f"wrong result: {done}")

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.perf_counter()
        await asyncio.gather(*(one(position, run_id) for position, run_id in enumerate(ids)))
        return time.perf_counter() - began


async def child(arguments: argparse.Namespace) -> None:
    """Measure once, in this process."""
    ids = await running_runs(arguments.url, arguments.runs)
    set_collector(tuned=arguments.tuned)
    seconds = await timed(arguments.child, arguments.url, ids, jitter=arguments.jitter, seed=arguments.seed)
    print(json.dumps({"seconds": seconds}), flush=True)


async def _start(kind: str, url: str, runs: int, *options: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.engine_concurrency", "--child", kind, "--url", url),
        *("--runs", str(runs), *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdout is None or (await process.stdout.readline()).strip() != b"ready":
        raise SystemExit("a measuring process did not start")
    return process


async def measure(
    server_url: str,
    kind: str,
    runs: int,
    *,
    tuned: bool,
    jitter: float = 0.0,
    seed: int = 0,
    processes: int = 1,
) -> tuple[float, float]:
    """Return the seconds of one measurement, and its commits a step."""
    options = ["--jitter", str(jitter), "--seed", str(seed), *(["--tuned"] if tuned else [])]
    async with database(server_url) as url:
        working = [await _start(kind, url, runs // processes, *options) for _ in range(processes)]
        before = await commits(url)
        for process in working:
            if process.stdin is not None:
                process.stdin.write(b"\n")
        found = [await process.communicate() for process in working]
        # The connections of the measuring processes are closed, so all they did is counted.
        await asyncio.sleep(0.2)
        made = await commits(url) - before
    seconds = max(json.loads(out)["seconds"] for out, _ in found)
    return seconds, made / (runs * STEPS)


async def rounds(server_url: str, runs: int, count: int) -> dict[str, list[tuple[float, float]]]:
    """Measure every case in turn, `count` times, the order turned round each time."""
    cases: dict[str, dict[str, Any]] = {
        "stock, as shipped": {"kind": "stock", "tuned": False},
        "stock": {"kind": "stock", "tuned": True},
        "phoenix": {"kind": "phoenix", "tuned": True},
        "none": {"kind": "none", "tuned": True},
        "phoenix, jittered": {"kind": "phoenix", "tuned": True, "jitter": JITTER},
        "none, jittered": {"kind": "none", "tuned": True, "jitter": JITTER},
        "phoenix, two processes": {"kind": "phoenix", "tuned": True, "processes": 2},
        "nothing stored": {"kind": "nothing", "tuned": True},
        "none, two processes": {"kind": "none", "tuned": True, "processes": 2},
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for turn in range(count):
        for name in list(cases)[:: 1 if turn % 2 else -1]:
            taken[name].append(await measure(server_url, runs=runs, seed=turn, **cases[name]))
            print(f"  round {turn + 1}, {name}: {taken[name][-1][0]:.2f} s", file=sys.stderr)
    return taken


def report(taken: dict[str, list[tuple[float, float]]], runs: int) -> bool:
    """Print medians, then each ratio with its bar; tell whether all hold."""
    seconds = {name: statistics.median(s for s, _ in found) for name, found in taken.items()}
    made = {name: statistics.median(c for _, c in found) for name, found in taken.items()}
    count = len(next(iter(taken.values())))
    print(f"{runs} runs x {STEPS} steps x {WAIT_SECONDS * 1000:.0f} ms, medians of {count}:")
    for name in taken:
        steps = runs * STEPS / seconds[name]
        print(f"  {name:24} {seconds[name]:6.2f} s, {steps:6.0f} steps/s, {made[name]:.3f} commits a step")

    def times(of: str, to: str) -> float:
        return statistics.median(a / b for (a, _), (b, _) in zip(taken[of], taken[to], strict=True))

    bars = [
        ("stock, as shipped / phoenix", times("stock, as shipped", "phoenix"), ">=", 5.0),
        ("stock / phoenix, both collectors tuned", times("stock", "phoenix"), ">=", 4.0),
        ("phoenix / none", times("phoenix", "none"), "<=", 1.3),
        ("phoenix / none, jittered", times("phoenix, jittered", "none, jittered"), "<=", 1.5),
        ("commits a step", made["phoenix"], "<=", 0.1),
        ("one process / two", times("phoenix", "phoenix, two processes"), ">=", 1.3),
    ]
    for title, limit in (
        ("stock, as shipped / a saver that stores nothing", times("stock, as shipped", "nothing stored")),
        ("stock / a saver that stores nothing", times("stock", "nothing stored")),
        ("a saver that stores nothing / none", times("nothing stored", "none")),
        ("one process / two, without a saver", times("none", "none, two processes")),
    ):
        print(f"{title}: {limit:.3f} (what no saver can pass here)")
    held = True
    for title, value, sign, bar in bars:
        ok = value >= bar if sign == ">=" else value <= bar
        held = held and ok
        print(f"{title}: {value:.3f} (bar {sign} {bar}) {'held' if ok else 'MISSED'}")
    return held


async def main() -> int:
    """Measure, or be one measurement."""
    parser = argparse.ArgumentParser(description="Many concurrent runs, with several savers.")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=list(SAVERS), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--jitter", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--tuned", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        await child(arguments)
        return 0
    async with server() as url:
        taken = await rounds(url, arguments.runs, arguments.rounds)
    return 0 if report(taken, arguments.runs) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
