"""`phoenix demo`: the bundled project from requirement to delivered branch, answered by a recording."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phoenix.cli.output import DELIVERED, FAILED, print_json, say
from phoenix.errors import GitFailed, StorageError

if TYPE_CHECKING:
    from phoenix.cli.view import View
    from phoenix.engine.launch import Overview
    from phoenix.settings import Settings

POLICY = "by the demo's policy"
DISCOVER = ("-m", "unittest", "discover", "-s")
TESTS = ((*DISCOVER, "tests", "-t", "."), (*DISCOVER, "tests/acceptance"))
"""What the user's own Python is given: the coders' tests, then the sealed ones."""
TEST_SECONDS = 120
CLONE_SECONDS = 60


@dataclass(frozen=True)
class DemoFiles:
    """The bundled project."""

    requirement: str
    recording: Path


@dataclass(frozen=True)
class OwnTests:
    """How the delivered branch's tests went outside Phoenix."""

    checkout: Path
    command: str
    passed: bool
    output: str


async def demo(*, as_json: bool = False) -> int:
    """Run the bundled project and its delivered tests, and return the exit code."""
    files = demo_files()
    from phoenix.cli.connection import open_connection
    from phoenix.cli.screen import open_screen
    from phoenix.cli.session import open_settings, work_on
    from phoenix.engine.launch import Launch

    settings = open_settings().model_copy(update={"server": ""})  # the recording is this machine's
    screen = open_screen(as_json=as_json)
    launch = Launch(
        requirement=files.requirement, model=f"recorded:{files.recording}", approvals="auto", path="full"
    )
    async with open_connection(settings) as connection:
        project = await connection.client.launch(launch.checked())
        view, overview = await work_on(connection, project, screen, policy=POLICY)
    own = await own_tests(settings, overview) if view.status == "delivered" else []
    return _end(view, overview, own, as_json=as_json)


def demo_files() -> DemoFiles:
    """Return the bundled project.

    Raises:
        StorageError: this installation lacks it.
    """
    folder = Path(str(resources.files("phoenix"))) / "demo"
    try:
        requirement = (folder / "requirement.md").read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"The demo's {error.filename} is missing.",
            hint="Install Phoenix again: it is part of the package.",
        ) from error
    return DemoFiles(requirement, folder / "recording.jsonl")


async def own_tests(settings: Settings, overview: Overview) -> list[OwnTests]:
    """Check the delivered branch out, and run its tests with the user's own Python, outside Phoenix.

    Raises:
        GitFailed: the branch cannot be checked out.
    """
    delivery = overview.artifacts["delivery"]
    checkout = settings.home / "demo" / str(overview.project.id)[:8]
    await asyncio.to_thread(clone, str(delivery["repository"]), str(delivery["branch"]), checkout)
    return [await asyncio.to_thread(run_tests, checkout, arguments) for arguments in TESTS]


def clone(repository: str, branch: str, to: Path) -> None:
    """Check a branch out into a new folder, with no configuration or hook of anybody's in force.

    Raises:
        GitFailed: git refuses.
    """
    shutil.rmtree(to, ignore_errors=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    options = ["-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false"]
    command = [
        "git",
        *options,
        "clone",
        "--quiet",
        "--single-branch",
        "--branch",
        branch,
        "--",
        repository,
        str(to),
    ]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=CLONE_SECONDS, env=os.environ | quiet
        )
    except subprocess.CalledProcessError as error:
        raise GitFailed(
            f"The delivered branch cannot be checked out: {error.stderr.strip()[:500]}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitFailed(f"The delivered branch cannot be checked out: {error}") from error


def run_tests(checkout: Path, arguments: tuple[str, ...]) -> OwnTests:
    """Run a checkout's tests as a plain process of the user's own Python."""
    python = own_python()
    command = " ".join([python, *arguments])
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PHOENIX_", "VIRTUAL_ENV"))}
    try:
        done = subprocess.run(
            [python, *arguments],
            cwd=checkout,
            env=clean | {"PYTHONDONTWRITEBYTECODE": "1"},
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return OwnTests(checkout, command, False, f"They took longer than {TEST_SECONDS} s.")
    output = (done.stdout + done.stderr).strip()
    return OwnTests(checkout, command, done.returncode == 0, output[-4000:])


def own_python() -> str:
    """Return the Python that Phoenix's own environment was made from."""
    base = str(getattr(sys, "_base_executable", "") or "")
    return base if base and Path(base).exists() else shutil.which("python3") or sys.executable


def _end(view: View, overview: Overview, own: list[OwnTests], *, as_json: bool) -> int:
    from phoenix.cli.follow import exit_code, summary
    from phoenix.cli.session import end

    if as_json:
        passed = all(tests.passed for tests in own)
        about: dict[str, Any] = {"checkout": str(own[0].checkout), "tests_passed": passed} if own else {}
        print_json(summary(view, overview) | about)
    else:
        end(view, overview, as_json=False)
    if not own:
        return exit_code(view)
    if not as_json:
        _print_tests(own)
    return DELIVERED if all(tests.passed for tests in own) else FAILED


def _print_tests(own: list[OwnTests]) -> None:
    import typer

    from phoenix.cli.escape import clean

    typer.echo(f"checkout   {own[0].checkout}")
    typer.echo("\nIts tests, run by your own Python, outside Phoenix:")
    for tests in own:
        last = tests.output.splitlines()[-3:] if tests.passed else tests.output.splitlines()[-30:]
        typer.echo(clean(f"    {tests.command}"))
        typer.echo(clean("\n".join(f"        {row}" for row in last if row.strip())))
    if not all(tests.passed for tests in own):
        say("error: the delivered tests do not pass with this Python")
        return
    typer.echo(
        "\nThat was a recording. With a model of your own (OPENAI_API_KEY, an OpenAI-compatible\n"
        "OPENAI_BASE_URL, or Ollama on localhost):\n"
        '    phoenix new "A command-line program that ..."\n'
        "    phoenix new -f requirement.md --repo path/to/repository"
    )
