"""The worker in this process, and the sweep that finds what dead workers left behind.

A worker's session holds an advisory lock under a random number, which the runs it takes carry. PostgreSQL
frees it the moment the process dies, so any other worker can tell at once; a machine that hangs or
vanishes is noticed by its heartbeat.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg
import structlog
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.engine.queue import RunQueue
from phoenix.errors import DatabaseUnavailable
from phoenix.storage import jobs, runs
from phoenix.storage.database import transaction

log = structlog.get_logger(__name__)

BEAT_SECONDS = 1.0
STALE_SECONDS = 15.0
"""A worker that has not beaten for so long is taken for dead."""

LOST = (DatabaseUnavailable, OperationalError, psycopg.OperationalError, ConnectorException, OSError)

STOP_SECONDS = 10.0
"""How long running steps may take to be handed back when the process stops."""
CANCELS = 5


def new_worker_key() -> int:
    """Return a random advisory lock for a worker."""
    return secrets.randbits(62)


class RunWorker:
    """Works on runs in this process.

    Args:
        database: Where runs are.
        queue: What is due.
        key: The advisory lock that says this worker lives.
        make: Makes the library's worker.
        in_hand: Returns the runs that this process is advancing.
        stale_seconds: How long a worker may go without a heartbeat.
    """

    def __init__(
        self,
        database: AsyncEngine,
        queue: RunQueue,
        *,
        key: int,
        make: Callable[[], Worker],
        in_hand: Callable[[], Collection[UUID]],
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._database = database
        self._queue = queue
        self._key = key
        self._make = make
        self._in_hand = in_hand
        self._stale_seconds = stale_seconds
        self._worker: Worker | None = None
        self._stopping = asyncio.Event()
        self._alive = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work beside the body; at its end hand back what is running."""
        self._stopping.clear()
        self._alive.clear()
        alive = asyncio.create_task(self._stay_alive(), name="worker liveness")
        work = asyncio.create_task(self._work(), name="worker")
        try:
            yield
        finally:
            self._stopping.set()
            self._alive.set()
            if self._worker is not None:
                self._worker.stop()  # type: ignore[no-untyped-call]
            await _ended(work, patience_seconds=STOP_SECONDS)
            await _ended(alive, patience_seconds=0)
            for task in (work, alive):
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    log.error("worker_broke", task=task.get_name(), exc_info=error)

    async def _work(self) -> None:
        """Run the library's worker; make a new one when it broke, as it does with its connections."""
        await self._alive.wait()
        while not self._stopping.is_set():
            self._worker = self._make()
            try:
                await self._worker.run()  # type: ignore[no-untyped-call]
            except LOST as error:
                log.warning("worker_lost_database", error=str(error).strip())
            except Exception as error:
                log.error("worker_broke", exc_info=error)
            await asyncio.sleep(0 if self._stopping.is_set() else BEAT_SECONDS)

    async def _stay_alive(self) -> None:
        while not self._stopping.is_set():
            try:
                async with self._database.connect() as plain:
                    connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
                    await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": self._key})
                    try:
                        await self._beat(connection)
                    finally:
                        # A cancelled or broken session goes back to no pool with the lock still held.
                        await asyncio.shield(connection.invalidate())
            except LOST as error:
                log.warning("worker_session_lost", error=str(error).strip())
            except Exception as error:
                log.error("worker_session_broke", exc_info=error)
            await asyncio.sleep(BEAT_SECONDS)

    async def _beat(self, connection: AsyncConnection) -> None:
        while not self._stopping.is_set():
            await connection.execute(text("SELECT 1"))
            if self._worker is not None and self._worker.worker_id is not None:
                await self._queue.beat(self._worker.worker_id)
            await self.sweep()
            self._alive.set()
            await asyncio.sleep(BEAT_SECONDS)

    async def sweep(self) -> list[UUID]:
        """Put runs back to work that nobody works on, and return them."""
        return await sweep(
            self._database,
            self._queue,
            key=self._key,
            in_hand=self._in_hand(),
            stale_seconds=self._stale_seconds,
        )


async def _ended(task: asyncio.Task[None], *, patience_seconds: float) -> None:
    """Wait for a task to end; when patience is over cancel it, more than once.

    Before Python 3.12 `asyncio.wait_for`, which the database's driver uses, can lose a cancellation. A
    task that outlives all of them is left: what it worked on is taken up by the next sweep.
    """
    await asyncio.wait([task], timeout=patience_seconds)
    for _ in range(CANCELS):
        if task.done():
            return
        task.cancel()
        await asyncio.wait([task], timeout=1)
    if not task.done():
        log.error("worker_did_not_stop", task=task.get_name())


async def sweep(
    database: AsyncEngine,
    queue: RunQueue,
    *,
    key: int,
    in_hand: Collection[UUID],
    stale_seconds: float = STALE_SECONDS,
) -> list[UUID]:
    """Put runs back to work that nobody works on, and return them. Only one sweep runs at a time.

    Args:
        database: Where runs are.
        queue: Where due runs go.
        key: The caller's own worker, which lives.
        in_hand: Runs that the caller is advancing.
        stale_seconds: How long a worker may go without a heartbeat.
    """
    async with transaction(database) as connection:
        if not await jobs.try_lock(connection, jobs.SWEEP):
            return []
        others = [worker for worker in await runs.workers(connection) if worker != key]
        dead = [worker for worker in others if await jobs.try_lock(connection, worker)]
        left = await runs.leave_workers(connection, dead) if dead else []
        stalled = await jobs.stalled(connection, seconds=stale_seconds, mine=list(in_hand))
        left = sorted(({*left, *stalled}) - set(in_hand))
        if left:
            await runs.leave(connection, stalled)
            await jobs.retry(connection, left)
        found = await runs.idle(connection)
        due = [row for row in found if row.id not in in_hand]
        for row in due:
            await queue.put(connection, row.id, flow=row.flow, priority=row.priority)
    swept = [*left, *(row.id for row in due)]
    if swept:
        log.info("runs_swept", dead=len(dead), stalled=len(stalled), runs=[str(r) for r in swept])
    return swept
