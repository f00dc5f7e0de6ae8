"""Workers on the command line: detached launches, watching, pausing, draining."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from phoenix.cli.app import app
from phoenix.cli.work import names

FLOWS = """
import asyncio
from pathlib import Path

from phoenix.flow import step

HERE = Path(__file__).parent


@step
async def linger(name: str) -> str:
    with (HERE / "lingering").open("a") as file:
        file.write("x")
    while not (HERE / "mended").exists():
        await asyncio.sleep(0.05)
    return name


@step
async def greet(name: str) -> str:
    return f"hello {name}"


slow = linger >> greet
"""
PATIENCE_SECONDS = 90.0


class Shell:
    """A user's shell in a folder with a slow flow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flow = f"{folder / 'flows.py'}:slow"

    def phoenix(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    def detached(self) -> str:
        """Launch the flow without working on it, and return the project's id."""
        result = self.phoenix(
            "run", self.flow, "Ada", "--detach", "--model", f"recorded:{self.folder / 'none'}"
        )
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()

    def status(self, project: str) -> str:
        return str(json.loads(self.phoenix("show", project, "--json").stdout)["status"])

    @contextmanager
    def process(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command in a process of its own, killed at the end."""
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "phoenix", *arguments], stderr=log, stdout=subprocess.PIPE, text=True
            )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def lingers(self, times: int = 1) -> bool:
        """Tell whether the slow step has begun so often."""
        path = self.folder / "lingering"
        return path.exists() and len(path.read_text()) >= times

    def log(self) -> str:
        return (self.folder / "log").read_text()


def until(holds: Callable[[], object]) -> None:
    """Return once something holds."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def shell(tmp_path: Path, migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "flows.py").write_text(FLOWS)
    (tmp_path / "none").write_text('{"format":"phoenix-recording","version":1,"model":"none"}\n')
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PHOENIX_SANDBOX", "host")
    return Shell(tmp_path)


@pytest.mark.slow
def test_a_worker_drains_on_a_signal_and_another_goes_on(shell: Shell) -> None:
    """SIGTERM lets the step finish, hands the run back and exits 0; `phoenix up` does the rest."""
    project = shell.detached()
    assert "No worker is running" in shell.phoenix("workers").stdout
    with shell.process("worker", "--concurrency", "2", "--flow", shell.flow) as worker:
        until(shell.lingers)
        (listed,) = [json.loads(line) for line in shell.phoenix("workers", "--json").stdout.splitlines()]
        assert (listed["pid"], listed["state"], listed["concurrency"]) == (worker.pid, "active", 2)
        assert f":{worker.pid}" in shell.phoenix("workers").stdout
        worker.send_signal(signal.SIGTERM)
        until(lambda: "draining" in shell.log())
        (shell.folder / "mended").touch()
        assert worker.wait(PATIENCE_SECONDS) == 0
    assert "run_taken" in shell.log()
    assert project in shell.log()
    assert shell.status(project) == "queued"
    with shell.process("up", "--flow", shell.flow):
        watched = shell.phoenix("watch", project)
    assert (watched.exit_code, json.loads(watched.stdout)) == (0, "hello Ada")
    assert (shell.folder / "lingering").read_text() == "x"


@pytest.mark.slow
def test_a_second_signal_stops_at_once_and_what_ran_is_handed_back(shell: Shell) -> None:
    """The step that ran is done again elsewhere, and no crash is counted."""
    project = shell.detached()
    with shell.process("worker", "--flow", shell.flow) as worker:
        until(shell.lingers)
        worker.send_signal(signal.SIGINT)
        until(lambda: "draining" in shell.log())
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) != 0
    assert shell.status(project) == "queued"
    (shell.folder / "mended").touch()
    with shell.process("worker", "--flow", shell.flow):
        assert shell.phoenix("watch", project).exit_code == 0
    assert (shell.folder / "lingering").read_text() == "xx"


def test_a_project_is_paused_shown_and_cancelled(shell: Shell) -> None:
    """Each command says what is next; what is over cannot be paused."""
    project = shell.detached()
    paused = shell.phoenix("pause", project[:8], "--reason", "lunch")
    assert (paused.exit_code, f"phoenix resume {project[:8]}" in paused.stderr) == (0, True)
    watched = shell.phoenix("watch", project)
    assert (watched.exit_code, "lunch" in watched.stderr) == (3, True)
    cancelled = shell.phoenix("cancel", project[:8], "--json")
    assert (cancelled.exit_code, json.loads(cancelled.stdout)["status"]) == (0, "cancelled")
    refused = shell.phoenix("pause", project)
    assert (refused.exit_code, "over" in refused.stderr) == (1, True)
    assert shell.phoenix("watch", project).exit_code == 1


def test_a_detached_launch_prints_its_id_and_who_could_work(shell: Shell) -> None:
    """On standard output there is nothing else; recording needs whoever works."""
    model = f"recorded:{shell.folder / 'none'}"
    result = shell.phoenix("new", "Build it.", "--detach", "--model", model)
    assert (result.exit_code, len(result.stdout.strip())) == (0, 36)
    assert "phoenix worker" in result.stderr
    as_json = shell.phoenix("new", "Build it.", "--detach", "--model", model, "--json")
    said: dict[str, Any] = json.loads(as_json.stdout)
    assert said["status"] == "pending"
    record = str(shell.folder / "out.jsonl")
    refused = shell.phoenix("new", "Build it.", "--detach", "--model", model, "--record", record)
    assert (refused.exit_code, "--record" in refused.stderr) == (2, True)


def test_queues_are_named_in_a_comma_list() -> None:
    """Empty names are nothing."""
    assert names(["a,b", " c ,"]) == ["a", "b", "c"]
    assert names(None) == []
