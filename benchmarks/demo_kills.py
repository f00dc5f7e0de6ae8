"""Kill the demo's project at random moments, resume it each time, and compare with a calm run.

    python benchmarks/demo_kills.py [--kills 10] [--seed N] [--runs 1]

The same tree, the same commit and the same evidence must come out, and no step may begin again once another
step of its run has begun. Everything lives in a folder of its own, removed at the end. Exit code 0 only when
all of it is equal; on a difference the folder stays.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from phoenix.cli.demo import demo_files
from phoenix.settings import Settings
from tests.e2e.crash import Process, environment_of, kill_often, proof_of, steps_of, tree_of

Facts = dict[str, Any]


def facts_of(process: Process, settings: Settings) -> Facts:
    """Return what must not depend on how often a project was interrupted."""
    result = process.result
    if result["status"] != "delivered":
        return {"status": f"{result['status']}: {result.get('error')}"}
    return {
        "status": result["status"],
        "commit": result["commit"],
        "tree": tree_of(result, settings.home),
        "evidence": proof_of(result),
        "steps": asyncio.run(steps_of(settings, result["project_id"])),
    }


def differences(calm: Facts, killed: Facts) -> list[str]:
    """Return the names of what is not the same."""
    return [name for name in calm if killed.get(name) != calm[name]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="how often each project is killed")
    parser.add_argument("--seed", type=int, default=None, help="of the first run; the next runs count up")
    parser.add_argument("--runs", type=int, default=1, help="how many projects are killed")
    options = parser.parse_args()
    first = random.randrange(1_000_000) if options.seed is None else options.seed
    home = Path(tempfile.mkdtemp(prefix="phoenix-kills-"))
    settings = Settings(home=home)
    files = demo_files()
    (home / "requirement.md").write_text(files.requirement)
    new = ("new", "-f", str(home / "requirement.md"), "--approve", "auto", "--path", "full")
    new = (*new, "--model", f"recorded:{files.recording}")

    process = Process(environment_of(home))
    process.run(*new)
    calm, length = facts_of(process, settings), len(process.events)
    print(f"calm: {calm['status']}, commit {calm.get('commit')}, {length} events", flush=True)
    good = calm["status"] == "delivered"
    for seed in range(first, first + options.runs) if good else ():
        process = Process(environment_of(home))
        times = kill_often(process, new, kills=options.kills, length=length, chance=random.Random(seed))
        killed = facts_of(process, settings)
        wrong = differences(calm, killed) + ([] if times == options.kills else ["number of kills"])
        said = f"differs in {', '.join(wrong)}" if wrong else "tree, evidence and steps are the same"
        print(f"seed {seed}: killed {times} times, commit {killed.get('commit')}: {said}", flush=True)
        good = good and not wrong
    if good:
        shutil.rmtree(home)
        print("equal: yes")
    else:
        print(f"equal: no (kept in {home})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
