"""The bundled project, replayed from its recording as `make demo` does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from phoenix.settings import Settings
from tests.e2e.conftest import process_of


def test_the_demo_delivers_and_its_tests_pass_outside(settings: Settings, tmp_path: Path) -> None:
    """From requirement to branch: four tasks or more, two of them at once, and every criterion holds."""
    demo = process_of(settings)
    assert demo.run("demo") == 0, demo.result
    result = demo.result
    assert result["status"] == "delivered"
    tasks = {t["task"]: t["status"] for t in result["tasks"]}
    assert len(tasks) >= 4
    assert set(tasks.values()) == {"done"}
    assert overlap(demo.events)
    assert not [e for e in demo.events if e.get("kind") == "recording_prompt_changed"]

    evidence = json.loads(Path(result["evidence"]).with_suffix(".json").read_text())["evidence"]
    assert evidence["passed"]
    assert all(c["holds"] and c["source"] == "sealed" for c in evidence["criteria"])
    assert [e["data"]["lessons"] for e in demo.events if e.get("kind") == "lessons_learned"] == [4]

    repository = next((settings.home / "projects" / result["project_id"]).glob("*.git"))
    folder = tmp_path / "checkout"
    subprocess.run(
        ["git", "clone", "-q", "--branch", result["branch"], str(repository), str(folder)], check=True
    )
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ran = int(done.stderr.split("Ran ")[1].split()[0])
    assert ran >= len(evidence["criteria"])


def overlap(events: list[dict[str, object]]) -> bool:
    """Tell whether two tasks were at work at the same time."""
    running: set[object] = set()
    for event in events:
        if event.get("kind") == "run_started" and event["data"]["key"]:  # type: ignore[index]
            running.add(event["run_id"])
        if event.get("kind") == "run_finished":
            running.discard(event["run_id"])
        if len(running) > 1:
            return True
    return False
