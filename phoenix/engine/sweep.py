"""The sweep: what lost workers, lost jobs and lost wake-ups left behind goes on.

Every worker sweeps once a second, and one at a time. Nothing here grows with the number of runs that
wait for people.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.run import RunError
from phoenix.engine.admission import Admission, Change
from phoenix.engine.lifecycle import end
from phoenix.engine.queue import RunQueue
from phoenix.errors import RunQuarantined
from phoenix.storage import deaths, events, jobs, places, runs, workers

log = structlog.get_logger(__name__)

DEAD_SECONDS = 2.5
"""A worker without a session is dead when it has not beaten for so long: time to make a new session."""
STALE_SECONDS = 6.0
"""A worker whose session stands is taken for frozen when it has not beaten for so long."""
SETTLE_SECONDS = 3.0
"""After its own beats were late, or the server began, a worker judges no other for so long."""
LATE_SECONDS = 2.5
FORGET_SECONDS = 60.0
"""A frozen worker's row is kept for so long, to be seen."""
MAX_CRASHES = 3
"""A run that was in hand at so many deaths of a worker in a row, and got no further, is quarantined, unless
as many workers died without it meanwhile: then something else kills them."""
LAST_CRASHES = 6
"""At so many it is quarantined whatever happens elsewhere."""
MAX_DAY = 20
"""So many deaths within a day quarantine a run even if it gets on between them."""


def is_to_blame(blame: deaths.Blame) -> bool:
    """Tell whether a run is quarantined; see docs/decisions/0041."""
    if blame.crashes >= LAST_CRASHES or blame.day >= MAX_DAY:
        return True
    return blame.crashes >= MAX_CRASHES and blame.crashes > blame.elsewhere


@dataclass
class Steadiness:
    """Whether a worker may judge others: after an outage all look dead, and it is itself that was away."""

    is_new: bool = True
    """It has not been told yet for how long the server runs."""
    _settled_at: float = 0.0
    _last: float = 0.0
    _sessions: int = 0

    def beat(self, *, sessions: int) -> bool:
        """Take in one beat of a worker that has had so many sessions; tell whether others may be judged."""
        now = time.monotonic()
        late = self._last > 0 and now - self._last > LATE_SECONDS
        if late or self._sessions not in (0, sessions):
            self._settled_at = now + SETTLE_SECONDS
        self._last, self._sessions = now, sessions
        return now >= self._settled_at

    def server(self, seconds: float) -> bool:
        """Take in for how long the server runs; a later start of it costs this worker its session anyway."""
        self.is_new = False
        self._settled_at = max(self._settled_at, self._last + SETTLE_SECONDS - seconds)
        return self._last >= self._settled_at


class Sweep:
    """Sweeps for one worker.

    Args:
        admission: Gives places.
        queue: Where due runs go.
        key: The worker, which lives.
        in_hand: The runs that it is advancing, or about to take, with their threads.
        effects: Puts effects back into the queue whose job was lost.
        untidy: Tells for a worker, and the runs in its hands, whether a sweep may find anything.
        deadlines: Reminds of approvals, escalates them, and decides those whose time is up.
        stale_seconds: How long a worker may go without a heartbeat.
    """

    def __init__(
        self,
        admission: Admission,
        queue: RunQueue,
        *,
        key: int,
        in_hand: Mapping[UUID, UUID],
        effects: Callable[[], Awaitable[object]],
        untidy: Callable[[int, float, list[UUID]], Awaitable[bool]],
        deadlines: Callable[[], Awaitable[object]] | None = None,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._admission = admission
        self._queue = queue
        self.key = key
        self._in_hand = in_hand
        self._effects = effects
        self._untidy = untidy
        self._deadlines = deadlines
        self._stale_seconds = stale_seconds

    async def __call__(self, *, judges: bool = True) -> list[UUID]:
        """Put runs back to work that nobody works on, and return them.

        Args:
            judges: Whether other workers may be found lost; see `Steadiness`.
        """
        # Nearly always there is nothing to do, and one statement sees that.
        if not await self._untidy(self.key, self._dead_seconds, list(self._in_hand)):
            return []
        async with self._admission.transaction() as change:
            connection = change.connection
            if not await jobs.try_lock(connection, jobs.SWEEP):
                return []
            lost = await self._lost(connection) if judges else []
            left = await self._take_over(change, lost)
            left += await workers.leave_forgotten(connection, self.key, in_hand=self._in_hand)
            await self._drop_jobs(connection, left, judges=judges)
            due = await runs.idle(connection)
            for place in due:
                await self._queue.put(connection, place)
            lanes = await places.lanes(connection)
        admitted = await self._admission.admit({lane.organisation_id for lane in lanes}) if lanes else []
        await self._effects()
        if self._deadlines is not None:
            await self._deadlines()
        swept = [place.run_id for place in due] + admitted
        if swept or lost:
            log.info("runs_swept", lost=len(lost), left=len(left), runs=[str(run_id) for run_id in swept])
        return swept

    async def _lost(self, connection: AsyncConnection) -> list[workers.Lost]:
        return await workers.lost(
            connection, self.key, dead_seconds=self._dead_seconds, stale_seconds=self._stale_seconds
        )

    @property
    def _dead_seconds(self) -> float:
        return min(DEAD_SECONDS, self._stale_seconds)

    async def _take_over(self, change: Change, lost: Collection[workers.Lost]) -> list[UUID]:
        """Take the runs of lost workers; quarantine those that are to blame."""
        connection = change.connection
        left: list[UUID] = []
        for crashed in (True, False):
            keys = [worker.key for worker in lost if worker.crashed is crashed]
            if not keys:
                continue
            found = await workers.took(connection, keys)
            if crashed:
                await deaths.record(connection, keys, found)
            await workers.leave(connection, found, crashed=crashed)
            await workers.forget(connection, keys, seconds=0 if crashed else FORGET_SECONDS)
            left += found
            if crashed:
                await self._judge(change, found)
        return left

    async def _judge(self, change: Change, struck: Collection[UUID]) -> None:
        """Quarantine those of the runs in hand at a death that are to blame for it."""
        for run_id in struck:
            blame = await deaths.blame(change.connection, run_id)
            if is_to_blame(blame):
                locked = await runs.lock(change.connection, run_id)
                await self._quarantine(change, locked, max(blame.crashes, blame.day))
            elif blame.crashes >= MAX_CRASHES:
                log.warning("run_spared", run_id=str(run_id), **asdict(blame))

    async def _quarantine(self, change: Change, locked: runs.LockedRun, crashes: int) -> None:
        run = locked.run
        step, seen = await events.last_step(change.connection, run.project_id, run.id)
        error = RunQuarantined(
            f"{crashes} workers died with this run in hand, the last one in step {step or 'unknown'}."
            + (f" Its last error was: {seen}" if seen else ""),
            hint="Mend what kills them, then `phoenix resume` releases it.",
        )
        about = RunError(code=error.code, category=error.category, message=str(error), step=step)
        log.error("run_quarantined", run_id=str(run.id), step=step, crashes=crashes)
        await end(change, locked, "failed", error=about)

    async def _drop_jobs(self, connection: AsyncConnection, left: Collection[UUID], *, judges: bool) -> None:
        """Remove jobs that nobody does any more."""
        if left:
            await jobs.take_away(connection, await runs.threads_of(connection, left))
        if judges:
            mine = list(self._in_hand.values())
            await jobs.drop_orphaned(connection, seconds=self._stale_seconds, mine=mine)
