"""What becomes of runs when their worker stops, dies, hangs, or is two."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.engine.sweep import Sweep
from phoenix.errors import RunSuperseded
from phoenix.storage import workers
from tests.integration.engine.engine_toy import FLOWS, System, open_system, worker_process


def sweep_of(system: System) -> Sweep:
    """Return the sweep of a worker that has nothing in hand."""
    return Sweep(
        system.engine._admission,
        system.engine._queue,
        key=1,
        in_hand={},
        effects=system.engine._effects.sweep,
        untidy=system.untidy,
    )


async def test_a_killed_workers_run_goes_on_in_another_process(
    system: System, migrated_database_url: str
) -> None:
    """The step that was cut is done again, the finished one is not, and nobody waits for a time-out."""
    project = await system.launch("slow")
    async with worker_process(migrated_database_url, system.folder) as process:
        await system.until_marked("slow", seconds=60)
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


async def checkpoints(url: str, run_id: UUID) -> list[Any]:
    """Return the keys of all that is stored of a run's state."""
    query = (
        "SELECT checkpoint_id, '' FROM checkpoints WHERE thread_id = %(run)s"
        " UNION ALL SELECT checkpoint_id, task_id || idx FROM checkpoint_writes WHERE thread_id = %(run)s"
        " UNION ALL SELECT channel, version FROM checkpoint_blobs WHERE thread_id = %(run)s ORDER BY 1, 2"
    )
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(query, {"run": str(run_id)})).fetchall()


async def test_a_frozen_workers_run_is_taken_over_and_its_late_writes_are_refused(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """A worker that hangs loses its runs; awake again it changes nothing, and works on what is due then."""
    async with (
        open_system(migrated_database_url, tmp_path, stale_seconds=1.5) as system,
        worker_process(migrated_database_url, tmp_path) as process,
    ):
        project = await system.launch("slow")
        await system.until_marked("slow", seconds=60)
        os.kill(process.pid, signal.SIGSTOP)
        async with system.engine.worker():
            await system.until_marked("slow", times=2)
            system.go()
            run = await system.until(project.id, "success", "failed")
        before = await checkpoints(migrated_database_url, run.id)
        os.kill(process.pid, signal.SIGCONT)
        # It ends its step, may not store the result, and so never comes to the next one.
        await asyncio.sleep(1.0)
        assert system.marks().count("last") == 1
        assert await checkpoints(migrated_database_url, run.id) == before
        following = await system.launch("plain")
        await system.until(following.id, "success")
        assert await system.run_of(project.id) == run
        assert run.crashes == 0
        assert (await system.kinds(project.id)).count("run_finished") == 1
        assert process.returncode is None


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
    sweep = sweep_of(system)
    assert len(await sweep()) == 1
    assert await sweep() == []
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
            assert await sweep_of(system)() == []
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
    lifecycle = system.lifecycle(7)
    early = await lifecycle.take(root.id)
    assert await lifecycle.take(root.id) is None
    async with system.database.begin() as connection:
        await workers.leave(connection, [root.id])
    late = await lifecycle.take(root.id)
    assert early is not None
    assert late is not None
    with pytest.raises(RunSuperseded):
        await lifecycle.finish(early.run, output={})
    with pytest.raises(RunSuperseded):
        await lifecycle.pause(early.run, [])
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


REFUSED_ENDS = """
CREATE SEQUENCE refused;
CREATE FUNCTION refuse_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'doing' AND nextval('refused') <= 2 THEN
        RAISE 'the connection is lost' USING ERRCODE = 'connection_failure';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER refuse_end BEFORE DELETE ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION refuse_end();
"""


async def test_a_jobs_end_that_the_database_did_not_take_is_reported_again(
    system: System, migrated_database_url: str
) -> None:
    """Its worker lives, so nobody else would free the thread, and what waits for it would wait for ever."""
    async with await psycopg.AsyncConnection.connect(migrated_database_url) as connection:
        await connection.execute(REFUSED_ENDS)
    project = await system.launch("slow")
    system.go()
    async with system.engine.worker():
        await system.until(project.id, "success", "failed")
        async with asyncio.timeout(20), system.database.connect() as connection:
            while await jobs_left(connection):
                await asyncio.sleep(0.05)
                await connection.rollback()


async def jobs_left(connection: AsyncConnection) -> int:
    query = text("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'")
    return int((await connection.execute(query)).scalar_one())
