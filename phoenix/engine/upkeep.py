"""Upkeep: what finished projects no longer need goes, on a schedule or when somebody asks.

A project's row, its runs, events, artifacts, approvals and model calls stay, and so do its repository with
all lasting commits and branches, its delivery and its evidence report. What goes is what it took to work on
it: checkpoints, worktrees, snapshots. Nothing of an unfinished project is touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import structlog

from phoenix.domain.run import FINISHED, Project
from phoenix.domain.upkeep import Pruned, UpkeepReport
from phoenix.engine.admission import Admission
from phoenix.engine.queue import SHARED, RunQueue
from phoenix.engine.steer import cancel_runs
from phoenix.errors import DeleteRefused, PhoenixError
from phoenix.ports import Provisioner, Repositories, Workspace
from phoenix.storage import audit, deliveries, forks, idempotency, jobs, projects, retention, runs
from phoenix.storage.database import transaction
from phoenix.storage.retention import DueProject, Held

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from procrastinate import App
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")
log = structlog.get_logger(__name__)

TASK = "upkeep"
CRON = "*/10 * * * *"
"""A process that starts takes up what was due in the last ten minutes: short-lived ones do upkeep too."""

DAY_SECONDS = 86_400.0
JOB_SECONDS = DAY_SECONDS
PROJECTS_AT_ONCE = 50
MANY = 1_000_000
PAUSE_SECONDS = 0.05
"""Between deletes, so that work goes first."""


class Upkeep:
    """Removes what is not needed any more. All of it is idempotent and may be cut short anywhere.

    Args:
        database: Where rows live.
        queue: The queue's app, on the same database.
        checkpointer: LangGraph's saver.
        workspace_of: Returns a project's workspace.
        repositories: Has the copies of code that are made for forks; None where projects have none.
        provisioner: Has the installed environments.
        retention_days: How long a finished project keeps its inner state; 0 for ever.
        environment_days: How long an environment stays that nobody uses; 0 for ever.
    """

    def __init__(
        self,
        *,
        database: AsyncEngine,
        queue: App,
        checkpointer: BaseCheckpointSaver[Any],
        workspace_of: Callable[[Project], Workspace],
        repositories: Repositories | None = None,
        provisioner: Provisioner,
        retention_days: int,
        environment_days: int,
    ) -> None:
        self._database = database
        self._app = queue
        self._queue = RunQueue(queue)
        self._admission = Admission(database, self._queue)
        self._checkpointer = checkpointer
        self._workspace_of = workspace_of
        self._repositories = repositories
        self._provisioner = provisioner
        self._retention_days = retention_days
        self._environment_days = environment_days

    def schedule(self, cron: str = CRON) -> None:
        """Let the queue's workers do upkeep; however many there are, each time once."""
        task = self._app.task(name=TASK, queue=SHARED, queueing_lock=TASK, priority=-100)(self._on_time)
        self._app.periodic(cron=cron)(task)

    async def _on_time(self, timestamp: int) -> None:
        await tidy(self._database)
        report = await self.prune()
        log.info("upkeep_done", timestamp=timestamp, projects=len(report.projects), bytes=report.total_bytes)

    async def prune(self, *, days: float | None = None, dry_run: bool = False) -> UpkeepReport:
        """Remove what is due and return what went.

        Args:
            days: How long ago a project must have ended; the setting where left out.
            dry_run: Remove nothing, and return what would go.
        """
        wanted = self._retention_days if days is None else days
        found: list[Pruned] = []
        effects = 0
        if wanted or days is not None:
            found, _ = await self._prune_projects(wanted * DAY_SECONDS, dry_run=dry_run)
            effects = await self._prune_effects(wanted * DAY_SECONDS, dry_run=dry_run)
        count, size = 0, 0
        if self._environment_days:
            unused = self._environment_days * DAY_SECONDS
            count, size = await self._provisioner.prune(unused_seconds=unused, dry_run=dry_run)
        return UpkeepReport(
            projects=found,
            environments=count,
            environment_bytes=size,
            jobs=await self._prune_jobs(dry_run=dry_run),
            effects=effects,
            forks=await self._prune_forks(dry_run=dry_run),
        )

    async def prune_organisation(
        self, organisation_id: UUID, *, days: float | None = None, dry_run: bool = False, limit: int
    ) -> UpkeepReport:
        """Remove what is due of an organisation's projects and return what went. The rest is the service's.

        Args:
            organisation_id: Whose.
            days: How long ago a project must have ended; the setting where left out.
            dry_run: Remove nothing, and return what would go.
            limit: How many projects at most, those that ended first; the report says whether more are due.
        """
        wanted = self._retention_days if days is None else days
        if not wanted and days is None:
            return UpkeepReport()
        found, has_more = await self._prune_projects(
            wanted * DAY_SECONDS, dry_run=dry_run, organisation_id=organisation_id, most=limit
        )
        return UpkeepReport(projects=found, has_more=has_more)

    async def _prune_projects(
        self, seconds: float, *, dry_run: bool, organisation_id: UUID | None = None, most: int = MANY
    ) -> tuple[list[Pruned], bool]:
        """Return what went, and whether more is due than the most that was to be done."""
        found: list[Pruned] = []
        tried: set[UUID] = set()
        while True:
            async with transaction(self._database) as connection:
                limit = len(tried) + PROJECTS_AT_ONCE
                due = await retention.due(
                    connection, seconds=seconds, limit=limit, organisation_id=organisation_id
                )
            left = [project for project in due if project.id not in tried]
            if not left:
                return found, False
            for project in left:
                if len(tried) == most:
                    return found, True
                tried.add(project.id)
                try:
                    gone = await self._prune_project(project, seconds, dry_run=dry_run)
                except PhoenixError as error:
                    # One project's broken repository keeps none of the others.
                    log.warning("project_not_pruned", project_id=str(project.id), error=str(error))
                else:
                    found += [gone] if gone else []

    async def _prune_project(self, due: DueProject, seconds: float, *, dry_run: bool) -> Pruned | None:
        async with transaction(self._database) as connection:
            project = await projects.get(connection, due.id)
            if dry_run:
                found = await retention.held(connection, due.id)
            else:
                found = await retention.retire(connection, due.id, seconds=seconds)
            if not found:
                return None
            stored = await retention.inner_bytes(connection, found)
        on_disk = await self._workspace_of(project).prune(dry_run=dry_run)
        if not dry_run:
            await self._forget(found)
            async with transaction(self._database) as connection:
                await retention.pruned(connection, due.id, freed_bytes=stored + on_disk)
            log.info("project_pruned", project_id=str(due.id), bytes=stored + on_disk)
        return Pruned(
            project_id=due.id,
            title=due.title,
            finished_at=due.finished_at,
            database_bytes=stored,
            disk_bytes=on_disk,
        )

    async def _forget(self, found: Sequence[Held]) -> None:
        """Delete the checkpoints and journals of runs, a little at a time."""
        await self._forget_threads({run.thread_id for run in found})
        while True:
            async with transaction(self._database) as connection:
                count = await retention.delete_by_run(connection, [run.id for run in found])
            if not count:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _forget_threads(self, thread_ids: Collection[UUID]) -> None:
        for thread_id in thread_ids:
            await self._checkpointer.adelete_thread(str(thread_id))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _prune_forks(self, *, dry_run: bool) -> int:
        """Remove what was copied for forks whose process ended half-way; nothing else knows of it."""
        async with transaction(self._database) as connection:
            found = await forks.abandoned(connection, seconds=forks.ABANDONED_SECONDS)
        for fork_id, thread_ids in () if dry_run else found.items():
            await self._forget_threads(thread_ids)
            if self._repositories is not None:
                await self._repositories.discard(fork_id)
            async with transaction(self._database) as connection:
                await forks.end(connection, fork_id)
            log.info("abandoned_fork_removed", project_id=str(fork_id))
        return len(found)

    async def _prune_jobs(self, *, dry_run: bool) -> int:
        find = partial(retention.ended_jobs, seconds=JOB_SECONDS)
        return await self._in_batches(find, retention.delete_jobs, dry_run=dry_run)

    async def _prune_effects(self, seconds: float, *, dry_run: bool) -> int:
        find = partial(retention.ended_effects, seconds=seconds)
        return await self._in_batches(find, retention.delete_effects, dry_run=dry_run)

    async def _in_batches(
        self,
        find: Callable[..., Awaitable[list[T]]],
        remove: Callable[[AsyncConnection, Sequence[T]], Awaitable[None]],
        *,
        dry_run: bool,
    ) -> int:
        count = 0
        while True:
            async with transaction(self._database) as connection:
                ids = await find(connection, limit=MANY if dry_run else retention.BATCH)
                if not dry_run:
                    await remove(connection, ids)
            count += len(ids)
            if dry_run or not ids:
                return count
            await asyncio.sleep(PAUSE_SECONDS)

    async def delete(self, project_id: UUID) -> None:
        """Delete a project with all that belongs to it, but for branches published elsewhere.

        Raises:
            NotFound: there is no such project.
            DeleteRefused: it is being worked on.
        """
        async with self._admission.transaction() as change:
            connection = change.connection
            project = await projects.get(connection, project_id)
            locked = await runs.lock_project(connection, project_id)
            if any(one.run.status in ("pending", "running") for one in locked):
                raise DeleteRefused(
                    f"Project {str(project_id)[:8]} is being worked on.",
                    hint="Cancel it, or wait until it has ended.",
                )
            await cancel_runs(change, self._queue, [one for one in locked if one.run.status not in FINISHED])
            found = [Held(one.run.id, one.run.thread_id) for one in locked]
            for job_id in await jobs.live(connection, [one.thread_id for one in found]):
                await self._queue.abort(connection, job_id)
            # From here on it cannot be resumed: a delete that was cut short is repeated.
            await retention.retire_now(connection, project_id)
        await self._forget(found)
        await self._workspace_of(project).destroy()
        async with transaction(self._database) as connection:
            await retention.delete_project(connection, project_id)


async def tidy(database: AsyncEngine) -> None:
    """Chain audit rows that are not yet; forget old answers kept for repeats, and old deliveries."""
    chained = 1
    while chained:
        async with transaction(database) as connection:
            chained = await audit.chain(connection)
    async with transaction(database) as connection:
        await idempotency.forget(connection)
    gone = 1
    while gone:
        async with transaction(database) as connection:
            gone = await deliveries.forget(connection)
