"""Gathers what many calls want of the database into few statements, several of them under way at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

import psycopg

from phoenix.errors import DatabaseUnavailable, DiskFull, PhoenixError
from phoenix.telemetry.metrics import CHECKPOINT_BATCH

FULL = 150
"""Calls of one batch: more of them save little, and keep whoever waits for the answer waiting."""
FULL_BYTES = 16 * 1024**2
TURNS = 2
"""Turns of the event loop that a batch waits for more: a run's step stores its writes and, a turn later, its
checkpoint."""

PATIENCE_SECONDS = 30.0
"""How long a call tries again before it fails."""
REST_SECONDS = 0.02
CLOSING_PAUSE_SECONDS = 0.005
PAUSES_SECONDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits before the next try, from loss to loss without a success in between."""


class Call:
    """One call that waits.

    Args:
        done: Its answer.
        since: When it was made, on the event loop's clock, in seconds.
    """

    __slots__ = ("alone", "done", "since", "size")

    def __init__(self, done: asyncio.Future[Any], since: float) -> None:
        self.done = done
        self.since = since
        self.size = 0
        """Bytes that it sends, roughly."""
        self.alone: frozenset[Hashable] = frozenset()
        """It is not sent while an earlier call that shares one of these is under way: the later one wins."""

    def succeed(self, value: Any) -> None:
        """Answer, unless the caller was cancelled."""
        if not self.done.done():
            self.done.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Raise in the caller, unless it was cancelled."""
        if not self.done.done():
            self.done.set_exception(error)


C = TypeVar("C", bound=Call)


class Again(Exception):
    """Raised by a sender: these calls were not served and should be sent again."""

    def __init__(self, calls: Iterable[Any], reason: str, *, lost: bool) -> None:
        super().__init__(reason)
        self.calls = list(calls)
        self.lost = lost
        """The database could not be reached; otherwise something was in the way of just these calls."""

    def given_up(self, seconds: float) -> PhoenixError:
        """Return what a call raises that was sent again for so long."""
        if isinstance(self.__cause__, psycopg.errors.DiskFull):
            return DiskFull("The disk of the database is full.", hint="Make room; nothing is lost.")
        return DatabaseUnavailable(
            f"A checkpoint was neither stored nor read for {seconds:g} s: {self}",
            hint="Check that the database runs; work goes on by itself when it is back.",
        )


class Gatherer(Generic[C]):
    """Sends calls in batches.

    A batch goes when it is full, or `TURNS` turns of the event loop after its first call; at most `at_once`
    are under way, and what comes meanwhile goes with the next. Calls whose caller was cancelled before are
    not sent.

    Args:
        send: Answers every call of a batch, or raises Again for those that are to be sent again.
        at_once: Batches under way at once.
        patience_seconds: How long a call is sent again.
        what: Its name in metrics.
    """

    def __init__(
        self,
        send: Callable[[list[C]], Awaitable[None]],
        *,
        at_once: int,
        patience_seconds: float,
        what: str = "calls",
    ) -> None:
        self._sizes = CHECKPOINT_BATCH.labels(what)
        self._send = send
        self._at_once = at_once
        self._patience_seconds = patience_seconds
        self._waiting: deque[C] = deque()
        self._flying: set[asyncio.Task[None]] = set()
        self._resting: set[C] = set()
        self._alone: set[Hashable] = set()
        self._losses = 0
        self._scheduled = self._closed = False
        self._paused: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def answer(self) -> asyncio.Future[Any]:
        """Return the future that a call waits on."""
        return self._loop.create_future()

    def now(self) -> float:
        """Return the time of the event loop's clock, in seconds."""
        return self._loop.time()

    def add(self, call: C) -> None:
        """Send a call with the next batch."""
        if self._closed:
            call.fail(DatabaseUnavailable("The checkpointer is closed."))
            return
        self._waiting.append(call)
        if len(self._waiting) >= FULL:
            self._flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn, TURNS - 1)

    async def close(self, patience_seconds: float) -> None:
        """Wait for what is still to be sent; fail it when that takes too long."""
        deadline = self._loop.time() + patience_seconds
        while (self._waiting or self._flying or self._resting) and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(CLOSING_PAUSE_SECONDS)
        self._closed = True
        for task in self._flying:
            task.cancel()
        if self._flying:
            await asyncio.wait(self._flying)
        if self._paused is not None:
            self._paused.cancel()
        for call in (*self._waiting, *self._resting):
            call.fail(DatabaseUnavailable("The checkpointer was closed meanwhile."))
        self._waiting.clear()

    def _turn(self, left: int) -> None:
        if left > 0:
            self._loop.call_soon(self._turn, left - 1)
        else:
            self._scheduled = False
            self._flush()

    def _flush(self) -> None:
        while (
            not self._closed and self._waiting and len(self._flying) < self._at_once and self._paused is None
        ):
            batch = self._take()
            if not batch:
                return
            self._sizes.observe(len(batch))
            task = self._loop.create_task(self._fly(batch))
            self._flying.add(task)
            task.add_done_callback(self._landed)

    def _take(self) -> list[C]:
        """Return the next batch: the oldest calls, but none that must wait for one under way."""
        batch: list[C] = []
        held: list[C] = []
        size = 0
        waits = set(self._alone)
        while self._waiting and len(batch) < FULL and size < FULL_BYTES:
            call = self._waiting.popleft()
            if call.done.done():
                continue
            if call.alone and not waits.isdisjoint(call.alone):
                waits |= call.alone
                held.append(call)
                continue
            batch.append(call)
            size += call.size
        self._waiting.extendleft(reversed(held))
        for call in batch:
            self._alone |= call.alone
        return batch

    async def _fly(self, batch: list[C]) -> None:
        again: Again | None = None
        try:
            await self._send(batch)
            self._losses = 0
        except Again as request:
            again = request
        except asyncio.CancelledError:
            for call in batch:
                call.fail(DatabaseUnavailable("The checkpointer was closed meanwhile."))
            raise
        except Exception as error:  # noqa: BLE001 whatever it is, whoever waits must hear of it
            for call in batch:
                call.fail(error)
        for call in batch:
            self._alone -= call.alone
        if again is not None:
            self._send_again(again)

    def _send_again(self, request: Again) -> None:
        """Take calls back into the queue, before all others; what has waited for too long fails."""
        now = self._loop.time()
        calls: list[C] = []
        for call in request.calls:
            if now - call.since < self._patience_seconds:
                calls.append(call)
                continue
            call.fail(request.given_up(self._patience_seconds))
        if request.lost:
            self._losses += 1
            self._waiting.extendleft(reversed(calls))
            pause = PAUSES_SECONDS[min(self._losses, len(PAUSES_SECONDS)) - 1]
            if pause and self._paused is None:
                self._paused = self._loop.call_later(pause, self._resume)
        elif calls:
            # What is in their way is in nobody else's: the others go on.
            self._resting.update(calls)
            for call in calls:
                self._alone |= call.alone
            self._loop.call_later(REST_SECONDS, self._rested, calls)

    def _resume(self) -> None:
        self._paused = None
        self._flush()

    def _rested(self, calls: list[C]) -> None:
        for call in calls:
            self._alone -= call.alone
        self._resting.difference_update(calls)
        self._waiting.extendleft(reversed(calls))
        self._flush()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._flush()
