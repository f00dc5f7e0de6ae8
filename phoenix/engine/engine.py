"""The use cases of Phoenix over rows, queue and flows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from phoenix.domain.approval import Approval, Decision
from phoenix.domain.run import FINISHED, Project, Run
from phoenix.engine.advance import Advance
from phoenix.engine.budget import raise_budget
from phoenix.engine.children import RunChildren
from phoenix.engine.launch import Launch, Overview
from phoenix.engine.lifecycle import Lifecycle, Taken, end
from phoenix.engine.policy import gates
from phoenix.engine.programs import Programs
from phoenix.engine.queue import RunQueue
from phoenix.engine.worker import STALE_SECONDS, RunWorker, new_worker_key
from phoenix.errors import DecisionConflict, ResumeRefused
from phoenix.flow import check_decision
from phoenix.ports import Artifacts, ChildRuns, EventLog, Events, Ports, UsageLog
from phoenix.storage import approvals, artifacts, events, jobs, projects, runs, usage
from phoenix.storage.artifacts import ArtifactRows
from phoenix.storage.database import transaction
from phoenix.storage.events import EventRows, RunEvents
from phoenix.storage.usage import UsageRows

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from procrastinate import App
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from phoenix.flow.algebra import Flow


@dataclass(frozen=True)
class Services:
    """What the engine itself contributes to a run's ports."""

    artifacts: Artifacts
    events: Events
    children: ChildRuns
    usage: UsageLog


PortsFor = Callable[[Run, Project, Services], Ports]


