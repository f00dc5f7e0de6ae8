"""`phoenix` as its user runs it, killed and resumed, and what must be the same afterwards.

Shared by the crash test and by `benchmarks/demo_kills.py`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from phoenix.bootstrap import open_system
from phoenix.domain.trace import Span, Trace, trace_of
from phoenix.settings import Settings

WAIT_SECONDS = 60
LONGEST_DELAY_SECONDS = 0.25


class Process:
    """The command line with --json, in an environment of its own. Keeps all events that it printed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.events: list[dict[str, Any]] = []

    def run(self, *arguments: str, kill_after: int | None = None, delay_seconds: float = 0.0) -> int:
        """Run a command and return its exit code, minus the signal's number when it was killed.

        Args:
            arguments: The command.
            kill_after: Number of printed lines after which it is killed without warning.
            delay_seconds: How long after that line: somewhere between it and later ones.
        """
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
                time.sleep(delay_seconds)
                process.kill()
                break
        process.stdout.close()
        return process.wait(timeout=WAIT_SECONDS)

    @property
    def result(self) -> dict[str, Any]:
        """Return the last line, which says how it went."""
        return self.events[-1]


def environment_of(home: Path, database_url: str = "") -> dict[str, str]:
    """Return all that a process needs to know; without an address it uses the embedded server."""
    found = {"PATH": os.environ["PATH"], "HOME": str(home), "PHOENIX_HOME": str(home)}
    return found | ({"DATABASE_URL": database_url} if database_url else {})


def kill_often(
    process: Process, new: tuple[str, ...], *, kills: int, length: int, chance: random.Random
) -> int:
    """Begin a project, kill its process at random moments, resume it each time, and let it end.

    Args:
        process: What runs it.
        new: The command that begins it.
        kills: How often it is killed.
        length: How many events a calm run prints.
        chance: Where the moments come from.

    Returns:
        How often it was killed: less than asked when the project ended before.
    """
    moments = sorted(chance.sample(range(4, length * 9 // 10), kills))
    command = new
    killed = 0
    for before, moment in zip([0, *moments], moments, strict=False):
        code = process.run(
            *command, kill_after=moment - before, delay_seconds=chance.uniform(0, LONGEST_DELAY_SECONDS)
        )
        killed += code == -signal.SIGKILL
        command = ("resume", process.events[0]["project_id"])
    process.run(*command)
    return killed


async def steps_of(settings: Settings, project_id: str) -> dict[str, list[str]]:
    """Return the steps that began in each run of a project, by the run's key, in order.

    A step that begins again before any other has, is named once: it was not in a checkpoint yet. The cycle
    that waits for children is left out: it turns as often as children end.
    """
    began: dict[str, list[str]] = {}
    keys: dict[UUID | None, str] = {}
    async with open_system(settings, execution=False) as system:
        events = await system.engine.log.read(UUID(project_id), limit=100_000)
    for event in events:
        if event.kind == "run_started":
            keys[event.run_id] = str(event.data.get("key", ""))
        path = "/".join(event.data.get("path", ()))
        if event.kind == "step_started" and "until all_over" not in path:
            steps = began.setdefault(keys[event.run_id], [])
            if not steps or steps[-1] != path:
                steps.append(path)
    return began


async def trace_in(settings: Settings, project_id: str) -> Trace:
    """Return a project's trace."""
    async with open_system(settings, execution=False) as system:
        events = await system.engine.log.read(UUID(project_id), limit=100_000)
    return trace_of(UUID(project_id), events)


def orphans_of(trace: Trace) -> list[Span]:
    """Return spans without a parent before them, but for the project's own run."""
    seen: set[int | None] = {None}
    lost = []
    for span in trace.spans:
        if span.parent not in seen or (span.parent is None and len(seen) > 1):
            lost.append(span)
        seen.add(span.id)
    return lost


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
