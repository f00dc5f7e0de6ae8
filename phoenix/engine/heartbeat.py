"""A worker's heartbeat: a thread with a database session of its own.

It is a thread so that a step which keeps the event loop busy loses no runs; but it speaks only for a loop
that has shown itself within `LOOP_SECONDS`. The session holds the worker's advisory lock, which PostgreSQL
frees the moment the process dies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg.types.json import Jsonb

from phoenix.storage import workers

log = structlog.get_logger(__name__)

BEAT_SECONDS = 1.0
LOOP_SECONDS = 60.0
"""An event loop that stands still for longer is taken for hung: the heart stops."""

CONNECT_SECONDS = 5
ANSWER_SECONDS = 3
SESSION: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": ANSWER_SECONDS * 1000,
    "options": f"-c statement_timeout={ANSWER_SECONDS}s",
    "application_name": "phoenix heartbeat",
}


@dataclass(frozen=True)
class Pulse:
    """What a heartbeat says of its worker. `worker_id` is the library's own name for it, if it has one."""

    running: int
    state: str
    reason: str
    worker_id: int | None


class Heartbeat:
    """Beats from `start` to `stop`; makes a new session by itself when one is lost.

    Args:
        url: The database as libpq reads it.
        who: The worker's key, host, pid, version, queues and concurrency.
        pulse: Returns how the worker is; called in the thread.
    """

    def __init__(self, url: str, who: dict[str, Any], pulse: Callable[[], Pulse]) -> None:
        self._url = url
        self._who = who | {"queues": Jsonb(who["queues"])}
        self._pulse = pulse
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._shown = time.monotonic()
        self.sessions = 0
        """How many sessions held the lock until now; 0 while the worker is not known yet."""
        self.beats_at: float = 0.0
        """When it last beat, in monotonic seconds."""

    def start(self) -> None:
        """Begin to beat."""
        self.show()
        self._stop.clear()
        self.sessions = 0
        self._thread = threading.Thread(target=self._run, name="phoenix heartbeat", daemon=True)
        self._thread.start()

    def show(self) -> None:
        """Say that the event loop is alive."""
        self._shown = time.monotonic()

    def stop(self, patience_seconds: float) -> None:
        """Take the worker's row away and end; a thread that hangs for longer is left to the process's end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(patience_seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, **SESSION) as session:
                    self._session(session)
            except psycopg.Error as error:
                log.warning("worker_session_lost", error=str(error).strip())
            self._stop.wait(BEAT_SECONDS)

    def _session(self, session: psycopg.Connection[Any]) -> None:
        key = {"key": self._who["key"]}
        holds = False
        while not self._stop.is_set():
            if not holds:
                # A sweep that tries whether we live holds it for a moment.
                row = session.execute(workers.LOCK, key).fetchone()
                holds = bool(row and row[0])
                self.sessions += holds
            if time.monotonic() - self._shown < LOOP_SECONDS:
                self._beat(session)
            else:
                log.error("event_loop_hangs", seconds=round(time.monotonic() - self._shown))
            self._stop.wait(BEAT_SECONDS if holds else BEAT_SECONDS / 10)
        session.execute(workers.LEAVE, key)

    def _beat(self, session: psycopg.Connection[Any]) -> None:
        pulse = self._pulse()
        said = {"running": pulse.running, "state": pulse.state, "reason": pulse.reason}
        try:
            session.execute(workers.BEAT, self._who | said)
            if pulse.worker_id is not None:
                session.execute(workers.BEAT_LIBRARY, {"worker_id": pulse.worker_id})
        except psycopg.errors.DiskFull as error:
            # Whoever gives the lock up now is taken for dead, and its runs for what killed it.
            log.warning("heartbeat_not_written", error=str(error).strip())
            return
        self.beats_at = time.monotonic()