class Engine:
    """Starts projects, advances their runs, and takes decisions.

    Args:
        database: Where rows live (see `phoenix.storage.database.connect`).
        queue: A Procrastinate app of its own, on the same database; opened by the caller.
        checkpointer: LangGraph's saver.
        flows: Flows by name.
        ports_for: Makes the ports of a run.
        log: The event log that readers follow.
        concurrency: Runs that this process works on at once.
        stale_seconds: How long a worker may go without a heartbeat.
    """

    def __init__(
        self,
        *,
        database: AsyncEngine,
        queue: App,
        checkpointer: BaseCheckpointSaver[Any],
        flows: Mapping[str, Flow[Any, Any]],
        ports_for: PortsFor,
        log: EventLog,
        concurrency: int = 8,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self.log = log
        self._database = database
        self._queue = RunQueue(queue)
        self._ports_for = ports_for
        self._events = EventRows(database)
        self._programs = Programs(flows, checkpointer, self._emit)
        key = new_worker_key()
        self._advance = Advance(Lifecycle(database, self._queue, key), self._programs, self._ports)
        self._worker = RunWorker(
            database,
            self._queue,
            key=key,
            make=lambda: self._queue.worker(
                self._advance, flows=flows, concurrency=concurrency, stale_seconds=stale_seconds
            ),
            in_hand=self._advance.running.keys,
            stale_seconds=stale_seconds,
        )

    def _ports(self, taken: Taken) -> Ports:
        run = taken.run
        services = Services(
            artifacts=ArtifactRows(self._database, run.project_id),
            events=RunEvents(self._events, run.project_id, run.id),
            children=RunChildren(self._database, self._queue, run),
            usage=UsageRows(self._database, run.project_id, run.id),
        )
        return self._ports_for(run, taken.project, services)

    async def _emit(self, run_id: UUID, kind: str, **data: Any) -> None:
        taken = self._advance.running.get(run_id)
        if taken is not None:
            data = {"key": taken.run.key} | data
            await self._events.append(taken.project.id, kind, data, run_id=run_id)

    async def launch(self, launch: Launch) -> Project:
        """Start a project: its row, run, event and job in one transaction.

        Raises:
            RequirementInvalid, BudgetInvalid, SettingInvalid: the launch cannot be used.
            InputError: its input does not fit the flow.
            NotFound: there is no flow of that name.
        """
        launch = launch.checked()
        if launch.approvals not in ("ask", "auto"):
            gates(launch.approvals)
        body = launch.flow_input()
        self._programs.start(launch.flow, body)
        now = datetime.now(UTC)
        project = Project(
            id=uuid4(),
            created_at=now,
            **launch.model_dump(exclude={"flow", "input"}),
        )
        run = Run(id=uuid4(), project_id=project.id, flow=launch.flow, status="pending", created_at=now)
        async with transaction(self._database) as connection:
            await projects.add(connection, project)
            await runs.add(connection, run, flow_input={"value": body})
            await self._queue.put(connection, run.id, flow=run.flow)
            data = {"title": project.title, "flow": run.flow, "model": project.model}
            await events.append(connection, project.id, "project_created", data, run_id=run.id)
        return project

    async def decide(self, approval_id: UUID, decision: Decision, *, by: str, digest: str = "") -> Approval:
        """Decide an open approval; its run goes on.

        Args:
            approval_id: Which.
            decision: What was decided.
            by: Who decided.
            digest: Of the value that was looked at; empty skips that comparison.

        Raises:
            NotFound: there is no such approval.
            DecisionConflict: it is decided already, or what it was about has changed.
            DomainInvalid: the decision does not fit the request.
        """
        async with transaction(self._database) as connection:
            approval = await approvals.get(connection, approval_id)
        asked = approval.request
        if digest and digest != asked.value_digest:
            raise DecisionConflict(
                "What this approval is about has changed since it was looked at.",
                hint="Look at it again and decide then.",
            )
        check_decision(asked, decision)
        async with transaction(self._database) as connection:
            locked = await runs.lock(connection, approval.run_id)
            waits = any(
                i.id == approval.interrupt_id and i.request.value_digest == asked.value_digest
                for i in locked.interrupts
            )
            decided = await approvals.decide(
                connection, approval_id, decision, by=by, digest=asked.value_digest
            )
            if decided is None or locked.run.status in FINISHED or not waits:
                raise DecisionConflict(
                    "This approval is already decided, or its run has moved on.",
                    hint=f"`phoenix show {str(approval.project_id)[:8]}` shows what is open.",
                )
            await runs.set_wake(connection, approval.run_id)
            if locked.run.status == "waiting":
                await self._put(connection, locked)
            data = {
                "approval_id": str(approval_id),
                "kind": asked.kind,
                "name": asked.name,
                "key": locked.run.key,
                "verdict": decision.verdict,
                "by": by,
            }
            await events.append(
                connection, approval.project_id, "approval_decided", data, run_id=approval.run_id
            )
        return decided

    async def resume(self, project_id: UUID, *, budget_usd: Decimal | None = None) -> None:
        """Put a project that stands still back to work; a failed one is tried again.

        Where the project's own run failed, its failed children are tried again too. A project that waits for
        a person, or is being worked on, is left as it is.

        Args:
            project_id: Which.
            budget_usd: The project's budget from now on; runs in hand keep the one they began with.

        Raises:
            NotFound: there is no such project.
            ResumeRefused: it is finished or cancelled.
            BudgetInvalid: the budget is not above what it was.
        """
        async with transaction(self._database) as connection:
            project = await projects.get(connection, project_id)
            all_runs = await runs.lock_project(connection, project_id)
            root = next(locked.run for locked in all_runs if locked.run.parent_id is None)
            if root.status in ("success", "cancelled"):
                how = "finished" if root.status == "success" else "cancelled"
                raise ResumeRefused(
                    f"Project {str(project.id)[:8]} is {how}: there is nothing to resume.",
                    hint="Start a new one with `phoenix new`.",
                )
            for locked in all_runs:
                if root.status == "failed" and locked.run.status == "failed":
                    await runs.hand_back(connection, locked.run.id)
                    await self._put(connection, locked)
                    data = {"key": locked.run.key}
                    await events.append(connection, project_id, "run_retried", data, run_id=locked.run.id)
            if budget_usd is not None:
                # Last: a follower takes a failed project's next event for its end, but for the retry.
                await raise_budget(connection, project, budget_usd, root=root.id)
        await self._worker.sweep()

    async def _put(self, connection: AsyncConnection, locked: runs.LockedRun) -> None:
        run = locked.run
        await self._queue.put(connection, run.id, flow=run.flow, priority=locked.priority)

    async def cancel(self, project_id: UUID) -> None:
        """Cancel all unfinished runs of a project. Idempotent.

        Raises:
            NotFound: there is no such project.
        """
        async with transaction(self._database) as connection:
            await projects.get(connection, project_id)
            open_runs = [
                locked
                for locked in await runs.lock_project(connection, project_id)
                if locked.run.status not in FINISHED
            ]
            for locked in open_runs:
                await runs.supersede(connection, locked.run.id)
                await end(connection, self._queue, locked, "cancelled")
            for job_id in await jobs.live(connection, [locked.run.id for locked in open_runs]):
                await self._queue.abort(connection, job_id)

    async def projects(self, limit: int = 50) -> list[Overview]:
        """Return the latest projects, newest first, without children and artifacts."""
        async with transaction(self._database) as connection:
            found = await projects.latest(connection, limit)
            ids = [project.id for project in found]
            own = await runs.of_projects(connection, ids)
            used = await usage.totals(connection, ids)
            waiting = await approvals.open_of(connection, ids)
        return [
            Overview(
                project=project,
                run=own[project.id],
                usage=used[project.id],
                approvals=[a for a in waiting if a.project_id == project.id],
            )
            for project in found
        ]

    async def find(self, prefix: str) -> Project:
        """Return the one project whose id starts so.

        Raises:
            NotFound: there is none, or several.
        """
        async with transaction(self._database) as connection:
            return await projects.find(connection, prefix)

    async def overview(self, project_id: UUID) -> Overview:
        """Return a project at a glance.

        Raises:
            NotFound: there is no such project.
        """
        async with transaction(self._database) as connection:
            return Overview(
                project=await projects.get(connection, project_id),
                run=(await runs.of_projects(connection, [project_id]))[project_id],
                children=await runs.descendants(connection, project_id),
                approvals=await approvals.open_of(connection, [project_id]),
                usage=(await usage.totals(connection, [project_id]))[project_id],
                artifacts=await artifacts.latest(connection, project_id),
            )

    async def run(self, run_id: UUID) -> Run:
        """Return a run.

        Raises:
            NotFound: there is none of that id.
        """
        async with transaction(self._database) as connection:
            return await runs.get(connection, run_id)

    async def work(self, *, until: Callable[[], Awaitable[object]] | None = None) -> None:
        """Work on runs until `until()` returns, or for ever; then hand back what is running."""
        async with self.worker():
            await (asyncio.Event().wait() if until is None else until())

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Work on runs beside the body; hand back what is running at its end."""
        async with self._worker.running():
            yield
