"""Use cases on a project that has begun: resume, pause, cancel. Each is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.run import FINISHED
from phoenix.domain.steering import Kept
from phoenix.engine.admission import Admission, Change
from phoenix.engine.budget import raise_budget
from phoenix.engine.lifecycle import end
from phoenix.engine.queue import RunQueue
from phoenix.engine.quotas import check_quotas
from phoenix.engine.work import Work
from phoenix.errors import Conflict, ResumeRefused
from phoenix.storage import artifacts, events, jobs, journal, projects, retention, runs
from phoenix.storage.runs import LockedRun


async def resume(
    admission: Admission,
    project_id: UUID,
    *,
    budget_usd: Decimal | None = None,
    work: Work | None = None,
) -> None:
    """Put a project that stands still back to work; see `Engine.resume`."""
    async with admission.transaction(work) as change:
        connection = change.connection
        project = await projects.get(connection, project_id)
        all_runs = await runs.lock_project(connection, project_id)
        root = own_run(all_runs).run
        if root.status in ("success", "cancelled"):
            how = "finished" if root.status == "success" else "cancelled"
            raise ResumeRefused(
                f"Project {str(project.id)[:8]} is {how}: there is nothing to resume.",
                hint="Start a new one with `phoenix new`.",
            )
        if root.status == "failed":
            await check_kept(connection, project_id)
            await check_quotas(connection, root.organisation_id)
        retried = [locked for locked in all_runs if root.status == "failed" and locked.run.status == "failed"]
        retried = [locked for locked in retried if locked.run.id == root.id or locked.run.parent_id]
        for locked in retried:
            await runs.hand_back(connection, locked.run.id)
            await journal.forget_failed(connection, locked.run)
            await runs.forgive(connection, locked.run.id)
        if project.paused_at is not None:
            await projects.set_paused(connection, project_id, None)
            await runs.set_paused(connection, project_id, paused=False)
        for locked in retried if project.paused_at is None else [*retried, *all_runs]:
            if locked in retried or locked.run.status not in FINISHED:
                await _due(change, locked, is_retried=locked in retried)
        if project.paused_at is not None:
            await events.append(connection, project_id, "project_unpaused", {}, run_id=root.id)
        for locked in retried:
            data = {"key": locked.run.key}
            await events.append(connection, project_id, "run_retried", data, run_id=locked.run.id)
        if budget_usd is not None:
            # Last: a follower takes a failed project's next event for its end, but for the retry.
            await raise_budget(connection, project, budget_usd, root=root.id)


async def check_kept(connection: AsyncConnection, project_id: UUID) -> None:
    """Check that a project has its checkpoints, and will have them until the transaction ends.

    Raises:
        ResumeRefused: it ended so long ago that they are gone.
    """
    if gone := await retention.retired_at(connection, project_id):
        raise ResumeRefused(
            f"The time of project {str(project_id)[:8]} was over on {gone:%Y-%m-%d}: "
            "its checkpoints are gone.",
            hint="Start a new one; PHOENIX_RETENTION_DAYS is how long they stay.",
        )


async def _due(change: Change, locked: LockedRun, *, is_retried: bool) -> None:
    """Enqueue a run that is due and has no job: a held one would wait for the next sweep."""
    due = locked.run.status == "pending" or (locked.run.status == "waiting" and locked.wake)
    if is_retried or (due and not locked.admitted):
        await change.due(locked.run)


def own_run(all_runs: list[LockedRun]) -> LockedRun:
    """Return the run that speaks for a project: of its own thread the latest that is not behind another."""
    own = [locked for locked in all_runs if locked.run.parent_id is None and not locked.run.behind]
    return own[0]


async def pause(admission: Admission, project_id: UUID, reason: str, *, work: Work | None = None) -> None:
    """Pause a project: what runs stops at its next checkpoint, and nothing else is taken. Idempotent.

    Raises:
        NotFound: there is no such project.
        Conflict: it is over.
    """
    async with admission.transaction(work) as change:
        connection = change.connection
        project = await projects.get(connection, project_id)
        root = own_run(await runs.lock_project(connection, project_id)).run
        if root.status in FINISHED:
            raise Conflict(
                f"Project {str(project.id)[:8]} is over ({root.status}): there is nothing to pause."
            )
        await runs.set_paused(connection, project_id, paused=True)
        await projects.set_paused(connection, project_id, reason)
        if project.paused_at is None:
            await events.append(connection, project_id, "project_paused", {"reason": reason}, run_id=root.id)


async def cancel(
    admission: Admission, queue: RunQueue, project_id: UUID, *, work: Work | None = None
) -> list[Kept]:
    """Cancel all unfinished runs of a project, children too, and return what is kept of it. Idempotent.

    Raises:
        NotFound: there is no such project.
    """
    async with admission.transaction(work) as change:
        await projects.get(change.connection, project_id)
        # Those behind others first: an ended run lets the next of its thread come.
        found = await runs.lock_project(change.connection, project_id)
        open_runs = [locked for locked in found if locked.run.status not in FINISHED]
        kept = await kept_of(change.connection, project_id, found)
        if open_runs:
            documents = sorted(await artifacts.latest(change.connection, project_id))
            data = {"kept": [one.model_dump() for one in kept], "documents": documents}
            root = own_run(found).run.id
            await events.append(change.connection, project_id, "project_cancelled", data, run_id=root)
        await cancel_runs(change, queue, sorted(open_runs, key=lambda locked: not locked.run.behind))
    return kept


async def kept_of(connection: AsyncConnection, project_id: UUID, all_runs: Sequence[LockedRun]) -> list[Kept]:
    """Return the lasting commits of a project: its contract, built tasks, last build and delivery."""
    documents = await artifacts.latest(connection, project_id)
    found: list[Kept] = []
    for kind in ("contract", "build", "delivery"):
        body = documents.get(kind) or {}
        if body.get("commit"):
            found.append(Kept(what=kind, commit=body["commit"], branch=body.get("branch") or ""))
    for run in sorted((locked.run for locked in all_runs), key=lambda run: (run.created_at, run.key)):
        commit = (run.output or {}).get("commit")
        if run.flow == "task" and run.status == "success" and commit:
            found.append(Kept(what=run.key.rpartition("/")[2], commit=commit))
    return found


async def cancel_runs(change: Change, queue: RunQueue, open_runs: list[LockedRun]) -> None:
    """Cancel locked runs; whoever works on them is stopped, and can write no more."""
    connection = change.connection
    for locked in open_runs:
        await runs.supersede(connection, locked.run.id)
    for locked in open_runs:
        await end(change, locked, "cancelled")
    threads = [locked.run.thread_id for locked in open_runs if not locked.run.behind]
    for job_id in await jobs.live(connection, threads):
        await queue.abort(connection, job_id)
