"""`phoenix migrate`, `prune` and `delete`, and what a full disk looks like at the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from phoenix.cli.app import app
from phoenix.storage import schema

FLOWS = """
import asyncio
from pathlib import Path

from phoenix.flow import step

HERE = Path(__file__).parent


@step
async def greet(name: str) -> str:
    return f"hello {name}"


@step
async def linger(name: str) -> str:
    (HERE / "lingering").touch()
    while not (HERE / "mended").exists():
        await asyncio.sleep(0.05)
    return name


both = linger >> greet
"""
LONGEST_SECONDS = 60


def phoenix(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def last_line(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def run_flow(folder: Path, name: str) -> list[str]:
    """Return the arguments that run a flow of the test's own."""
    (folder / "flows.py").write_text(FLOWS)
    model = folder / "none.jsonl"
    model.write_text('{"format":"phoenix-recording","version":1,"model":"none"}\n')
    return ["run", f"{folder / 'flows.py'}:{name}", "Ada", "--model", f"recorded:{model}"]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return what lets the commands use a database."""

    def set_up(url: str) -> None:
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("PHOENIX_SANDBOX", "host")

    return set_up


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 64 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_migrate_goes_up_and_down_and_says_so(
    database_url: str, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check changes nothing; going down asks first; a process that may not migrate says who may."""
    use(database_url)
    last = schema.head()
    checked = phoenix("migrate", "--check")
    assert (checked.exit_code, "to be done: 0001" in checked.stdout) == (1, True)
    monkeypatch.setenv("PHOENIX_AUTO_MIGRATE", "0")
    refused = phoenix("list")
    assert (refused.exit_code, "Run `phoenix migrate`" in refused.stderr) == (1, True)
    assert last_line(phoenix("migrate", "--json")) == {
        "before": None,
        "revision": last,
        "queue": [],
        "waiting": [],
        "reason": "",
    }
    assert "up to date" in phoenix("migrate").stdout
    assert phoenix("migrate", "--check").exit_code == 0
    assert phoenix("list").exit_code == 0
    assert "nobody can be asked" in phoenix("migrate", "--down", "0001").stderr
    assert phoenix("migrate", "--down", "0001", "--check").exit_code == 2
    assert phoenix("migrate", "--to", "4711").exit_code == 2
    assert last_line(phoenix("migrate", "--down", "0001", "--yes", "--json"))["revision"] == "0001"
    assert last_line(phoenix("migrate", "--json"))["before"] == "0001"


def test_a_process_migrates_by_itself_unless_told_not_to(
    database_url: str, use: Callable[[str], None]
) -> None:
    """Whoever gives a database may use it at once."""
    use(database_url)
    assert "no projects yet" in phoenix("list").stdout
    assert phoenix("migrate", "--check").exit_code == 0


def test_prune_shows_before_it_removes(
    migrated_database_url: str, use: Callable[[str], None], tmp_path: Path
) -> None:
    """Nothing is due on the day a project ends; on demand its inner state goes and it can still be shown."""
    use(migrated_database_url)
    assert phoenix(*run_flow(tmp_path, "greet")).exit_code == 0
    project = json.loads(phoenix("list", "--json").stdout)["project_id"]
    assert phoenix("prune").stdout == "nothing is due\n"
    dry = last_line(phoenix("prune", "--older-than", "0", "--dry-run", "--json"))
    assert (dry["dry_run"], [p["project_id"] for p in dry["projects"]]) == (True, [project])
    assert dry["total_bytes"] > 0
    shown = phoenix("prune", "--older-than", "0", "--dry-run").stdout
    assert project[:8] in shown
    assert shown.endswith("would go\n")
    assert last_line(phoenix("prune", "--older-than", "0", "--json"))["total_bytes"] > 0
    assert phoenix("prune", "--older-than", "0").stdout == "nothing is due\n"
    assert phoenix("show", project).exit_code == 0


def test_delete_asks_and_takes_the_project_away(
    migrated_database_url: str, use: Callable[[str], None], tmp_path: Path
) -> None:
    """Where nobody can be asked, only --yes deletes."""
    use(migrated_database_url)
    assert phoenix(*run_flow(tmp_path, "greet")).exit_code == 0
    project = json.loads(phoenix("list", "--json").stdout)["project_id"]
    refused = phoenix("delete", project[:8])
    assert (refused.exit_code, "Give --yes" in refused.stderr) == (2, True)
    deleted = last_line(phoenix("delete", project[:8], "--yes", "--json"))
    assert deleted == {"project_id": project, "status": "deleted"}
    assert "no projects yet" in phoenix("list").stdout
    assert phoenix("delete", project, "--yes").exit_code == 2


def test_a_full_disk_pauses_the_command_until_there_is_space(
    migrated_database_url: str,
    use: Callable[[str], None],
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says why it pauses, stays, goes on by itself, and gives what it always gives."""
    use(migrated_database_url)
    monkeypatch.setenv("PHOENIX_HOME", str(disk))
    monkeypatch.setenv("PHOENIX_MIN_FREE_MB", "8")
    command = [sys.executable, "-m", "phoenix", *run_flow(tmp_path, "both")]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
    until((tmp_path / "lingering").exists)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free - 4 * 1024**2)
    until(lambda: "paused: Less than 8 MB are free" in (tmp_path / "said").read_text())
    (tmp_path / "mended").touch()
    until(lambda: (tmp_path / "said").read_text().count("paused: Less than 8 MB") == 2)
    assert process.poll() is None
    (disk / "filler").unlink()
    output, _ = process.communicate(timeout=LONGEST_SECONDS)
    assert (process.returncode, json.loads(output)) == (0, "hello Ada")
    assert "going on" in (tmp_path / "said").read_text()


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
