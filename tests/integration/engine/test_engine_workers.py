"""Several worker processes, and what each fault of one costs the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from phoenix.engine.sweep import MAX_CRASHES, Steadiness
from phoenix.storage import workers
from phoenix.storage.database import transaction
from tests.integration.engine.engine_toy import CHILDREN, System, open_system, worker_process

PATIENCE_SECONDS = 60.0


async def begun(system: System, times: int) -> None:
    """Return once so many children have begun."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sum(mark.startswith("begin") for mark in system.marks()) < times:
            await asyncio.sleep(0.02)


async def holders(system: System) -> set[int]:
    """Return the workers that hold runs."""
    async with system.database.begin() as connection:
        query = text("SELECT DISTINCT worker FROM runs WHERE worker IS NOT NULL")
        return set((await connection.execute(query)).scalars())


async def test_two_processes_do_tasks_of_one_parent_and_one_goes_on_without_the_other(
    system: System, migrated_database_url: str
) -> None:
    """Children run side by side in both; after kill -9 of one, its children are done by the other."""
    url, folder = migrated_database_url, system.folder
    async with worker_process(url, folder, concurrency=2) as one, worker_process(url, folder, concurrency=2):
        project = await system.launch("parent", "slow")
        await begun(system, CHILDREN)
        assert len(await holders(system)) == 2
        one.kill()
        await one.wait()
        system.go()
        run = await system.until(project.id, "success", "failed", seconds=PATIENCE_SECONDS)
        assert run.output is not None
        assert run.output["text"] == " ".join(f"build/slow{n}=success" for n in range(CHILDREN))
        children = (await system.engine.overview(project.id)).children
        assert {child.attempt for child in children} == {1, 2}
        assert {child.crashes for child in children} == {0, 1}


async def test_a_run_that_kills_its_workers_is_quarantined_and_can_be_released(
    system: System, migrated_database_url: str
) -> None:
    """After three deaths it fails with its step, and workers live on; mended, it goes on from there."""
    project = await system.launch("fatal")
    for _ in range(MAX_CRASHES):
        async with worker_process(migrated_database_url, system.folder) as process:
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await process.wait() == 9
    async with worker_process(migrated_database_url, system.folder) as process:
        run = await system.until(project.id, "failed", "success", seconds=PATIENCE_SECONDS)
        assert run.error is not None
        assert (run.error.code, run.error.step, run.crashes) == ("run_quarantined", "fatal", MAX_CRASHES)
        system.go()
        await system.engine.resume(project.id)
        run = await system.until(project.id, "failed", "success", seconds=PATIENCE_SECONDS)
        assert (run.status, run.crashes) == ("success", 0)
        assert process.returncode is None
    assert system.marks() == ["first", *["fatal"] * (MAX_CRASHES + 1), "last"]


async def test_a_run_that_fails_by_its_own_error_has_not_crashed(system: System) -> None:
    """Its own failures and a stopped worker are no deaths."""
    project = await system.launch("broken")
    other = await system.launch("slow")
    async with system.engine.worker():
        run = await system.until(project.id, "failed")
        await system.until_marked("slow")
    assert run.crashes == 0
    assert (await system.run_of(other.id)).crashes == 0


async def test_a_busy_worker_keeps_its_runs(migrated_database_url: str, tmp_path: Path) -> None:
    """A step that blocks the event loop for longer than heartbeats may be late loses nothing."""
    async with (
        open_system(migrated_database_url, tmp_path, stale_seconds=1.5) as system,
        worker_process(migrated_database_url, tmp_path) as process,
    ):
        project = await system.launch("busy")
        await system.until_marked("busy", seconds=PATIENCE_SECONDS)
        async with system.engine.worker():
            run = await system.until(project.id, "success", "failed")
        assert (run.status, run.attempt) == ("success", 1)
        assert process.returncode is None


async def test_workers_outlive_the_loss_of_all_connections(system: System) -> None:
    """They connect again by themselves, no run is lost, and nobody is taken for dead."""
    project = await system.launch("slow")
    async with system.engine.worker():
        await system.until_marked("slow")
        async with system.database.begin() as connection:
            query = text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await connection.execute(query)
        system.go()
        run = await system.until(project.id, "success", "failed", seconds=PATIENCE_SECONDS)
        assert (run.status, run.crashes) == ("success", 0)
        following = await system.launch("plain")
        await system.until(following.id, "success", seconds=PATIENCE_SECONDS)


async def test_a_worker_is_listed_while_it_works(system: System) -> None:
    """Its row tells heartbeat, load and version, and is gone after a clean end."""
    await system.launch("slow")
    async with system.engine.worker():
        await system.until_marked("slow")
        await asyncio.sleep(1.5)
        (worker,) = await system.engine.workers()
        assert (worker.running, worker.state) == (1, "active")
        assert worker.heartbeat_age_seconds < 30
        assert worker.queues == ["default"]
    assert await system.engine.workers() == []


async def test_a_dead_workers_row_is_removed(system: System) -> None:
    """Nobody holds its lock, and it has not beaten for a while."""
    async with system.database.begin() as connection:
        query = (
            "INSERT INTO workers (key, host, pid, version, queues, concurrency, heartbeat_at)"
            " VALUES (5, 'gone', 1, '0', '[]', 1, now() - interval '1 minute')"
        )
        await connection.execute(text(query))
    async with system.engine.worker():
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(worker.key == 5 for worker in await system.engine.workers()):
                await asyncio.sleep(0.05)


async def test_a_worker_that_stopped_on_purpose_is_no_crash(system: System) -> None:
    """One that was killed while it drained is not held against its runs."""
    async with transaction(system.database) as connection:
        for key, state in ((5, "active"), (6, "draining")):
            query = (
                "INSERT INTO workers (key, host, pid, version, queues, concurrency, state, heartbeat_at)"
                " VALUES (:key, 'h', 1, '0', '[]', 1, :state, now() - interval '1 minute')"
            )
            await connection.execute(text(query), {"key": key, "state": state})
        found = await workers.lost(connection, 1, dead_seconds=2, stale_seconds=6)
    assert {worker.key: worker.crashed for worker in found} == {5: True, 6: False}


def test_a_worker_that_was_away_judges_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """After late beats, a new session, or a fresh server, others may only seem dead."""
    now = 100.0
    monkeypatch.setattr("phoenix.engine.sweep.time.monotonic", lambda: now)
    steady = Steadiness()
    assert steady.beat(sessions=1)
    assert not steady.server(1.0)
    assert not steady.beat(sessions=1)
    for _ in range(4):
        now += 1
        last = steady.beat(sessions=1)
    assert last
    now += 10
    assert not steady.beat(sessions=1)
    for _ in range(4):
        now += 1
        last = steady.beat(sessions=1)
    assert last
    assert not steady.beat(sessions=2)
    assert Steadiness().server(60.0)
