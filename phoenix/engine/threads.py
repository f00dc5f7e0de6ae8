"""A thread's further runs, and what becomes of an unfinished one when a new one comes (double texting)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from phoenix.domain.frozen import Frozen
from phoenix.domain.run import Multitask, Run
from phoenix.engine.admission import Admission, Change
from phoenix.engine.queue import RunQueue
from phoenix.engine.steer import cancel_runs, check_kept
from phoenix.errors import ThreadBusy
from phoenix.storage import events, projects, runs, threads
from phoenix.storage.runs import LockedRun

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


class Start(Frozen):
    """A run to start on a thread that exists. `input` is JSON for the flow."""

    flow: str
    input: Any
    multitask: Multitask = "enqueue"
    metadata: Mapping[str, Any] = {}
    queue: str = ""
    """Empty takes that of the flow."""


class Threads:
    """Starts runs on threads.

    Args:
        admission: Gives places.
        queue: What stops a run that is being worked on.
        checkpointer: What a rolled back run's checkpoints are removed from.
    """

    def __init__(self, admission: Admission, queue: RunQueue, checkpointer: BaseCheckpointSaver[Any]) -> None:
        self._admission = admission
        self._queue = queue
        self._checkpointer = checkpointer

    async def start(self, thread_id: UUID, start: Start) -> Run:
        """Start a run on a thread; see `Engine.start`."""
        base = await self._make_room(thread_id, start.multitask)
        async with self._admission.transaction() as change:
            connection = change.connection
            # The thread's row, held first, makes starts on it come one after the other.
            thread = await threads.lock(connection, thread_id)
            present = await runs.of_thread(connection, thread_id)
            self._refuse(present, start.multitask)
            await check_kept(connection, thread.project_id)
            project = await projects.get(connection, thread.project_id)
            run = Run(
                id=uuid4(),
                project_id=project.id,
                organisation_id=project.organisation_id,
                thread_id=thread_id,
                flow=start.flow,
                queue=start.queue,
                status="pending",
                multitask=start.multitask,
                metadata=dict(start.metadata),
                base_checkpoint=base,
                paused=project.paused_at is not None,
                behind=bool(present),
                created_at=datetime.now(UTC),
            )
            await runs.add(connection, run, flow_input={"value": start.input}, priority=project.priority)
            await change.due(run)
            data = {"key": "", "flow": run.flow, "behind": run.behind}
            await events.append(connection, project.id, "run_enqueued", data, run_id=run.id)
        return run

    @staticmethod
    def _refuse(present: list[LockedRun], multitask: Multitask) -> None:
        """Refuse a new run beside unfinished ones.

        Raises:
            ThreadBusy: it is not to be enqueued, or would come after an open question.
        """
        if not present:
            return
        first = present[0]
        if multitask == "reject":
            raise ThreadBusy(
                f"Thread {first.run.thread_id} has run {first.run.id}, which is {first.run.status}.",
                hint="Wait for it, or start with enqueue, interrupt or rollback.",
            )
        asked = [i.request.name for i in first.interrupts if i.request.kind != "wait"]
        if first.run.status == "waiting" and asked:
            raise ThreadBusy(
                f"Thread {first.run.thread_id} waits for a person to decide: {', '.join(asked)}.",
                hint="Decide that first; or start with interrupt or rollback, which drop the question.",
            )

    async def _make_room(self, thread_id: UUID, multitask: Multitask) -> str | None:
        """Interrupt or roll back what is unfinished; return where the thread stood before what was undone."""
        if multitask not in ("interrupt", "rollback"):
            return None
        async with self._admission.transaction() as change:
            present = await runs.of_thread(change.connection, thread_id)
            await self._cancel(change, present)
        if multitask == "interrupt" or not present:
            return None
        first = next((locked.run for locked in present if locked.run.started_at is not None), None)
        if first is not None:
            await self._undo(first)
        async with self._admission.transaction() as change:
            for locked in present:
                await runs.remove(change.connection, locked.run.id)
        return None if first is None else first.base_checkpoint

    async def _cancel(self, change: Change, present: list[LockedRun]) -> None:
        """Cancel a thread's runs and their children, those behind first, so that none of them comes up."""
        connection = change.connection
        below = [locked for run in present for locked in await runs.open_descendants(connection, run.run.id)]
        await cancel_runs(change, self._queue, [*below, *reversed(present)])

    async def _undo(self, run: Run) -> None:
        """Remove a run's checkpoints."""
        if run.base_checkpoint is None:
            await self._checkpointer.adelete_thread(str(run.thread_id))
            return
        try:
            await self._checkpointer.adelete_for_runs([str(run.id)])
        except NotImplementedError:
            # They are left beside: the next run begins where this one began.
            return
