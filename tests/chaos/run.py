"""The long chaos run: a sweep over thousands of points, then a soak. Exits 0 only when all its bars hold.

python -m tests.chaos.run [--points 2400] [--workflows 2000] [--kills 200] [--crashes 20] [--failovers 3]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from phoenix.storage.embedded import EmbeddedPostgres
from tests.chaos.report import Report, quantile, report
from tests.chaos.soak import Size, Soak, soaking
from tests.chaos.sweep import Outcome, Sweep, points, spread

NEXT_STEP_SECONDS = 10.0
MIN_POINTS = 2_000
SHARES = {"kill": 0.5, "fail": 0.4, "stop": 0.07, "freeze": 0.03}
"""How the points are shared out over what happens there."""

FROZEN_SCENES = ("steps", "gate")


def say(text: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def run_sweep(folder: Path, count: int, lanes: int) -> bool:
    """Sweep so many points and return whether nothing went wrong at any."""
    # Every process of a lane imports this module anew, and needs none of it.
    from tests.conftest import FAST, Databases

    async with EmbeddedPostgres(folder / "postgres", options={**FAST, "max_connections": "300"}) as url:
        databases = Databases(url)

        async def make() -> str:
            return databases.url(await databases.create_migrated())

        sweep = Sweep(make, folder, lanes=lanes)
        found = await sweep.discover()
        crossed = sum(map(len, found.values()))
        say(f"sweep: {crossed} boundaries in {len(found)} scenes, before and after each")
        jobs = []
        for mode, share in SHARES.items():
            scenes = {name: found[name] for name in FROZEN_SCENES} if mode == "freeze" else found
            jobs += spread(points(scenes, [mode]), int(count * share))  # type: ignore[list-item]
        began = time.monotonic()
        outcome = await sweep.run(jobs)
        seconds = time.monotonic() - began
    return tell_sweep(outcome, count, seconds)


def tell_sweep(outcome: Outcome, wanted: int, seconds: float) -> bool:
    """Print what a sweep found."""
    reached = outcome.fired
    modes = Counter(verdict.job.point.mode for verdict in reached if verdict.job.point)
    kinds = Counter(verdict.job.point.boundary.kind for verdict in reached if verdict.job.point)
    counts = outcome.counts()
    each = 1000 * seconds / max(1, len(reached))
    say(f"sweep: {len(reached)} points reached in {seconds:.0f} s ({each:.0f} ms each)")
    say("  by what happened: " + ", ".join(f"{kind} {n}" for kind, n in modes.most_common()))
    say("  by boundary: " + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common()))
    for kind in ("lost", "stuck", "repeated", "paid twice", "effects", "events"):
        say(f"  {kind:<12} {counts[kind]}")
    if outcome.bad:
        say(outcome.told(60))
    enough = len(reached) >= min(MIN_POINTS, 0.8 * wanted)
    return enough and not outcome.bad


async def run_soak(folder: Path, size: Size) -> bool:
    """Soak, and return whether all bars hold."""
    began = time.monotonic()
    async with soaking(folder, size) as (soak, world):
        await soak.run()
        seconds = time.monotonic() - began
        found = await report(soak, world)
    return tell_soak(soak, found, seconds)


def tell_soak(soak: Soak, found: Report, seconds: float) -> bool:
    """Print what a soak came to."""
    size, counts = soak.size, found.counts()
    dealt = Counter(blow.kind for blow in soak.blows)
    say(
        f"soak: {found.workflows} workflows of 10 steps on {size.workers} workers in {seconds:.0f} s;"
        f" {found.steps} steps begun, {found.model_calls} model calls"
    )
    say("  dealt: " + ", ".join(f"{kind} {n}" for kind, n in sorted(dealt.items())))
    for kind in ("lost", "stuck", "repeated", "paid twice", "effects", "events"):
        say(f"  {kind:<12} {counts[kind]}")
    say(f"  answers that arrived in the instant before a kill, and were asked for again: {found.cut}")
    say(f"  runs set aside after three deaths of their workers, and released: {soak.released}")
    for kind, gaps in sorted(found.gaps.items()):
        shown = (f"{quantile(gaps, share):.2f}" for share in (0.5, 0.99, 1.0))
        say("  next step after {} (s, {} runs): p50 {}, p99 {}, longest {}".format(kind, len(gaps), *shown))
    for name, wrong in list(found.problems.items())[:40]:
        say(f"  {name}: {'; '.join(wrong)}")
    p99 = quantile(found.all_gaps(), 0.99)
    say(f"p99 of the next step after any kill: {p99:.2f} s (bar: {NEXT_STEP_SECONDS:g})")
    complete = not soak.stuck and found.workflows == size.workflows
    struck = dealt["kill"] >= size.kills and dealt["crash"] >= size.crashes
    struck = struck and dealt["failover"] >= size.failovers
    return complete and struck and not found.problems and p99 <= NEXT_STEP_SECONDS


async def main(arguments: argparse.Namespace) -> bool:
    """Run what was asked for."""
    held = True
    with tempfile.TemporaryDirectory(prefix="chaos-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        if arguments.points:
            held &= await run_sweep(folder / "sweep", arguments.points, arguments.lanes)
        if arguments.workflows:
            size = Size(
                workflows=arguments.workflows,
                workers=arguments.workers,
                kills=arguments.kills,
                crashes=arguments.crashes,
                failovers=arguments.failovers,
                freezes=arguments.freezes,
                seed=arguments.seed,
            )
            held &= await run_soak(folder / "soak", size)
    say("the bars hold" if held else "a bar does not hold")
    return held


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = Size()
    parser.add_argument("--points", type=int, default=2_400, help="points of the sweep; 0 leaves it out")
    parser.add_argument("--lanes", type=int, default=8, help="workflows that are swept side by side")
    parser.add_argument("--workflows", type=int, default=whole.workflows, help="0 leaves the soak out")
    for name in ("workers", "kills", "crashes", "failovers", "freezes", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(whole, name))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(parsed())) else 1)
