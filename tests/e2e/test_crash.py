"""kill -9 at any moment: `phoenix resume` goes on to the same tree and the same evidence."""

from __future__ import annotations

import random
from pathlib import Path

from phoenix.settings import Settings
from tests.e2e.conftest import Develop, process_of
from tests.e2e.crash import kill_often, orphans_of, proof_of, steps_of, trace_in, tree_of
from tests.e2e.script import edit, plan, script, submit, task

KILLS = 4
PROJECTS = 4
"""A fast machine may end a project before its last kill: then another one is killed as well."""


async def test_killed_again_and_again_it_delivers_the_same(
    develop: Develop, settings: Settings, tmp_path: Path
) -> None:
    """Kills at random moments cost at most the step that was running."""
    recording = tmp_path / "recording.jsonl"
    tasks = plan(
        task(1, ["C1"], ["calc.py"]),
        task(2, ["C2"], ["calc.py"]),
        task(3, ["C2"], ["README.md"], ["T1", "T2"]),
    )
    third = [edit("README.md", "", "# calc\n"), submit()]
    await develop(script(decompose=[tasks], code__T3__r1=third), record=recording)

    new = ("new", "A calculator.", "--model", f"recorded:{recording}", "--approve", "auto")
    calm = process_of(settings)
    assert calm.run(*new) == 0

    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    once = await steps_of(settings, calm.result["project_id"])
    times = 0
    for _ in range(PROJECTS):
        killed = process_of(settings)
        times += kill_often(killed, new, kills=KILLS, length=len(calm.events), chance=chance)
        assert killed.result["status"] == "delivered", f"seed {seed}: {killed.result}"
        assert tree_of(killed.result, settings.home) == tree_of(calm.result, settings.home), f"seed {seed}"
        assert proof_of(killed.result) == proof_of(calm.result), f"seed {seed}"
        assert killed.result["commit"] == calm.result["commit"], f"seed {seed}"
        assert await steps_of(settings, killed.result["project_id"]) == once, f"seed {seed}"
        trace = await trace_in(settings, killed.result["project_id"])
        assert orphans_of(trace) == [], f"seed {seed}"
        assert {span.status for span in trace.spans} <= {"ok", "interrupted"}, f"seed {seed}"
        if times >= KILLS:
            return
    raise AssertionError(f"seed {seed}: {times} kills of {PROJECTS} projects, {KILLS} are due")
