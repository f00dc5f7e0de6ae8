"""Retention: what finished projects no longer need goes; unfinished ones, and all evidence, stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from phoenix.checkpoints.saver import open_saver
from phoenix.domain.approval import Decision
from phoenix.domain.run import Project
from phoenix.engine.queue import open_queue
from phoenix.engine.upkeep import Upkeep
from phoenix.errors import DeleteRefused, NotFound, ResumeRefused
from phoenix.ports import Sandboxes
from phoenix.sandbox.provision import WheelProvisioner
from phoenix.storage import retention
from phoenix.storage.database import conninfo
from phoenix.workspace import GitWorkspace
from tests.integration.engine.engine_toy import System, open_system

EVERY_SECOND = "* * * * * *"


def workspace_in(folder: Path, project: Project) -> GitWorkspace:
    """Return a project's workspace below a folder."""
    return GitWorkspace(folder / "projects" / str(project.id), project.title)


class Rig:
    """A system with upkeep, and shortcuts for tests."""

    def __init__(self, system: System, upkeep: Upkeep, folder: Path) -> None:
        self.system = system
        self.upkeep = upkeep
        self.folder = folder

    def workspace(self, project: Project) -> GitWorkspace:
        return workspace_in(self.folder, project)

    async def worked_in(self, project: Project) -> str:
        """Leave a worktree, a snapshot and a lasting commit in a project's workspace; return the commit."""
        workspace = self.workspace(project)
        base = await workspace.prepare(None)
        tree = await workspace.worktree("T1", base)
        (tree.path / "a.py").write_text("a = 1\n" * 1000)
        await tree.snapshot()
        (tree.path / "a.py").write_text("a = 2\n" * 1000)
        return await workspace.commit("T1", message="Lasting", parents=[base])

    async def ended(self, flow: str = "plain", *, days_ago: float = 8) -> Project:
        """Return a project that ended so long ago."""
        project = await self.system.launch(flow)
        async with self.system.engine.worker():
            await self.system.until(project.id, "success", "failed")
        await self.age(project, days=days_ago)
        return project

    async def age(self, project: Project, *, days: float) -> None:
        await self.execute(
            "UPDATE runs SET finished_at = finished_at - make_interval(secs => :seconds)"
            " WHERE project_id = :id",
            id=project.id,
            seconds=days * 86_400,
        )

    async def execute(self, statement: str, **values: Any) -> Any:
        async with self.system.database.begin() as connection:
            result = await connection.execute(text(statement), values)
            return result.all() if result.returns_rows else result.rowcount

    async def count(self, table: str, column: str, value: object) -> int:
        ((count,),) = await self.execute(
            f"SELECT count(*) FROM {table} WHERE {column}::text = :v", v=str(value)
        )
        return int(count)

    async def checkpoints(self, project: Project) -> int:
        return await self.count("checkpoints", "thread_id", await self.root(project.id))

    async def root(self, project_id: UUID) -> UUID:
        return (await self.system.run_of(project_id)).id

    async def kinds(self, project: Project) -> list[str]:
        return await self.system.kinds(project.id)


