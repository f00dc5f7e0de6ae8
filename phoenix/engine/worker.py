"""The worker in this process: it takes due runs, advances them, and sweeps up after others.

Its life is a session's advisory lock and a heartbeat (`phoenix.engine.heartbeat`), its work that of the
queue's library, whose worker is made anew whenever it breaks, as it does with its connections.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import structlog
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.engine.advance import Advance, InHand
from phoenix.engine.collector import collect_rarely
from phoenix.engine.heartbeat import BEAT_SECONDS, Heartbeat, Pulse
from phoenix.engine.pauses import Pauses, Space
from phoenix.engine.sweep import STALE_SECONDS, Steadiness, Sweep
from phoenix.errors import DatabaseUnavailable, DiskFull
from phoenix.storage import deaths, workers
from phoenix.storage.database import transaction

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 20.0
"""How long steps that run may take when the process is told to stop; then they are cancelled."""

LOST = (
    DatabaseUnavailable,
    DiskFull,
    OperationalError,
    psycopg.OperationalError,
    ConnectorException,
    OSError,
)

STOP_SECONDS = 10.0
"""How long cancelled steps may take to be handed back when the process stops."""
CANCELS = 5
LOOP_TICK_SECONDS = 0.5
PAUSE_POLL_SECONDS = 0.2


def new_worker_key() -> int:
    """Return a random advisory lock for a worker."""
    return secrets.randbits(62)


@dataclass(frozen=True)
class WorkerOptions:
    """How a process works.

    Args:
        queues: From which queues it takes runs; none for those of every flow it knows.
        concurrency: Runs that it works on at once.
        stale_seconds: How long others may go without a heartbeat.
        drain_seconds: How long steps that run may take when it is told to stop, or pauses.
        space: The folder whose free space is watched.
    """

    queues: tuple[str, ...] = ()
    concurrency: int = 8
    stale_seconds: float = STALE_SECONDS
    drain_seconds: float = DRAIN_SECONDS
    space: Space | None = None


@dataclass
class RunWorker:
    """Works on runs in this process.

    Args:
        database: Where runs are.
        advance: Advances a run; knows those in hand.
        heartbeat: Makes the heart, which asks its argument how the worker is.
        make: Makes the library's worker, which drains for so many seconds.
        sweep: Puts runs back to work that nobody works on.
        pauses: Whether this process may work.
        drain_seconds: How long steps that run may take when it is told to stop.
    """

    database: AsyncEngine
    advance: Advance
    heartbeat: Callable[[Callable[[], Pulse]], Heartbeat]
    make: Callable[[], Worker]
    sweep: Sweep
    pauses: Pauses = field(default_factory=Pauses)
    drain_seconds: float = DRAIN_SECONDS
    _worker: Worker | None = None
    _state: str = "active"
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _alive: asyncio.Event = field(default_factory=asyncio.Event)
    _steady: Steadiness = field(default_factory=Steadiness)
    _heart: Heartbeat | None = None
    _sessions: int = 0
    """How many sessions its heart had when it last looked whether it was taken for dead."""

    @property
    def pulse(self) -> Pulse:
        """How it is: its state, and how many runs it works on."""
        return self._pulse()

    @property
    def beat_age_seconds(self) -> float | None:
        """How long ago the database took its last heartbeat; None when it does not work, or has none yet."""
        if self._heart is None or not self._heart.beats_at:
            return None
        return time.monotonic() - self._heart.beats_at

    @asynccontextmanager
    async def running(self, *, drain: bool = False) -> AsyncIterator[None]:
        """Work beside the body; at its end hand back what is running.

        Args:
            drain: First let steps that run finish, within `drain_seconds`.
        """
        collect_rarely()
        self._stopping.clear()
        self._alive.clear()
        self.advance.closing = False
        self._steady = Steadiness()
        self._sessions = 0
        self._state = "active"
        self.pauses.begun = self._rest
        heart = self._heart = self.heartbeat(self._pulse)
        heart.start()
        tending = asyncio.create_task(self._tend(heart), name="worker liveness")
        work = asyncio.create_task(self._work(), name="worker")
        try:
            yield
        finally:
            self._state = "draining"
            try:
                if drain:
                    await self._drain(work)
            finally:
                await self._stop(work, tending, heart)
                self._heart = None

    async def _drain(self, work: asyncio.Task[None]) -> None:
        """Take nothing new, and let runs go on to their next checkpoint, for a while."""
        log.info("worker_draining", running=len(self.advance.running), seconds=self.drain_seconds)
        self._take_no_more()
        self._let_rest("drain")
        await asyncio.wait([work], timeout=self.drain_seconds)

    def _take_no_more(self) -> None:
        self._stopping.set()
        self._alive.set()
        self._close()

    def _close(self) -> None:
        """Let the library's worker take nothing new; it ends, and cancels what outlasts `drain_seconds`."""
        self.advance.closing = True
        if self._worker is not None:
            self._worker.stop()  # type: ignore[no-untyped-call]

    def _let_rest(self, reason: str) -> None:
        """Stop the runs in hand at their next checkpoint."""
        for hand in self.advance.running.values():
            hand.control.request_drain(reason)

    async def _stop(self, work: asyncio.Task[None], tending: asyncio.Task[None], heart: Heartbeat) -> None:
        self._take_no_more()
        for hand in list(self.advance.running.values()):
            if hand.task is not None:
                hand.task.cancel()
        await _ended(work, patience_seconds=STOP_SECONDS)
        await _ended(tending, patience_seconds=0)
        await asyncio.to_thread(heart.stop, STOP_SECONDS)
        for task in (work, tending):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                log.error("worker_broke", task=task.get_name(), exc_info=error)

    def _pulse(self) -> Pulse:
        worker_id = None if self._worker is None else self._worker.worker_id
        reason = self.pauses.reason
        state = "paused" if reason and self._state == "active" else self._state
        return Pulse(len(self.advance.running), state, reason, worker_id)

    async def _work(self) -> None:
        """Run the library's worker; make a new one after a pause, or when it broke with its connections."""
        await self._alive.wait()
        while not self._stopping.is_set():
            if self.pauses.reason:
                await asyncio.sleep(PAUSE_POLL_SECONDS)
                continue
            self.advance.closing = False
            self._worker = self.make()
            try:
                await self._worker.run()  # type: ignore[no-untyped-call]
            except LOST as error:
                log.warning("worker_lost_database", error=str(error).strip())
            except Exception as error:
                log.error("worker_broke", exc_info=error)
            await asyncio.sleep(0 if self._stopping.is_set() else BEAT_SECONDS)

    async def _tend(self, heart: Heartbeat) -> None:
        """Show the heart that the loop lives; once a second look after space and runs in hand, and sweep."""
        swept_at = -BEAT_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            heart.show()
            if heart.sessions and loop.time() - swept_at >= BEAT_SECONDS:
                swept_at = loop.time()
                self.pauses.look_at_disk()
                try:
                    await self._look_after(heart)
                except LOST as error:
                    log.warning("sweep_lost_database", error=str(error).strip())
                except Exception as error:
                    log.error("sweep_broke", exc_info=error)
            # Whoever waits for the first heartbeat should not wait for a whole tick.
            await asyncio.sleep(LOOP_TICK_SECONDS if self._alive.is_set() else 0.005)

    def _rest(self) -> None:
        """As a pause begins take nothing new, and let runs in hand go on to their next checkpoint."""
        self._close()
        self._let_rest("paused")

    async def _look_after(self, heart: Heartbeat) -> None:
        if self.pauses.asks_database:
            async with transaction(self.database) as connection:
                await self.pauses.look(connection)
        if heart.sessions != self._sessions:
            await self._alive_again(heart.sessions)
        judges = self._steady.beat(sessions=heart.sessions)
        if self._steady.is_new:
            async with transaction(self.database) as connection:
                judges = self._steady.server(await workers.started_seconds(connection))
        if hands := list(self.advance.running.values()):
            async with transaction(self.database) as connection:
                seen = await workers.look(connection, [hand.taken.run.id for hand in hands])
            _obey(hands, {row.id: row for row in seen})
            await self._clear([hand for hand in hands if hand.is_suspect])
        await self.sweep(judges=judges)
        self._alive.set()

    async def _alive_again(self, sessions: int) -> None:
        """Take back that this worker died, which others say of one whose session was lost for a while."""
        if sessions > 1:
            async with transaction(self.database) as connection:
                acquitted = await deaths.retract(connection, self.sweep.key)
            if acquitted:
                log.warning("worker_was_taken_for_dead", runs=[str(run_id) for run_id in acquitted])
        self._sessions = sessions

    async def _clear(self, suspects: list[InHand]) -> None:
        """Suspect runs no longer that got on: the next suspect may come."""
        if not suspects:
            return
        ids = [hand.taken.run.id for hand in suspects]
        async with transaction(self.database) as connection:
            cleared = set(await deaths.clear(connection, self.sweep.key, ids))
        for hand in suspects:
            hand.is_suspect = hand.taken.run.id not in cleared


def _obey(hands: list[InHand], rows: dict[UUID, workers.Seen]) -> None:
    """Stop runs whose project was paused, at their next checkpoint, and those taken away at once."""
    for hand in hands:
        run = hand.taken.run
        row = rows.get(run.id)
        if row is not None and row.attempt == run.attempt:
            if row.paused:
                hand.control.request_drain("paused")
        elif hand.task is not None and not hand.over:
            hand.superseded = True
            hand.task.cancel()


async def _ended(task: asyncio.Task[Any], *, patience_seconds: float) -> None:
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
