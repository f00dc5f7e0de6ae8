"""The use cases of Phoenix over rows, queue and flows."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from phoenix import __version__
from phoenix.domain.approval import Approval, Decision
from phoenix.domain.identity import Principal
from phoenix.domain.permissions import RuleSet
from phoenix.domain.run import FINISHED, Project, Run
from phoenix.domain.steering import Kept, Message
from phoenix.domain.worker import Standing, Worker
from phoenix.engine import steer, steering
from phoenix.engine.admission import Admission
from phoenix.engine.advance import Advance
from phoenix.engine.children import RunChildren
from phoenix.engine.deadlines import Deadlines
from phoenix.engine.decisions import Decisions
from phoenix.engine.forking import Forks
from phoenix.engine.gates import ProjectGates
from phoenix.engine.heartbeat import Heartbeat
from phoenix.engine.history import History
from phoenix.engine.launch import Launch, Overview
from phoenix.engine.launching import Behalf, Launching
from phoenix.engine.lifecycle import Lifecycle, Taken
from phoenix.engine.outbox import Dispatcher, Performer, RunOutbox
from phoenix.engine.pauses import Pauses
from phoenix.engine.permissions import Rules, RunPermissions
from phoenix.engine.policy import check_approvals
from phoenix.engine.programs import Programs
from phoenix.engine.queue import SHARED, RunQueue, queue_of
from phoenix.engine.steering import RunSteering
from phoenix.engine.sweep import Sweep
from phoenix.engine.threads import Start, Threads
from phoenix.engine.work import Work
from phoenix.engine.worker import RunWorker, WorkerOptions, new_worker_key
from phoenix.ports import (
    Artifacts,
    Budgets,
    CallJournal,
    ChildRuns,
    EventLog,
    Events,
    Gates,
    Outbox,
    Permissions,
    Ports,
    Repositories,
    Steering,
    UsageLog,
)
from phoenix.storage import approvals, artifacts, projects, runs, usage, workers
from phoenix.storage.artifacts import ArtifactRows
from phoenix.storage.budgets import Holds, RunBudgets
from phoenix.storage.database import conninfo_of, transaction
from phoenix.storage.direct import Direct
from phoenix.storage.event_batch import EventBatches, RunEvents
from phoenix.storage.journal import JournalRows
from phoenix.storage.own_runs import OwnRuns
from phoenix.storage.settling import Settlements
from phoenix.storage.tidiness import Tidiness
from phoenix.storage.transitions import Launched, Transitions
from phoenix.storage.usage import UsageRows
from phoenix.telemetry import tracing
from phoenix.tools.rule_files import default_rules

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from procrastinate import App
    from sqlalchemy.ext.asyncio import AsyncEngine

    from phoenix.flow.algebra import Flow


@dataclass(frozen=True)
class Services:
    """What the engine itself contributes to a run's ports."""

    artifacts: Artifacts
    events: Events
    children: ChildRuns
    usage: UsageLog
    budgets: Budgets
    journal: CallJournal
    outbox: Outbox
    gates: Gates
    permissions: Permissions
    steering: Steering


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
        performers: What does effects outside of Phoenix, by their kind.
        options: How this process works, when it does.
        repositories: Copies the code of a project that is forked; None where projects have none.
        rules: The service's rules on tools; those that come with Phoenix when left out.
        beside: What goes on beside this process's work on runs, such as telling webhooks.
    """

    def __init__(  # noqa: PLR0913 - what bootstrap wires, each named
        self,
        *,
        database: AsyncEngine,
        queue: App,
        checkpointer: BaseCheckpointSaver[Any],
        flows: Mapping[str, Flow[Any, Any]],
        ports_for: PortsFor,
        log: EventLog,
        performers: Mapping[str, Performer] | None = None,
        options: WorkerOptions | None = None,
        repositories: Repositories | None = None,
        rules: RuleSet | None = None,
        beside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        self.log = log
        self._beside = beside
        self.rules = Rules(database, rules or default_rules())
        self._database = database
        self._queue = RunQueue(queue)
        self._effects = Dispatcher(database, queue, performers or {})
        self._ports_for = ports_for
        self._events = EventBatches(conninfo_of(database))
        self._admission = Admission(database, self._queue)
        direct = Direct(queue)
        self._moves = Transitions(direct)
        self._launching = Launching(database, self._admission, self._moves)
        self._own_runs = OwnRuns(direct)
        self._holds = Holds(direct)
        self._settle = Settlements(direct)
        self._programs = Programs(flows, checkpointer, self._emit)
        self._threads = Threads(self._admission, self._queue, checkpointer)
        self.decisions = Decisions(database, self._admission)
        self.history = History(database, self._programs, checkpointer)
        self.forks = Forks(database, self._admission, checkpointer, self.history, repositories)
        key = new_worker_key()
        lifecycle = Lifecycle(database, self._admission, self._moves, worker=key, job_went=self._queue.went)
        options = options or WorkerOptions()
        self._pauses = Pauses(options.space)
        self._advance = Advance(lifecycle, self._programs, self._ports, self._pauses)
        queues = sorted(options.queues or {SHARED, *map(queue_of, flows)})
        self._worker = RunWorker(
            database,
            self._advance,
            heartbeat=partial(
                Heartbeat,
                conninfo_of(database),
                who(key, queues, options.concurrency),
            ),
            make=lambda: self._queue.worker(
                self._advance,
                queues=queues,
                concurrency=options.concurrency,
                drain_seconds=options.drain_seconds,
            ),
            sweep=Sweep(
                self._admission,
                self._queue,
                key=key,
                in_hand=self._advance.threads,
                effects=self._effects.sweep,
                untidy=Tidiness(direct).is_untidy,
                deadlines=Deadlines(self._admission).sweep,
                stale_seconds=options.stale_seconds,
            ),
            pauses=self._pauses,
            drain_seconds=options.drain_seconds,
        )

    @property
    def paused(self) -> str:
        """Why this process takes no runs now, for people; empty when it does."""
        return self._pauses.reason

    def _ports(self, taken: Taken) -> Ports:
        run = taken.run
        services = Services(
            artifacts=ArtifactRows(self._database, run.project_id),
            events=RunEvents(self._events, run.project_id, run.id),
            children=RunChildren(self._database, self._admission, run),
            usage=UsageRows(self._database, run.project_id, run.id),
            budgets=RunBudgets(self._holds, run, taken.project),
            journal=JournalRows(self._database, run, self._settle),
            outbox=RunOutbox(self._database, self._effects, run),
            gates=ProjectGates(self._database, run.project_id),
            permissions=RunPermissions(self._database, taken.project, run, self.rules.service),
            steering=RunSteering(self._database, run),
        )
        return self._ports_for(run, taken.project, services)

    def _emit(self, thread_id: UUID, kind: str, data: dict[str, Any]) -> asyncio.Future[None] | None:
        taken = self._advance.on_thread(thread_id)
        if taken is None:
            return None
        run = taken.run
        return self._events.append(run.project_id, kind, {"key": run.key} | data, run_id=run.id)

    @property
    def flows(self) -> Mapping[str, Flow[Any, Any]]:
        """The flows that are loaded, by name."""
        return self._programs.flows

    async def launch(
        self, launch: Launch, *, work: Work | None = None, behalf: Behalf | None = None
    ) -> Project:
        """Start a project: its row, run, event and job in one transaction.

        Args:
            launch: What is asked for.
            work: The request's transaction, which it joins, and in which the audit row is the caller's.
            behalf: For whom, where there is no such transaction: the audit row is in the launch's own.

        Raises:
            RequirementInvalid, BudgetInvalid, SettingInvalid: the launch cannot be used.
            QuotaReached: the organisation has as much as it may.
            InputError: its input does not fit the flow.
            NotFound: there is no flow of that name.
        """
        launched = self._launched(launch)
        await self._launching(launched, work=work, behalf=behalf)
        return launched.project

    def _launched(self, launch: Launch) -> Launched:
        """Return what a launch stores."""
        launch = launch.checked()
        check_approvals(launch.approvals)
        body = launch.flow_input()
        self._programs.start(launch.flow, body)
        now = datetime.now(UTC)
        project_id = uuid4()
        project = Project(
            id=project_id,
            created_at=now,
            traceparent=tracing.launches(project_id),
            **launch.model_dump(exclude={"flow", "input", "queue"}),
        )
        run = Run(
            id=uuid4(),
            project_id=project.id,
            organisation_id=project.organisation_id,
            flow=launch.flow,
            queue=launch.queue or queue_of(launch.flow),
            status="pending",
            created_at=now,
        )
        said = {"title": project.title, "flow": run.flow, "model": project.model}
        return Launched(project, run, {"value": body}, project.priority, said)

    async def decide(
        self,
        approval_id: UUID,
        decision: Decision,
        *,
        by: str,
        who: Principal | None = None,
        digest: str = "",
        work: Work | None = None,
    ) -> Approval:
        """Decide an open approval, and its run goes on; or add a vote, where several people are asked.

        Args:
            approval_id: Which.
            decision: What was decided.
            by: Who decided.
            who: The same, signed in: what their role and a gate's rule allow is checked. None on the
                service's own machine, where whoever reaches the database decides.
            digest: Of the value that was looked at; empty skips that comparison.
            work: The request that it is a part of.

        Raises:
            NotFound: there is no such approval.
            DecisionConflict: it is decided already, or what it was about has changed, or one has voted.
            DomainInvalid: the decision does not fit the request.
            Forbidden: the rule of the gate asks for somebody else. An audit row says so.
        """
        return await self.decisions.decide(approval_id, decision, by=by, who=who, digest=digest, work=work)

    async def resume(
        self,
        project_id: UUID,
        *,
        budget_usd: Decimal | None = None,
        by: str = "phoenix resume",
        work: Work | None = None,
    ) -> None:
        """Put a project that stands still back to work: a paused one goes on, a failed one is tried again.

        Quarantined runs are released. Where the project's own run failed, its failed children are tried
        again too. A project that waits for a person, or is being worked on, is left as it is.

        Args:
            project_id: Which.
            budget_usd: The project's budget from now on; runs in hand keep the one they began with. Where
                an approval of the budget is open, this decides it.
            by: Who resumes, outside of a request.
            work: The request that it is a part of.

        Raises:
            NotFound: there is no such project.
            Forbidden: an approval of the budget is open, and somebody else has to decide it.
            ResumeRefused: it is finished or cancelled, or failed so long ago that its state is gone.
            BudgetInvalid: the budget is not above what it was.
        """
        if budget_usd is not None and await self.decisions.extend(project_id, budget_usd, by=by, work=work):
            budget_usd = None
        await steer.resume(self._admission, project_id, budget_usd=budget_usd, work=work)
        if work is None:
            await self._worker.sweep()

    async def pause(self, project_id: UUID, *, reason: str = "", work: Work | None = None) -> None:
        """Pause a project: steps that run are finished, nothing more is taken, decisions are still accepted.

        `resume` lets it go on. Idempotent; the last reason stays.

        Raises:
            NotFound: there is no such project.
            Conflict: it is over.
        """
        await steer.pause(self._admission, project_id, reason, work=work)

    async def cancel(self, project_id: UUID, *, work: Work | None = None) -> list[Kept]:
        """Cancel all unfinished runs of a project, children too, and return what is kept. Idempotent.

        Raises:
            NotFound: there is no such project.
        """
        return await steer.cancel(self._admission, self._queue, project_id, work=work)

    async def message(
        self, project_id: UUID, text: str, *, task: str = "", by: str, work: Work | None = None
    ) -> Message:
        """Say something to the agents of a project, or to those of one task; see `steering.send`.

        Raises:
            NotFound, Conflict, PayloadInvalid: see `steering.send`.
        """
        return await steering.send(self._database, project_id, text, task=task, by=by, work=work)

    async def start(self, thread_id: UUID, start: Start) -> Run:
        """Start another run on a thread that exists.

        Beside an unfinished one it is refused (`reject`), comes after it (`enqueue`), or comes in its place:
        `interrupt` cancels that and goes on from what it left, `rollback` removes it and goes on from where
        the thread stood before.

        Raises:
            NotFound: there is no such thread, or flow.
            InputError: the input does not fit the flow.
            ThreadBusy: it is refused; with `enqueue` too, while the thread waits for a person.
        """
        self._programs.start(start.flow, start.input)
        queue = start.queue or queue_of(start.flow)
        return await self._threads.start(thread_id, start.model_copy(update={"queue": queue}))

    async def workers(self) -> list[Worker]:
        """Return the workers of this database, oldest first."""
        async with transaction(self._database) as connection:
            return await workers.all_of(connection)

    async def standing(self) -> Standing:
        """Return how work goes on.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        async with transaction(self._database) as connection:
            return await workers.standing(connection)

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

    async def complete(self, launch: Launch) -> Run:
        """Start a project, wait until its own run has ended, however long that takes, and return it.

        Raises:
            RequirementInvalid, BudgetInvalid, SettingInvalid, InputError, NotFound: as `launch` does.
        """
        launched = self._launched(launch)
        # Watched before it is there: it may end at once, and then nobody has to look before.
        async with self.log.watch(launched.project.id, kinds={"run_finished"}) as news:
            await self._launching(launched)
            while True:
                await news()
                run = await self._own_runs.of(launched.project.id)
                if run.status in FINISHED:
                    return run

    async def work(
        self, *, until: Callable[[], Awaitable[object]] | None = None, drain: bool = False
    ) -> None:
        """Work on runs until `until()` returns, or for ever; then hand back what is running."""
        async with self.worker(drain=drain):
            await (asyncio.Event().wait() if until is None else until())

    @asynccontextmanager
    async def worker(self, *, drain: bool = False) -> AsyncIterator[None]:
        """Work on runs beside the body; hand back what is running at its end.

        With `drain`, steps that run may first finish, within the time that the engine was given for it.
        """
        async with self._events.open(), self._beside(), self._worker.running(drain=drain):
            yield

    @property
    def own_worker(self) -> RunWorker:
        """The worker of this process, whether it works or not."""
        return self._worker


def who(key: int, queues: list[str], concurrency: int) -> dict[str, Any]:
    """Return what a worker says of itself."""
    return {
        "key": key,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": __version__,
        "queues": queues,
        "concurrency": concurrency,
    }
