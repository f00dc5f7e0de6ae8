"""Build projects with a model that fails by rate, and cut a long answer after every byte.

    python benchmarks/model_soak.py [--projects 24] [--workers 3] [--rate 0.3] [--seed N] [--skip-cuts]

The model fails in every way that providers do: 429, 500, 529, hangs, drips, broken streams, malformed,
misfitting and unstorable answers; on several workers with connections of their own. The bars: every
project is delivered or fails with a reason; no partial answer is committed; no budget is passed; the
delivered projects made at most 1.6 times the calls that they would have needed. Exit code 0 only when all
hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
from collections import Counter
from decimal import Decimal
from pathlib import Path

import structlog
from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from phoenix.settings import Settings
from phoenix.storage.embedded import EmbeddedPostgres
from tests.e2e.soak import Soak, impatient, soak
from tests.unit.llm.cuts import cut_everywhere
from tests.unit.llm.server import Reply

MOST_CALLS = 1.6
LONG = Reply(
    "A long answer, sentence by sentence. " * 12,
    calls=[("edit_file", json.dumps({"path": "calc.py", "old": "pass\n" * 40, "new": "return {}\n" * 40}))],
    usage=(1234, 567),
    step=32,
)


async def cuts() -> bool:
    """Cut a long answer everywhere, both ways; return whether none was taken in part."""
    held = True
    for breaks, how in ((False, "ends"), (True, "breaks")):
        _, outcomes = await cut_everywhere(LONG, breaks=breaks)
        count = sum(len(piece) for piece in LONG.pieces())
        print(
            f"stream that {how} after each of {count} bytes: {outcomes.answered} whole answers,"
            f" {len(outcomes.partial)} partial ones, {len(outcomes.final)} that were not tried again",
            flush=True,
        )
        held = held and not outcomes.partial and not outcomes.final
    return held


async def projects(options: argparse.Namespace, seed: int) -> Soak:
    """Run the soak on an embedded database."""
    with tempfile.TemporaryDirectory(prefix="phoenix-soak-") as folder:
        home = Path(folder)
        async with EmbeddedPostgres(home / "postgres") as url:
            settings = Settings(home=home, DATABASE_URL=SecretStr(url))  # type: ignore[call-arg]
            return await soak(
                impatient(settings),
                home,
                projects=options.projects,
                workers=options.workers,
                rate=options.rate,
                seed=seed,
                budget=Decimal(1),
            )


def report(found: Soak) -> bool:
    """Print what came of it; return whether all bars hold."""
    calls = sum(model.calls for model in found.models.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.injected.items()))
    print(f"{len(found.models)} projects, {calls} calls, {found.injected.total()} faults: {kinds}")
    print(f"delivered: {len(found.delivered)}; neither delivered nor failed with a reason: {len(found.lost)}")
    for reason, count in Counter(found.failed.values()).most_common():
        print(f"  failed: {count} x {reason[:160]}")
    print(f"answers committed: {len(found.committed)}, of them partial: {len(found.partial)}")
    print(f"budgets passed, by the ledger of calls: {len(found.over_budget)}")
    print(f"calls by calls needed: ratio {found.ratio:.3f} (at most {MOST_CALLS})")
    return not (found.lost or found.partial or found.over_budget) and found.ratio <= MOST_CALLS


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--projects", type=int, default=24)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--skip-cuts", action="store_true", help="soak only")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    whole = options.skip_cuts or await cuts()
    return 0 if report(await projects(options, seed)) and whole else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
