"""`phoenix upgrade watch` on rows of a real database."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from phoenix import __version__
from phoenix.cli.app import app
from tests.integration.engine.engine_toy import open_system

OLD, NEW = "0.0.8", "9.0.0"

ROWS = """
WITH project AS (
    INSERT INTO projects (id, title, requirement, model, approvals, path)
    VALUES (gen_random_uuid(), 't', 'r', 'm', 'ask', 'auto') RETURNING id
), made AS (
    SELECT project.id AS project, gen_random_uuid() AS id, n FROM project, generate_series(1, %(runs)s) AS n
), threaded AS (
    INSERT INTO threads (id, project_id) SELECT id, project FROM made
)
INSERT INTO runs (id, project_id, thread_id, flow, status, input, version, finished_at, error)
SELECT id, project, id, 'f', CASE WHEN n <= %(failed)s THEN 'failed' ELSE %(status)s END, '{}', %(version)s,
    clock_timestamp() - make_interval(mins => %(minutes)s),
    CASE WHEN n = 1 AND %(failed)s > 0 THEN '{"code": "run_quarantined"}'::jsonb END
FROM made
"""


@pytest.fixture
def ended(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return what writes runs of a version that ended, into the database of the commands."""
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))

    def write(
        version: str,
        runs: int,
        failed: int = 0,
        *,
        deaths: int = 0,
        minutes: int = 1,
        status: str = "success",
    ) -> None:
        about = {"version": version, "runs": runs, "failed": failed, "minutes": minutes, "status": status}
        with psycopg.connect(migrated_database_url) as connection:
            connection.execute(ROWS, about)
            connection.execute(
                "INSERT INTO worker_deaths (worker, version, runs)"
                " SELECT (random() * 1e9)::bigint, %s, '{}' FROM generate_series(1, %s)",
                (version, deaths),
            )

    return write


def watch(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["upgrade", "watch", "--new", NEW, *arguments])


def test_a_healthy_version(ended: Callable[..., None]) -> None:
    """It fails no more often than the old one: 0, with the numbers of both."""
    ended(OLD, 200, failed=10)
    ended(NEW, 40, failed=2)
    found = watch()
    assert found.exit_code == 0, found.output
    assert f"{NEW}: 40 runs ended, 2 failed (1 in quarantine), 0 workers died" in found.stdout
    assert f"{OLD}: 200 runs ended, 10 failed" in found.stdout
    assert found.stdout.splitlines()[-1].startswith("healthy")


def test_a_version_that_fails_more_often(ended: Callable[..., None]) -> None:
    """It is worse: 4, which no error of the command has."""
    ended(OLD, 200, failed=10)
    ended(NEW, 40, failed=20)
    found = watch("--json")
    assert found.exit_code == 4
    said: dict[str, Any] = json.loads(found.stdout)
    assert (said["finding"], said["new"]["failed"], said["others"]) == ("worse", 20, [OLD])


def test_a_version_whose_workers_die(ended: Callable[..., None]) -> None:
    """Deaths count though no run of it ended."""
    ended(OLD, 200)
    ended(NEW, 0, deaths=3)
    assert watch().exit_code == 4


def test_too_few_runs_to_tell(ended: Callable[..., None]) -> None:
    """3, as where nothing of it has ended yet; cancelled runs, and those long ago, are none."""
    ended(OLD, 200)
    ended(NEW, 10)
    ended(NEW, 40, status="cancelled")
    ended(NEW, 40, minutes=45)
    found = watch()
    assert found.exit_code == 3
    assert "10 runs of 9.0.0 ended, 30 are needed" in found.stdout
    assert watch("--minutes", "60").exit_code == 0
    assert watch("--runs", "10").exit_code == 0


def test_only_the_named_versions_are_compared_with(ended: Callable[..., None]) -> None:
    """A third version, left from before, may be left out."""
    ended(OLD, 200)
    ended("0.0.7", 50, failed=50)
    ended(NEW, 40, failed=5)
    assert watch().exit_code == 0
    assert watch("--old", OLD).exit_code == 4


def test_it_watches_until_the_version_is_worse(ended: Callable[..., None]) -> None:
    """Long before its time is over."""
    ended(OLD, 200)
    later = threading.Timer(2.0, lambda: ended(NEW, 30, failed=30))
    began = time.monotonic()
    later.start()
    found = watch("--for", "2")
    later.join()
    assert found.exit_code == 4
    assert time.monotonic() - began < 60
    assert "unclear: 0 runs of 9.0.0 ended" in found.stderr


def test_a_version_is_not_compared_with_itself(ended: Callable[..., None]) -> None:
    """Bad usage, and a message that says what to do."""
    found = watch("--old", NEW)
    assert found.exit_code == 2
    assert "Give two versions." in found.stderr


def test_workers_note_their_version(
    ended: Callable[..., None], migrated_database_url: str, tmp_path: Path
) -> None:
    """What a worker has taken is found under its version: the program's own, where none is named."""

    async def work() -> None:
        async with open_system(migrated_database_url, tmp_path) as system, system.engine.worker():
            good, bad = await system.launch("plain"), await system.launch("broken")
            await system.until(good.id, "success")
            await system.until(bad.id, "failed")

    asyncio.run(work())
    ended(OLD, 30)
    found = CliRunner().invoke(app, ["upgrade", "watch", "--runs", "2", "--json"])
    said = json.loads(found.stdout)
    assert (said["version"], said["new"]["succeeded"], said["new"]["failed"]) == (__version__, 1, 1)