@pytest.fixture
async def rig(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a system with upkeep on its defaults."""
    url = conninfo(migrated_database_url)
    async with (
        open_system(migrated_database_url, tmp_path) as system,
        open_saver(url) as saver,
        open_queue(url).open_async() as app,
    ):
        upkeep = Upkeep(
            database=system.database,
            queue=app,
            checkpointer=saver,
            workspace_of=partial(workspace_in, tmp_path),
            provisioner=WheelProvisioner(tmp_path / "environments", cast("Sandboxes", None)),
            retention_days=7,
            environment_days=30,
        )
        yield Rig(system, upkeep, tmp_path)


async def test_a_project_whose_time_is_over_keeps_its_evidence_and_loses_the_rest(rig: Rig) -> None:
    """Checkpoints, worktrees and snapshots go; rows, events, artifacts and lasting commits stay."""
    project = await rig.ended()
    commit = await rig.worked_in(project)
    before = await rig.system.engine.overview(project.id)
    events = len(await rig.kinds(project))
    assert await rig.checkpoints(project) > 0

    report = await rig.upkeep.prune()

    assert [p.project_id for p in report.projects] == [project.id]
    assert report.projects[0].database_bytes > 0
    assert report.projects[0].disk_bytes > 0
    assert await rig.checkpoints(project) == 0
    for table in ("checkpoint_blobs", "checkpoint_writes"):
        assert await rig.count(table, "thread_id", await rig.root(project.id)) == 0
    workspace = rig.workspace(project)
    assert list((workspace.repository.parent / "worktrees").iterdir()) == []
    assert await workspace.read(commit, "a.py") == b"a = 2\n" * 1000
    assert await rig.system.engine.overview(project.id) == before
    assert (await rig.kinds(project))[events:] == ["project_pruned"]
    assert (await rig.upkeep.prune()).projects == []


async def test_nothing_of_an_unfinished_or_young_project_goes(rig: Rig) -> None:
    """One that waits for a person goes on after the most eager pruning; a young one keeps all."""
    waiting = await rig.system.launch("gate")
    async with rig.system.engine.worker():
        await rig.system.until(waiting.id, "waiting")
    young = await rig.ended("broken", days_ago=6)
    parent = await rig.ended(days_ago=30)
    queued = await rig.system.launch("plain")
    await rig.execute(
        "INSERT INTO runs (id, project_id, parent_id, key, flow, status, input) SELECT gen_random_uuid(),"
        " project_id, id, 'T1', 'child', 'waiting', '{}' FROM runs WHERE project_id = :id",
        id=parent.id,
    )
    await rig.worked_in(waiting)
    assert (await rig.upkeep.prune()).projects == []
    assert [p.project_id for p in (await rig.upkeep.prune(days=0)).projects] == [young.id]
    assert await rig.checkpoints(parent) > 0
    assert (rig.workspace(waiting).repository.parent / "worktrees" / "T1").is_dir()
    (approval,) = (await rig.system.engine.overview(waiting.id)).approvals
    await rig.system.engine.decide(approval.id, Decision(verdict="approve"), by="ada")
    async with rig.system.engine.worker():
        await rig.system.until(waiting.id, "success")
        await rig.system.until(queued.id, "success")


async def test_a_failed_project_can_be_resumed_until_its_time_is_over(rig: Rig) -> None:
    """Before, it is tried again; after, it says why not and what to do."""
    project = await rig.ended("broken", days_ago=6)
    await rig.upkeep.prune()
    await rig.system.engine.resume(project.id)
    async with rig.system.engine.worker():
        await rig.system.until(project.id, "failed")
    await rig.age(project, days=8)
    await rig.upkeep.prune()
    with pytest.raises(
        ResumeRefused,
        match=r"The time of project .* was over on .*: its checkpoints are gone.*PHOENIX_RETENTION_DAYS",
    ):
        await rig.system.engine.resume(project.id)
    assert (await rig.system.run_of(project.id)).status == "failed"


async def test_a_project_that_was_resumed_meanwhile_is_left_alone(rig: Rig) -> None:
    """Whether its time is over is decided with its runs locked."""
    project = await rig.ended("broken")
    await rig.system.engine.resume(project.id)
    async with rig.system.database.begin() as connection:
        assert await retention.retire(connection, project.id, seconds=1) == []
        assert await retention.retired_at(connection, project.id) is None


async def test_a_dry_run_says_what_would_go_and_removes_nothing(rig: Rig) -> None:
    """Its figures are there before anything is lost."""
    project = await rig.ended()
    await rig.worked_in(project)
    await rig.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('q','t','failed')"
    )
    report = await rig.upkeep.prune(dry_run=True)
    assert report.projects[0].disk_bytes > 0
    assert report.total_bytes >= report.projects[0].database_bytes > 0
    assert report.jobs == 1
    assert await rig.checkpoints(project) > 0
    assert await rig.count("procrastinate_jobs", "task_name", "t") == 1
    assert (await rig.upkeep.prune()).jobs == 1
    assert await rig.count("procrastinate_jobs", "task_name", "t") == 0


async def test_pruning_that_was_cut_short_is_taken_up_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that is only half gone is due until all of it is."""
    project = await rig.ended()

    async def dies(*_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(rig.upkeep, "_forget", dies)
        with pytest.raises(ConnectionResetError):
            await rig.upkeep.prune()
    assert await rig.checkpoints(project) > 0
    assert len((await rig.upkeep.prune()).projects) == 1
    assert await rig.checkpoints(project) == 0
    assert (await rig.kinds(project)).count("project_pruned") == 1


async def test_a_broken_repository_keeps_no_other_project(rig: Rig) -> None:
    """It is logged and tried again next time; the others go."""
    broken, other = await rig.ended(), await rig.ended()
    await rig.worked_in(broken)
    (rig.workspace(broken).repository / "HEAD").unlink()
    assert [p.project_id for p in (await rig.upkeep.prune()).projects] == [other.id]
    assert await rig.checkpoints(broken) > 0


async def test_journal_rows_go_in_batches(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that hold a run's inner state are named in one place."""
    project, other = await rig.ended(), await rig.ended(days_ago=1)
    await rig.execute("CREATE TABLE journal (run_id uuid, at timestamptz)")
    for run_id in (await rig.root(project.id), await rig.root(other.id)):
        await rig.execute("INSERT INTO journal SELECT :id, now() FROM generate_series(1, 2500)", id=run_id)
    monkeypatch.setattr(retention, "BY_RUN", (("journal", "run_id"),))
    async with rig.system.database.begin() as connection:
        assert await retention.delete_by_run(connection, [await rig.root(project.id)]) == retention.BATCH
    await rig.upkeep.prune()
    assert await rig.count("journal", "run_id", await rig.root(project.id)) == 0
    assert await rig.count("journal", "run_id", await rig.root(other.id)) == 2500


async def test_jobs_of_runs_stay(rig: Rig) -> None:
    """Only ended jobs go, a day after their end, and those that nobody will ever take up."""
    project = await rig.system.launch("plain")
    cancelled = await rig.system.launch("plain")
    await rig.system.engine.cancel(cancelled.id)
    assert (await rig.upkeep.prune()).jobs == 0
    await rig.execute("UPDATE procrastinate_events SET at = at - interval '2 days'")
    assert (await rig.upkeep.prune()).jobs == 1
    async with rig.system.engine.worker():
        await rig.system.until(project.id, "success")


async def test_a_schedule_fires_once_however_many_workers_there_are(
    rig: Rig, migrated_database_url: str, tmp_path: Path
) -> None:
    """Two worker processes' apps share one schedule: each time is done once, by either."""
    done: list[tuple[int, int]] = []

    class Noted(Upkeep):
        number = 0

        async def _on_time(self, timestamp: int) -> None:
            done.append((timestamp, self.number))

    async with open_system(migrated_database_url, tmp_path) as other:
        for number, system in enumerate((rig.system, other)):
            upkeep = Noted(
                database=system.database,
                queue=system.engine._queue._app,
                checkpointer=cast("Any", None),
                workspace_of=rig.workspace,
                provisioner=cast("Any", None),
                retention_days=7,
                environment_days=30,
            )
            upkeep.number = number
            upkeep.schedule(EVERY_SECOND)
        async with rig.system.engine.worker(), other.engine.worker():
            async with asyncio.timeout(30):
                while len(done) < 5:
                    await asyncio.sleep(0.1)
    timestamps = [timestamp for timestamp, _ in done]
    assert len(set(timestamps)) == len(timestamps)


async def test_a_deleted_project_leaves_nothing(rig: Rig) -> None:
    """Rows, checkpoints, folder and jobs go, also of one that waits for a person."""
    project = await rig.system.launch("gate")
    async with rig.system.engine.worker():
        await rig.system.until(project.id, "waiting")
    await rig.worked_in(project)
    root = await rig.root(project.id)
    await rig.upkeep.delete(project.id)
    with pytest.raises(NotFound):
        await rig.system.engine.overview(project.id)
    for table in ("runs", "events", "approvals"):
        assert await rig.count(table, "project_id", project.id) == 0
    assert await rig.count("checkpoints", "thread_id", root) == 0
    assert list((rig.folder / "projects").iterdir()) == []
    with pytest.raises(NotFound):
        await rig.upkeep.delete(project.id)


async def test_a_project_that_is_worked_on_is_not_deleted(rig: Rig) -> None:
    """It has to be cancelled first; nothing of it is touched."""
    project = await rig.system.launch("slow")
    with pytest.raises(DeleteRefused, match="being worked on"):
        await rig.upkeep.delete(project.id)
    async with rig.system.engine.worker():
        await rig.system.until_marked("slow")
        with pytest.raises(DeleteRefused):
            await rig.upkeep.delete(project.id)
        rig.system.go()
        await rig.system.until(project.id, "success")
    await rig.upkeep.delete(project.id)


async def test_what_a_killed_fork_left_goes_after_a_day(rig: Rig) -> None:
    """Its threads go with its note; one that is being made now, and all other threads, are left alone."""
    project = await rig.ended(days_ago=0)
    left, making = uuid4(), uuid4()
    for fork, hours in ((left, 25), (making, 1)):
        await rig.execute(
            "INSERT INTO checkpoints SELECT CAST(:id AS text), checkpoint_ns, checkpoint_id,"
            " parent_checkpoint_id, type, checkpoint, metadata FROM checkpoints WHERE thread_id = :old",
            id=str(fork),
            old=str(await rig.root(project.id)),
        )
        await rig.execute(
            "INSERT INTO begun_forks SELECT :id, ARRAY[:id], now() - make_interval(hours => :hours)",
            id=fork,
            hours=hours,
        )
    assert (await rig.upkeep.prune(dry_run=True)).forks == 1
    assert (await rig.upkeep.prune()).forks == 1
    assert (await rig.upkeep.prune()).forks == 0
    assert await rig.count("checkpoints", "thread_id", left) == 0
    assert await rig.count("checkpoints", "thread_id", making) > 0
    assert await rig.checkpoints(project) > 0


async def test_effects_go_once_nobody_can_ask_for_them_again(rig: Rig) -> None:
    """A project that may be resumed keeps the rows that say what it has done."""
    over, young = await rig.ended(), await rig.ended(days_ago=1)
    for project in (over, young):
        for status in ("done", "failed", "pending"):
            await rig.execute(
                "INSERT INTO outbox (id, project_id, kind, key, payload, status, updated_at)"
                " VALUES (gen_random_uuid(), :id, 'push', :key, '{}', :status, now() - interval '8 days')",
                id=project.id,
                key=f"{project.id}/{status}",
                status=status,
            )
    assert (await rig.upkeep.prune()).effects == 2
    assert await rig.execute("SELECT status FROM outbox WHERE project_id = :id", id=over.id) == [("pending",)]
    assert await rig.count("outbox", "project_id", young.id) == 3
