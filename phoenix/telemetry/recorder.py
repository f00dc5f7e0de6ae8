"""Spans on their way out of this process: a queue, a thread that empties it, and less of them under load."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from phoenix.errors import DatabaseUnavailable
from phoenix.telemetry.metrics import SPANS, TRACE_CHANGES, TRACE_LEVEL
from phoenix.telemetry.spans import DETAIL, LASTING, Span

log = structlog.get_logger(__name__)

BOUND = 10_000
"""Spans that may wait. What can be a parent is taken all the same."""
BATCH = 1000
FLUSH_SECONDS = 1.0
SWEEP_SECONDS = 5.0
"""How often spans of processes that died are looked for."""
STOP_SECONDS = 5.0
"""How long the end waits for what still waits."""
UNSENT = 5000
"""Spans that are kept for a receiver that does not answer."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0

ALL, LITTLE, LEAST = 0, 1, 2
"""Everything; no SQL, git and sandbox; only runs and their turns."""
LOOK_SECONDS = 0.25
CALM_SECONDS = 2.0
"""How long it must be calm before more is recorded again, one level at a time."""
QUEUE_MARKS = (0.25, 0.6)
"""Shares of the queue above which less is recorded."""
LAG_MARKS = (0.1, 0.5)
"""Seconds that the event loop may be late."""
LATE_LOOKS = 4
"""So many looks in a row must find it late: one long step is no load."""
CALM = 0.5
"""Share of the first marks below which it is calm."""


class SpanStore(Protocol):
    """Where spans are kept. Called by one thread."""

    def write(self, spans: Sequence[Span], left_out: Mapping[str, int]) -> int:
        """Keep spans, and how many of each project were left out; return how many are new.

        Raises:
            DatabaseUnavailable: it cannot be reached: they are to be given again.
        """

    def abandoned(self) -> list[Span]:
        """End what dead processes left open, and return it."""

    def close(self) -> None:
        """Let go of the connection."""


