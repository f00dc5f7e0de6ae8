"""The use cases of Phoenix over rows, queue and flows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from phoenix.domain.approval import Approval, Decision
from phoenix.domain.run import Project, Run
from phoenix.engine.launch import Launch, Overview
from phoenix.ports import Artifacts, ChildRuns, EventLog, Events, Ports

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from procrastinate import App
    from sqlalchemy.ext.asyncio import AsyncEngine


@dataclass(frozen=True)
class Services:
    """What the engine itself contributes to a run's ports."""

    artifacts: Artifacts
    events: Events
    children: ChildRuns


PortsFor = Callable[[Run, Project, Services], Ports]


class Engine:
    """Starts projects, advances their runs, and takes decisions.

    Args:
        database: Where rows live (see `phoenix.storage.database.connect`).
        queue: A Procrastinate app of its own, on the same database; opened by the caller.
        checkpointer: LangGraph's saver.
        flows: Pipelines by name.
        ports_for: Makes the ports of a run.
        log: The event log that readers follow.
        concurrency: Runs that this process works on at once.
    """

    def __init__(
        self,
        *,
        database: AsyncEngine,
        queue: App,
        checkpointer: BaseCheckpointSaver[Any],
        flows: Mapping[str, Any],
        ports_for: PortsFor,
        log: EventLog,
        concurrency: int = 8,
    ) -> None:
        self.log = log
        raise NotImplementedError

    async def launch(self, launch: Launch) -> Project:
        """Start a project: its row, run, event and job in one transaction.

        Raises:
            RequirementInvalid, BudgetInvalid: the launch cannot be used.
            NotFound: there is no flow of that name.
        """
        raise NotImplementedError

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
            InputError: the decision does not fit the request.
        """
        raise NotImplementedError

    async def resume(self, project_id: UUID) -> None:
        """Put a project that stands still back to work; a failed one is tried again.

        Raises:
            NotFound: there is no such project.
            ResumeRefused: it is finished or cancelled.
        """
        raise NotImplementedError

    async def cancel(self, project_id: UUID) -> None:
        """Cancel all unfinished runs of a project. Idempotent."""
        raise NotImplementedError

    async def projects(self, limit: int = 50) -> list[Overview]:
        """Return the latest projects, newest first, without children and artifacts."""
        raise NotImplementedError

    async def find(self, prefix: str) -> Project:
        """Return the one project whose id starts so.

        Raises:
            NotFound: there is none, or several.
        """
        raise NotImplementedError

    async def overview(self, project_id: UUID) -> Overview:
        """Return a project at a glance."""
        raise NotImplementedError

    async def run(self, run_id: UUID) -> Run:
        """Return a run."""
        raise NotImplementedError

    async def work(self, *, until: Callable[[], Awaitable[object]] | None = None) -> None:
        """Work on runs until `until()` returns, or for ever; then hand back what is running."""
        raise NotImplementedError

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Work on runs beside the body; hand back what is running at its end."""
        raise NotImplementedError
        yield
