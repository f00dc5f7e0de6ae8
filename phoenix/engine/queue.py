"""The queue of runs that are due, in the transaction of whoever makes them due."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import structlog
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import DeleteJobCondition, Job, Notification, Status
from procrastinate.manager import JobManager
from procrastinate.worker import Worker
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.storage.database import raw
from phoenix.storage.direct import make_pool
from phoenix.storage.places import Place
from phoenix.storage.sessions import application_name

log = structlog.get_logger(__name__)

TASK = "advance"
SHARED = "default"
PRUNE_SECONDS = 600.0
"""The library forgets its workers without a heartbeat after so long; its jobs are ours to judge before."""
LIBRARY_HEARTBEAT_SECONDS = 86_400.0
"""The library's own heartbeat dies with the first lost connection and nobody notices: ours beats instead."""
FINISH_SECONDS = 8.0
"""For so long a job's end is reported again where the database does not take it: less than stopping takes."""
FINISH_PAUSE_SECONDS = 0.1


def open_queue(conninfo: str, *, connections: int = 6) -> App:
    """Return the queue's app on a database as libpq reads it; use it within `async with app.open_async()`."""
    session = {"prepare_threshold": 0, "application_name": application_name()}
    app = App(
        connector=PsycopgConnector(
            pool_factory=make_pool, conninfo=conninfo, kwargs=session, min_size=1, max_size=connections
        )
    )
    app.job_manager = Jobs(app.connector)
    return app


DELETE = "DELETE FROM procrastinate_jobs WHERE id = %(job_id)s AND status IN ('todo', 'doing')"


class Jobs(JobManager):
    """The library's jobs, whose end is reported until it holds.

    The library reports it once. Where that fails alone, with its worker alive, nobody would take the job from
    it, and no other job of that thread could begin. A job that is gone when it is to be finished is no error:
    it went with the end of its run, which a worker that stopped meanwhile may not know, or with a sweep.
    """

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self.gone: set[int] = set()
        """Those that are known to be gone: nothing is asked for them."""
        self.has_news = False
        """A notification has come since the last fetch began."""

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Fetch the next job."""
        self.has_news = False
        return await super().fetch_job(queues, worker_id)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Finish a job, unless it is gone."""
        if job.id in self.gone:
            self.gone.discard(job.id)
            return
        give_up = time.monotonic() + FINISH_SECONDS
        while True:
            try:
                if delete_job:
                    await self.connector.execute_query_async(DELETE, job_id=job.id)
                else:
                    await super().finish_job(job, status, delete_job)
            except ConnectorException as error:
                if time.monotonic() >= give_up:
                    raise
                log.warning("job_not_finished", job=job.id, error=str(error.__cause__ or error).strip())
                await asyncio.sleep(FINISH_PAUSE_SECONDS)
            else:
                return


class AwakeWorker(Worker):
    """The library's worker, but that no notification is lost, and no log described that nobody reads.

    The library forgets a notification that comes while it fetches, and finds its job by polling.
    """

    async def _handle_notification(self, *, channel: str, notification: Notification) -> None:
        await super()._handle_notification(channel=channel, notification=notification)
        if isinstance(self.app.job_manager, Jobs):
            self.app.job_manager.has_news = True

    async def _fetch_and_process_jobs(self) -> None:
        manager = self.app.job_manager
        while True:
            await super()._fetch_and_process_jobs()  # type: ignore[no-untyped-call]
            if self._stop_event.is_set() or not (isinstance(manager, Jobs) and manager.has_news):
                return

    def _log_extra(self, action: str, *_: Any, **__: Any) -> Any:
        return {"action": action}


def queue_of(flow: str) -> str:
    """Return the queue of a flow's runs: one's own FILE:NAME has one, taken only where it is loaded."""
    # A queue's name becomes a notification channel, which holds 63 bytes.
    return f"flow-{hashlib.sha256(flow.encode()).hexdigest()[:16]}" if ":" in flow else SHARED


class RunQueue:
    """Jobs that advance a run. A run's jobs exclude each other, and a spare one does no harm."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def put(self, connection: AsyncConnection, place: Place) -> None:
        """Enqueue a run that has a place when the caller's transaction commits."""
        job = self._app.configure_task(
            TASK,
            lock=str(place.thread_id),
            queue=place.queue,
            priority=-place.tag,
            connection=await raw(connection),
        )
        await job.defer_async(run_id=str(place.run_id))

    def went(self, job_id: int) -> None:
        """Take note that a job of this process went with the end of its run."""
        if isinstance(self._app.job_manager, Jobs):
            self._app.job_manager.gone.add(job_id)

    async def abort(self, connection: AsyncConnection, job_id: int) -> None:
        """Take a waiting job away, or ask the worker that does it to stop."""
        await self._app.job_manager.cancel_job_by_id_async(
            job_id, abort=True, connection=await raw(connection)
        )

    def worker(
        self,
        advance: Callable[[UUID, UUID, int | None], Awaitable[None]],
        *,
        queues: Iterable[str],
        concurrency: int,
        drain_seconds: float,
    ) -> Worker:
        """Return a worker that advances runs of these queues.

        When stopped it takes nothing new, and cancels what it still advances after `drain_seconds`.
        """
        if TASK not in self._app.tasks:

            @self._app.task(name=TASK, pass_context=True)
            async def run_job(context: JobContext, run_id: str) -> None:
                await advance(UUID(run_id), UUID(context.job.lock or run_id), context.job.id)

        return AwakeWorker(
            self._app,
            queues=sorted(queues),
            concurrency=concurrency,
            fetch_job_polling_interval=1.0,
            abort_job_polling_interval=1.0,
            shutdown_graceful_timeout=drain_seconds,
            # The run's row says how it went; a job says only that it is due.
            delete_jobs=DeleteJobCondition.ALWAYS,
            install_signal_handlers=False,
            update_heartbeat_interval=LIBRARY_HEARTBEAT_SECONDS,
            stalled_worker_timeout=PRUNE_SECONDS,
        )
