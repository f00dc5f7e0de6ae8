"""How a run's row changes: taken, waiting, woken, ended. Each function is one transaction.

Every write of a worker first checks that the run's attempt is still its own, with the row locked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.approval import Decision
from phoenix.domain.run import FINISHED, Project, Run, RunError
from phoenix.engine.policy import POLICY, decision_of_policy
from phoenix.engine.queue import RunQueue
from phoenix.errors import RunSuperseded
from phoenix.storage import approvals, events, projects, runs
from phoenix.storage.database import transaction
from phoenix.storage.runs import LockedRun, PendingInterrupt

WOKEN = True
"""What a `wait` is resumed with: it says nothing, rows do."""

Answers = Mapping[str, "Decision | bool"]
"""By interrupt id: a decision, or WOKEN for a wait."""


@dataclass(frozen=True)
class Taken:
    """A run that this worker has taken."""

    run: Run
    project: Project
    input: Any
    was_waiting: bool
    """It stopped by itself; otherwise it is new, or its last worker was interrupted."""


class Lifecycle:
    """Changes runs' rows. `worker` is the advisory lock that this process holds while it lives."""

    def __init__(self, database: AsyncEngine, queue: RunQueue, worker: int) -> None:
        self._database = database
        self._queue = queue
        self._worker = worker

    async def take(self, run_id: UUID) -> Taken | None:
        """Take a run for this worker; None when there is nothing to do on it."""
        async with transaction(self._database) as connection:
            locked = await runs.lock(connection, run_id)
            was = locked.run.status
            if was in FINISHED or (was == "waiting" and not locked.wake):
                return None
            run = await runs.begin(connection, locked, worker=self._worker)
            project = await projects.get(connection, run.project_id)
            kind = "run_resumed" if locked.run.started_at else "run_started"
            data = {"key": run.key, "flow": run.flow, "attempt": run.attempt, "was": was}
            await events.append(connection, run.project_id, kind, data, run_id=run.id)
        return Taken(run, project, locked.input.get("value"), was == "waiting")

    async def answers(self, run: Run, interrupts: Sequence[PendingInterrupt], *, woken: bool) -> Answers:
        """Return what pending interrupts can be resumed with now."""
        async with transaction(self._database) as connection:
            return await _answers(connection, run, interrupts, woken=woken)

    async def pause(self, run: Run, project: Project, interrupts: Sequence[PendingInterrupt]) -> Answers:
        """Let a run wait, its approvals opened; or return the answers with which it goes on at once.

        Raises:
            RunSuperseded: another attempt has taken over.
        """
        async with transaction(self._database) as connection:
            locked = await _own(connection, run)
            happened = await self._open_approvals(connection, run, project, interrupts)
            answers = await _answers(connection, run, interrupts, woken=locked.wake)
            if answers:
                await runs.go_on(connection, run.id)
            else:
                await runs.wait(connection, run.id, interrupts)
                names = [i.request.name for i in interrupts]
                happened.append(("run_waiting", {"key": run.key, "for": names}))
            for kind, data in happened:
                await events.append(connection, run.project_id, kind, data, run_id=run.id)
        return answers

    async def _open_approvals(
        self,
        connection: AsyncConnection,
        run: Run,
        project: Project,
        interrupts: Sequence[PendingInterrupt],
    ) -> list[tuple[str, dict[str, Any]]]:
        happened: list[tuple[str, dict[str, Any]]] = []
        for pending in interrupts:
            asked = pending.request
            if asked.kind == "wait":
                continue
            opened = await approvals.request(connection, run.project_id, run.id, pending.id, asked)
            if opened is None:
                continue
            about = {"approval_id": str(opened.id), "kind": asked.kind, "name": asked.name, "key": run.key}
            decision = decision_of_policy(project.approvals, asked)
            happened.append(("approval_requested", about | {"policy": decision is not None}))
            if decision is not None:
                await approvals.decide(connection, opened.id, decision, by=POLICY, digest=asked.value_digest)
                happened.append(("approval_decided", about | {"verdict": decision.verdict, "by": POLICY}))
        return happened

    async def finish(
        self,
        run: Run,
        *,
        output: dict[str, Any] | None = None,
        error: RunError | None = None,
    ) -> None:
        """End a run: failed with an error, else with success; its parent is woken.

        Raises:
            RunSuperseded: another attempt has taken over.
        """
        async with transaction(self._database) as connection:
            locked = await _own(connection, run)
            status = "success" if error is None else "failed"
            await end(connection, self._queue, locked, status, output=output, error=error)

    async def hand_back(self, run: Run) -> None:
        """Give a run that this worker stops in the middle to any other.

        Raises:
            RunSuperseded: another attempt has taken over.
        """
        async with transaction(self._database) as connection:
            locked = await _own(connection, run)
            await runs.hand_back(connection, run.id)
            await self._queue.put(connection, run.id, flow=run.flow, priority=locked.priority)
            data = {"key": run.key}
            await events.append(connection, run.project_id, "run_handed_back", data, run_id=run.id)


async def _own(connection: AsyncConnection, run: Run) -> LockedRun:
    locked = await runs.lock(connection, run.id)
    if locked.run.attempt != run.attempt or locked.run.status != "running":
        raise RunSuperseded(
            f"Run {run.id} is at attempt {locked.run.attempt} ({locked.run.status}), this was {run.attempt}."
        )
    return locked


async def _answers(
    connection: AsyncConnection, run: Run, interrupts: Sequence[PendingInterrupt], *, woken: bool
) -> Answers:
    asked = [i.id for i in interrupts if i.request.kind != "wait"]
    found: dict[str, Decision | bool] = dict(await approvals.decided(connection, run.id, asked))
    if woken:
        found |= {i.id: WOKEN for i in interrupts if i.request.kind == "wait"}
    return found


async def end(
    connection: AsyncConnection,
    queue: RunQueue,
    locked: LockedRun,
    status: str,
    *,
    output: dict[str, Any] | None = None,
    error: RunError | None = None,
) -> None:
    """End a locked run and wake its parent, in the caller's transaction."""
    run = locked.run
    await runs.finish(connection, run.id, status, output=output, error=error)
    if run.parent_id is not None:
        await wake_parent(connection, queue, run.parent_id)
    data: dict[str, Any] = {"key": run.key, "flow": run.flow, "status": status}
    if error is not None:
        data["error"] = error.model_dump(mode="json")
    await events.append(connection, run.project_id, "run_finished", data, run_id=run.id)


async def wake_parent(connection: AsyncConnection, queue: RunQueue, parent_id: UUID) -> None:
    """Tell a parent that a child ended: it is enqueued once, or sees the flag when it stops."""
    locked = await runs.lock(connection, parent_id)
    if locked.run.status in FINISHED or locked.wake:
        return
    await runs.set_wake(connection, parent_id)
    if locked.run.status == "waiting" and locked.waits_for("wait"):
        await queue.put(connection, parent_id, flow=locked.run.flow, priority=locked.priority)
