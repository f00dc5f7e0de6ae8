"""The queue of runs that are due, in the transaction of whoever makes them due."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

from procrastinate import App, PsycopgConnector
from procrastinate.jobs import DeleteJobCondition
from procrastinate.worker import Worker
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.storage.database import raw

TASK = "advance"
SHARED = "default"
LIBRARY_HEARTBEAT_SECONDS = 86_400.0
"""The library's own heartbeat dies with the first lost connection and nobody notices: ours beats instead."""


def open_queue(conninfo: str, *, connections: int = 4) -> App:
    """Return the queue's app on a database as libpq reads it; use it within `async with app.open_async()`."""
    return App(connector=PsycopgConnector(conninfo=conninfo, min_size=1, max_size=connections))


def queue_of(flow: str) -> str:
    """Return the queue of a flow's runs: one's own FILE:NAME has one, taken only where it is loaded."""
    # A queue's name becomes a notification channel, which holds 63 bytes.
    return f"flow-{hashlib.sha256(flow.encode()).hexdigest()[:16]}" if ":" in flow else SHARED


class RunQueue:
    """Jobs that advance a run. A run's jobs exclude each other, and a spare one does no harm."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def put(self, connection: AsyncConnection, run_id: UUID, *, flow: str, priority: int = 0) -> None:
        """Enqueue a run when the caller's transaction commits."""
        job = self._app.configure_task(
            TASK,
            lock=str(run_id),
            queue=queue_of(flow),
            priority=priority,
            connection=await raw(connection),
        )
        await job.defer_async(run_id=str(run_id))

    async def abort(self, connection: AsyncConnection, job_id: int) -> None:
        """Take a waiting job away, or ask the worker that does it to stop."""
        await self._app.job_manager.cancel_job_by_id_async(
            job_id, abort=True, connection=await raw(connection)
        )

    async def beat(self, worker_id: int) -> None:
        """Say that a worker lives."""
        await self._app.job_manager.update_heartbeat(worker_id)

    def worker(
        self,
        advance: Callable[[UUID], Awaitable[None]],
        *,
        flows: Iterable[str],
        concurrency: int,
        stale_seconds: float,
    ) -> Worker:
        """Return a worker that advances runs of these flows; when stopped, it cancels what it advances."""
        if TASK not in self._app.tasks:

            @self._app.task(name=TASK)
            async def run_job(run_id: str) -> None:
                await advance(UUID(run_id))

        return Worker(
            self._app,
            queues=sorted({SHARED, *map(queue_of, flows)}),
            concurrency=concurrency,
            fetch_job_polling_interval=1.0,
            abort_job_polling_interval=1.0,
            shutdown_graceful_timeout=0,
            # The run's row says how it went; a job says only that it is due.
            delete_jobs=DeleteJobCondition.ALWAYS,
            install_signal_handlers=False,
            update_heartbeat_interval=LIBRARY_HEARTBEAT_SECONDS,
            stalled_worker_timeout=stale_seconds,
        )
