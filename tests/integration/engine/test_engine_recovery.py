"""What becomes of runs when their worker stops, dies, hangs, or is two."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from phoenix.engine.lifecycle import Lifecycle
from phoenix.engine.queue import RunQueue
from phoenix.engine.worker import sweep
from phoenix.errors import RunSuperseded
from tests.integration.engine.engine_toy import FLOWS, System, open_system

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def worker_process(url: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker in a process of its own, killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.engine.worker_process", url, str(folder), cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_workers_run_goes_on_in_another_process(
    system: System, migrated_database_url: str
) -> None:
    """The step that was cut is done again, the finished one is not, and nobody waits for a time-out."""
    project = await system.launch("slow")
    async with worker_process(migrated_database_url, system.folder) as process:
        await system.until_marked("slow", seconds=20)
        process.kill()
        await process.wait()
    assert (await system.run_of(project.id)).status == "running"
    async with system.engine.worker():
        await system.until_marked("slow", times=2)
        system.go()
        run = await system.until(project.id, "success", "failed")
    assert run.status == "success"
    assert run.attempt == 2
    assert system.marks() == ["first", "slow", "slow", "last"]


async def test_a_frozen_workers_run_is_taken_over_and_its_late_writes_are_refused(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """A worker that hangs past its heartbeats loses its runs; awake again it changes nothing."""
    async with (
        open_system(migrated_database_url, tmp_path, stale_seconds=1.5) as system,
        worker_process(migrated_database_url, tmp_path) as process,
    ):
        project = await system.launch("slow")
        await system.until_marked("slow", seconds=20)
        os.kill(process.pid, signal.SIGSTOP)
        async with system.engine.worker():
            await system.until_marked("slow", times=2)
            system.go()
            run = await system.until(project.id, "success", "failed")
        os.kill(process.pid, signal.SIGCONT)
        await system.until_marked("last", times=2)
        await asyncio.sleep(0.3)
        assert await system.run_of(project.id) == run
        assert (await system.kinds(project.id)).count("run_finished") == 1


async def test_a_stopped_worker_hands_its_runs_back_at_once(system: System) -> None:
    """A graceful stop cancels the running step, and the next worker needs no sweep to go on."""
    project = await system.launch("slow")
    async with system.engine.worker():
        await system.until_marked("slow")
    assert (await system.run_of(project.id)).status == "pending"
    assert "run_handed_back" in await system.kinds(project.id)
    async with system.engine.worker():
        await system.until_marked("slow", times=2)
        system.go()
        await system.until(project.id, "success")
    assert system.marks() == ["first", "slow", "slow", "last"]


async def test_two_processes_share_the_work(system: System, migrated_database_url: str) -> None:
    """Runs of one database are done by whichever process is free, each once."""
    async with open_system(migrated_database_url, system.folder) as other:
        projects = [await system.launch("plain") for _ in range(8)]
        async with system.engine.worker(), other.engine.worker():
            for project in projects:
                await system.until(project.id, "success")
    assert sorted(system.marks()) == ["first"] * 8 + ["last"] * 8
    for project in projects:
        assert (await system.run_of(project.id)).attempt == 1


async def test_the_sweep_finds_runs_whose_job_is_gone(system: System) -> None:
    """Rows are the truth: a run that is due gets a job again, once."""
    project = await system.launch("plain")
    async with system.database.begin() as connection:
        await connection.execute(text("DELETE FROM procrastinate_jobs"))
    queue = system.engine._queue
    assert len(await sweep(system.database, queue, key=1, in_hand=[])) == 1
    assert await sweep(system.database, queue, key=1, in_hand=[]) == []
    async with system.engine.worker():
        await system.until(project.id, "success")


async def test_the_sweep_leaves_runs_that_somebody_works_on(
    system: System, migrated_database_url: str
) -> None:
    """A live worker's run is not taken away."""
    project = await system.launch("slow")
    async with system.engine.worker():
        await system.until_marked("slow")
        for _ in range(3):
            assert await sweep(system.database, system.engine._queue, key=1, in_hand=[]) == []
        assert (await system.run_of(project.id)).attempt == 1
        system.go()
        await system.until(project.id, "success")


async def test_a_waiting_run_that_was_woken_is_not_forgotten(system: System) -> None:
    """A wake flag without a job is seen by the sweep."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        (approval,) = (await system.engine.overview(project.id)).approvals
    async with system.database.begin() as connection:
        await connection.execute(
            text("UPDATE approvals SET decision = :d, decided_at = now()"), {"d": '{"verdict": "approve"}'}
        )
        await connection.execute(text("UPDATE runs SET wake = true"))
    async with system.engine.worker():
        run = await system.until(project.id, "success")
    assert run.status == "success"
    assert approval.decision is None


async def test_a_superseded_attempt_cannot_write_the_end(system: System) -> None:
    """Each status write is refused once the run's attempt has gone up."""
    project = await system.launch("plain")
    root = await system.run_of(project.id)
    lifecycle = Lifecycle(system.database, RunQueue(system.engine._queue._app), 7)
    early = await lifecycle.take(root.id)
    late = await lifecycle.take(root.id)
    assert early is not None
    assert late is not None
    with pytest.raises(RunSuperseded):
        await lifecycle.finish(early.run, output={})
    with pytest.raises(RunSuperseded):
        await lifecycle.pause(early.run, project, [])
    with pytest.raises(RunSuperseded):
        await lifecycle.hand_back(early.run)
    await lifecycle.finish(late.run, output={})
    with pytest.raises(RunSuperseded):
        await lifecycle.finish(late.run, output={})


async def test_a_worker_leaves_runs_of_flows_it_does_not_know(
    system: System, migrated_database_url: str
) -> None:
    """Neither failed nor taken again and again: it waits for a process that has loaded its flow."""
    own = "/home/somebody/a folder/flows.py:mine"
    flows = {**FLOWS, own: FLOWS["plain"]}
    async with open_system(migrated_database_url, system.folder, flows) as knowing:
        project = await knowing.launch(own)
        async with system.engine.worker():
            other = await system.launch("plain")
            await system.until(other.id, "success")
            await asyncio.sleep(1.2)
            left = await system.run_of(project.id)
            assert (left.status, left.attempt) == ("pending", 0)
            assert len(await system.kinds(project.id)) == 1
            async with knowing.engine.worker():
                done = await knowing.until(project.id, "success", "failed")
        assert (done.status, done.attempt) == ("success", 1)