class SpanSender(Protocol):
    """Where ended spans are sent. Called by one thread."""

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans; tell whether they were taken."""

    def close(self) -> None:
        """Let go of the connection."""


@dataclass(frozen=True)
class RecorderOptions:
    """How much is recorded."""

    share: float = 1.0
    """Of the traces that begin here."""
    keeps_all: bool = True
    """The store has every span, not only those that can be parents."""
    sweeps: bool = True
    """This process looks after spans of those that died."""
    bound: int = BOUND
    flush_seconds: float = FLUSH_SECONDS
    sweep_seconds: float = SWEEP_SECONDS


class Recorder:
    """Takes spans from any thread, and writes them from one of its own.

    Args:
        store: Keeps them, and what has begun in any case: a parent is there before its children are.
        sender: Gets them once they have ended.
        options: How much.
    """

    def __init__(
        self, store: SpanStore, sender: SpanSender | None = None, options: RecorderOptions | None = None
    ) -> None:
        self._store, self._sender = store, sender
        self._options = options or RecorderOptions()
        self.share = self._options.share
        self.exports = sender is not None
        self.level = ALL
        self._queue: deque[Span] = deque()
        self._left_out: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._unsent: list[Span] = []
        self._send_at, self._pause = 0.0, FIRST_PAUSE_SECONDS
        self._stopping = threading.Event()
        self._calm_since: float | None = None
        self._lags: deque[float] = deque(maxlen=LATE_LOOKS)
        TRACE_LEVEL.set(ALL)

    def wants(self, kind: str) -> bool:
        """Tell whether spans of a kind are recorded now."""
        level = self.level
        return level == ALL or (level == LITTLE and kind not in DETAIL) or kind in ("run", "turn")

    def begin(self, span: Span) -> None:
        """Take a span that has begun and may become a parent."""
        self._queue.append(_as_begun(span))

    def give(self, span: Span) -> None:
        """Take a span that has ended."""
        if span.kind not in LASTING and len(self._queue) >= self._options.bound:
            self.leave_out(span.project)
            return
        self._queue.append(span)

    def leave_out(self, project: str) -> None:
        """Count a span that is not recorded."""
        with self._lock:
            self._left_out[project] += 1

    def look(self, lag_seconds: float, now: float | None = None) -> None:
        """Record less where the queue fills or the event loop is late; more again after a while of calm."""
        now = time.monotonic() if now is None else now
        share = len(self._queue) / self._options.bound
        self._lags.append(lag_seconds)
        lag = min(self._lags) if len(self._lags) == LATE_LOOKS else 0.0
        wanted = max(_level(share, QUEUE_MARKS), _level(lag, LAG_MARKS))
        if wanted > self.level:
            self._calm_since = None
            self._go_to(wanted, share, lag_seconds)
        elif self.level == ALL or share > CALM * QUEUE_MARKS[0] or lag_seconds > CALM * LAG_MARKS[0]:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= CALM_SECONDS:
            self._calm_since = now
            self._go_to(self.level - 1, share, lag_seconds)

    def _go_to(self, level: int, share: float, lag_seconds: float) -> None:
        event = "tracing_degraded" if level > self.level else "tracing_restored"
        self.level = level
        TRACE_LEVEL.set(level)
        TRACE_CHANGES.labels(str(level)).inc()
        log.warning(event, level=level, queue=round(share, 3), lag_seconds=round(lag_seconds, 3))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write within the body; what still waits at its end is written first."""
        thread = threading.Thread(target=self._write_all, name="phoenix-spans", daemon=True)
        thread.start()
        watching = asyncio.create_task(self._watch(), name="span load")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            self._stopping.set()
            await asyncio.to_thread(thread.join, STOP_SECONDS)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self.look(max(0.0, loop.time() - due))

    def _write_all(self) -> None:
        swept_at = time.monotonic()
        while True:
            is_last = self._stopping.wait(self._options.flush_seconds)
            self._tried(self.flush)
            if is_last:
                break
            if self._options.sweeps and time.monotonic() - swept_at >= self._options.sweep_seconds:
                swept_at = time.monotonic()
                self._tried(self._sweep)
        self._store.close()
        if self._sender is not None:
            self._sender.close()

    def _tried(self, doing: Callable[[], None]) -> None:
        """Do something that may fail: the thread goes on. Spans are worth less than what they tell of."""
        try:
            doing()
        except DatabaseUnavailable as error:
            log.info("spans_wait_for_database", waiting=len(self._queue), error=error.message)
        except Exception as error:
            log.error("spans_lost", exc_info=error)

    def flush(self) -> None:
        """Write what waits.

        Raises:
            DatabaseUnavailable: it cannot be reached; what waits, waits on.
        """
        while self._queue or self._left_out:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            with self._lock:
                left_out, self._left_out = self._left_out, Counter()
            kept_out = Counter({project: n for project, n in left_out.items() if project})
            try:
                self._write(batch, kept_out)
            except DatabaseUnavailable:
                self._queue.extendleft(reversed(batch))
                with self._lock:
                    self._left_out += left_out
                raise
            SPANS.labels("left_out").inc(left_out.total())

    def _write(self, batch: Sequence[Span], left_out: Mapping[str, int]) -> None:
        ended = {span.id: span for span in batch if span.ended}
        begun = {span.id: span for span in batch if not span.ended and span.id not in ended}
        kept = [span for span in ended.values() if span.project and self._keeps(span)]
        if self._sender is None:
            SPANS.labels("kept").inc(self._store.write([*begun.values(), *kept], left_out))
            return
        # A parent that a receiver has not seen must be known before its children are sent: who finds it
        # abandoned sends it. And it is known as ended only once it was sent.
        if begun:
            self._store.write(list(begun.values()), {})
        self._send([*ended.values()])
        SPANS.labels("kept").inc(self._store.write(kept, left_out))

    def _keeps(self, span: Span) -> bool:
        return self._options.keeps_all or span.kind in LASTING

    def _send(self, spans: Sequence[Span]) -> None:
        """Send what has ended, parents first, and what waits since nobody answered; now or later."""
        self._unsent += spans
        if self._sender is None or not self._unsent or time.monotonic() < self._send_at:
            return self._forget()
        self._unsent.sort(key=lambda span: span.began)
        while self._unsent:
            some = self._unsent[:BATCH]
            if not self._sender.send(some):
                self._send_at = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
                log.warning("spans_not_sent", waiting=len(self._unsent))
                return self._forget()
            self._pause = FIRST_PAUSE_SECONDS
            SPANS.labels("sent").inc(len(some))
            del self._unsent[:BATCH]
        return None

    def _forget(self) -> None:
        if (over := len(self._unsent) - UNSENT) > 0:
            del self._unsent[:over]
            SPANS.labels("lost").inc(over)

    def _sweep(self) -> None:
        found = self._store.abandoned()
        if found and self._sender is not None:
            self._send(found)
        elif self._unsent:
            self._send(())


def _as_begun(span: Span) -> Span:
    """Return a span as it is now: it goes on while its beginning is written."""
    return Span(
        span.trace, span.id, span.parent, span.kind, span.name, span.began, project=span.project,
        run=span.run, attempt=span.attempt, attributes=dict(span.attributes),
    )  # fmt: skip


def _level(value: float, marks: tuple[float, float]) -> int:
    return LEAST if value > marks[1] else LITTLE if value > marks[0] else ALL
