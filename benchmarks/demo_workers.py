"""Build the demo's project on three workers, each killed twice, and compare it with a calm run.

    python benchmarks/demo_workers.py [--workers 3] [--kills 2] [--seed N]

A worker is `phoenix worker` in a process of its own, killed without warning and started again at once. The
same commit, tree and evidence must come out. Exit code 0 only when they do; on a difference the folder stays.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from phoenix.bootstrap import System, open_system
from phoenix.cli.demo import demo_files
from phoenix.domain.run import FINISHED
from phoenix.engine.launch import Launch
from phoenix.settings import Settings

LONGEST_SECONDS = 600
LOOK_SECONDS = 0.02
START_SECONDS = 60

Facts = dict[str, Any]


class Workers:
    """Worker processes of one database."""

    def __init__(self, home: Path, count: int) -> None:
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PHOENIX_HOME": str(home)}
        self._log = (home / "workers.log").open("ab")
        self.processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "phoenix", "worker"],
            stdout=self._log,
            stderr=self._log,
            env=self._environment,
            start_new_session=True,
        )

    def kill(self, number: int) -> None:
        """Kill a worker and start another in its place."""
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self._start()

    def stop(self) -> None:
        """Kill all."""
        for process in self.processes:
            process.kill()
            process.wait()
        self._log.close()


@contextlib.asynccontextmanager
async def at_work(system: System, count: int) -> AsyncIterator[Workers]:
    """Have so many workers at work."""
    workers = Workers(system.home, count)
    try:
        async with asyncio.timeout(START_SECONDS):
            while len(await system.engine.workers()) < count:  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(LOOK_SECONDS)
        yield workers
    finally:
        workers.stop()


async def build(system: System, workers: Workers, moments: list[tuple[int, int]]) -> tuple[Facts, int]:
    """Build the demo's project; at each moment, which is a number of events, kill the worker beside it."""
    files = demo_files()
    project = await system.engine.launch(
        Launch(
            requirement=files.requirement, model=f"recorded:{files.recording}", approvals="auto", path="full"
        )
    )
    due, seen = sorted(moments), 0
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            seen += len(await system.engine.log.read(project.id, after=seen))
            while due and due[0][0] <= seen:
                workers.kill(due.pop(0)[1])
            overview = await system.engine.overview(project.id)
            if overview.run.status in FINISHED:
                break
            await asyncio.sleep(LOOK_SECONDS)
    return await facts(system, project.id, left=len(due)), seen


async def facts(system: System, project_id: UUID, *, left: int) -> Facts:
    """Return what must not depend on how often workers were killed."""
    overview = await system.engine.overview(project_id)
    if overview.run.status != "success":
        return {"status": f"{overview.run.status}: {overview.run.error}", "kills": f"{left} left"}
    delivery = overview.artifacts["delivery"]
    report = json.loads(Path(delivery["report"]).with_suffix(".json").read_text())["evidence"]
    tree = await asyncio.to_thread(tree_of, delivery["repository"], delivery["commit"])
    proof = [(c["criterion"], c["holds"], c["tasks"], c["commits"]) for c in report["criteria"]]
    calls = overview.usage.calls
    return {
        "status": "success",
        "commit": delivery["commit"],
        "tree": tree,
        "evidence": proof,
        "model calls": calls,
        "kills": f"{left} left",
    }


def tree_of(repository: str, commit: str) -> str:
    """Return the id of a commit's tree."""
    command = ["git", f"--git-dir={repository}", "rev-parse", f"{commit}^{{tree}}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--kills", type=int, default=2, help="of each worker")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    home = Path(tempfile.mkdtemp(prefix="phoenix-workers-"))
    async with open_system(Settings(home=home), execution=False) as system:
        async with at_work(system, options.workers) as workers:
            calm, length = await build(system, workers, [])
        print(f"calm: {calm['status']}, commit {calm.get('commit')}, {length} events", flush=True)
        chance = random.Random(seed)
        victims = [number for number in range(options.workers) for _ in range(options.kills)]
        moments = [(chance.randrange(3, length * 9 // 10), number) for number in victims]
        async with at_work(system, options.workers) as workers:
            killed, _ = await build(system, workers, moments)
    wrong = [name for name in calm if killed.get(name) != calm[name]]
    what = f"{options.workers} workers, each killed {options.kills} times (seed {seed})"
    print(f"{what}: {killed['status']}, commit {killed.get('commit')}, {killed['kills']}", flush=True)
    for name in wrong:
        print(f"  {name}: {calm[name]} is now {killed.get(name)}")
    print("equal: yes" if not wrong else f"equal: no (kept in {home})")
    if not wrong:
        shutil.rmtree(home)
    return 1 if wrong or calm["status"] != "success" else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
