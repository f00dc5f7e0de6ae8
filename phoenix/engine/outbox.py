"""Effects outside of Phoenix: their row first, then the effect, then the mark that it is done.

A process may end between any two of these; whoever goes on finds the row and does the effect again under
its key. So a performer must look whether its effect is there, or be harmless when repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import structlog
from procrastinate import App
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.run import Project, Run
from phoenix.errors import NotFound, RunSuperseded
from phoenix.ports import Effect
from phoenix.storage import events, outbox, projects, runs
from phoenix.storage.database import raw, transaction
from phoenix.storage.outbox import OutboxRow

log = structlog.get_logger(__name__)

TASK = "effect"
QUEUE = "default"
MAX_ATTEMPTS = 8
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 3600.0

Performer = Callable[[Project, Effect], Awaitable[dict[str, Any]]]
"""Does one kind of effect and returns its result; repeating it under the same key must change nothing."""


def wait_seconds(attempts: int) -> float:
    """Return the wait after so many attempts: doubled each time."""
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (attempts - 1))


class Dispatcher:
    """Does effects, for steps that wait for them and as jobs.

    Args:
        database: Where the rows are.
        app: The queue; the jobs of effects hold no run's lock, so a slow receiver delays no run.
        performers: What does an effect, by its kind.
    """

    def __init__(self, database: AsyncEngine, app: App, performers: Mapping[str, Performer]) -> None:
        self._database = database
        self._app = app
        self._performers = performers
        if TASK not in app.tasks:

            @app.task(name=TASK)
            async def effect_job(effect_id: str) -> None:
                await self.attempt(UUID(effect_id))

    async def put(
        self, connection: AsyncConnection, effect: Effect, *, project_id: UUID, run_id: UUID | None = None
    ) -> None:
        """Post an effect when the caller's transaction commits. Idempotent by its kind and key.

        Raises:
            EffectConflict: another effect was asked for under its key.
        """
        row = await outbox.add(connection, effect, project_id=project_id, run_id=run_id, posted=True)
        if row.status == "pending" and row.attempts == 0:
            await self._defer(connection, row.id)

    async def _defer(self, connection: AsyncConnection, row_id: UUID, *, after_seconds: float = 0) -> None:
        schedule: Any = {"schedule_in": {"seconds": int(after_seconds)}} if after_seconds else {}
        job = self._app.configure_task(
            TASK, lock=str(row_id), queue=QUEUE, connection=await raw(connection), **schedule
        )
        await job.defer_async(effect_id=str(row_id))

    async def attempt(self, row_id: UUID) -> None:
        """Do a posted effect, once; when that fails, plan the next attempt. Harmless when it is done."""
        async with transaction(self._database) as connection:
            row = await outbox.begin(connection, row_id)
        if row is None:
            return
        try:
            await self._do(row)
        except asyncio.CancelledError:
            async with transaction(self._database) as connection:
                await outbox.note_failure(connection, row.id, "The worker stopped.", wait_seconds=0)
                await self._defer(connection, row.id)
            raise
        except Exception as error:  # noqa: BLE001 the edge of a job: any failure is noted and tried again
            await self._put_off(row, error)

    async def perform(self, row: OutboxRow) -> dict[str, Any]:
        """Do an effect for a step that waits; what goes wrong is noted and is the step's failure."""
        try:
            return await self._do(row)
        except Exception as error:
            async with transaction(self._database) as connection:
                await outbox.note_failure(connection, row.id, str(error), wait_seconds=0)
            raise

    async def _do(self, row: OutboxRow) -> dict[str, Any]:
        effect = row.effect
        performer = self._performers.get(effect.kind)
        if performer is None:
            raise NotFound(f"This worker cannot do effects of the kind {effect.kind!r}.")
        async with transaction(self._database) as connection:
            project = await projects.get(connection, row.project_id)
        result = await performer(project, effect)
        async with transaction(self._database) as connection:
            return await outbox.finish(connection, row.id, result)

    async def _put_off(self, row: OutboxRow, error: Exception) -> None:
        last = row.attempts >= MAX_ATTEMPTS
        wait = 0.0 if last else wait_seconds(row.attempts)
        log.warning("effect_failed", kind=row.effect.kind, attempt=row.attempts, last=last, error=str(error))
        async with transaction(self._database) as connection:
            await outbox.note_failure(connection, row.id, str(error), wait_seconds=wait, last=last)
            if not last:
                await self._defer(connection, row.id, after_seconds=wait)
                return
            data = {"kind": row.effect.kind, "error": str(error)[:1000]}
            await events.append(connection, row.project_id, "effect_failed", data, run_id=row.run_id)

    async def sweep(self) -> list[UUID]:
        """Put posted effects back into the queue whose job was lost, and return them."""
        async with transaction(self._database) as connection:
            due = await outbox.idle(connection)
            for row_id in due:
                await self._defer(connection, row_id)
        return due


class RunOutbox:
    """The port `Outbox` of one attempt of a run."""

    def __init__(self, database: AsyncEngine, dispatcher: Dispatcher, run: Run) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._run = run

    async def perform(self, effect: Effect) -> dict[str, Any]:
        """Do an effect now, or return the result it had."""
        run = self._run
        async with transaction(self._database) as connection:
            await self._check(connection)
            row = await outbox.add(connection, effect, project_id=run.project_id, run_id=run.id)
            if row.status == "failed":
                await outbox.reopen(connection, row.id)
            begun = await outbox.begin(connection, row.id)
        return row.result or {} if begun is None else await self._dispatcher.perform(begun)

    async def post(self, effect: Effect) -> None:
        """Have an effect done soon."""
        async with transaction(self._database) as connection:
            await self._check(connection)
            await self._dispatcher.put(
                connection, effect, project_id=self._run.project_id, run_id=self._run.id
            )

    async def _check(self, connection: AsyncConnection) -> None:
        locked = await runs.lock(connection, self._run.id)
        if locked.run.attempt != self._run.attempt:
            raise RunSuperseded(f"Another attempt of run {self._run.id} does its effects.")
