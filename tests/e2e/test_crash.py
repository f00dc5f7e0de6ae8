"""kill -9 at any moment: `phoenix resume` goes on to the same tree and the same evidence."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from phoenix.settings import Settings
from tests.e2e.conftest import Develop
from tests.e2e.script import edit, plan, script, submit, task

KILLS = 4


class Process:
    """`phoenix` as its user runs it, with a home and a database of the test's own."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(settings.home),
            "PHOENIX_HOME": str(settings.home),
            "DATABASE_URL": settings.database_url.get_secret_value(),
        }
        self.events: list[dict[str, Any]] = []

    def run(self, *arguments: str, kill_after: int | None = None) -> int:
        """Run a command with --json; kill it without warning after a number of events."""
        process = subprocess.Popen(
            [sys.executable, "-m", "phoenix", *arguments, "--json"],
            stdout=subprocess.PIPE,
            env=self.environment,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        for number, line in enumerate(process.stdout, 1):
            self.events.append(json.loads(line))
            if number == kill_after:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        return process.wait(timeout=60)

    @property
    def result(self) -> dict[str, Any]:
        """Return the last line, which says how it went."""
        return self.events[-1]


def tree_of(result: dict[str, Any], home: Path) -> str:
    """Return the id of the delivered tree."""
    repository = next((home / "projects" / result["project_id"]).glob("*.git"))
    done = subprocess.run(
        ["git", f"--git-dir={repository}", "rev-parse", f"{result['commit']}^{{tree}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def proof_of(result: dict[str, Any]) -> list[Any]:
    """Return what the evidence says of each criterion, without durations."""
    evidence = json.loads(Path(result["evidence"]).with_suffix(".json").read_text())["evidence"]
    return [
        (c["criterion"], c["holds"], c["tasks"], c["commits"], [(t["id"], t["outcome"]) for t in c["tests"]])
        for c in evidence["criteria"]
    ]


def repeated(events: list[dict[str, Any]]) -> list[Any]:
    """Return steps that began again after the run had gone on to another step.

    A step whose follower has begun is in a checkpoint. The cycle that waits for children is left out:
    it turns as often as children end.
    """
    began: dict[str, list[tuple[str, ...]]] = {}
    for event in {e["seq"]: e for e in events if "seq" in e}.values():
        path = tuple(event["data"].get("path", ()))
        if event["kind"] == "step_started" and "until all_over" not in path:
            steps = began.setdefault(event["run_id"], [])
            if not steps or steps[-1] != path:
                steps.append(path)
    return [(run, path) for run, steps in began.items() for path in set(steps) if steps.count(path) > 1]


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
    calm = Process(settings)
    assert calm.run(*new) == 0
    length = len(calm.events)

    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    killed = Process(settings)
    killed.run(*new, kill_after=chance.randrange(4, length // 2))
    project = killed.events[0]["project_id"]
    for _ in range(KILLS - 1):
        killed.run("resume", project, kill_after=chance.randrange(1, length // 3))
    assert killed.run("resume", project) == 0, f"seed {seed}: {killed.result}"

    assert tree_of(killed.result, settings.home) == tree_of(calm.result, settings.home), f"seed {seed}"
    assert proof_of(killed.result) == proof_of(calm.result), f"seed {seed}"
    assert killed.result["commit"] == calm.result["commit"], f"seed {seed}"
    assert repeated(killed.events) == [], f"seed {seed}"
