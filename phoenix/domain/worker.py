"""Workers, as others see them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from phoenix.domain.frozen import Frozen

WorkerState = Literal["active", "draining", "paused"]


class Worker(Frozen):
    """A process that takes due runs and advances them."""

    key: int
    """The advisory lock that it holds while it lives."""
    host: str
    pid: int
    version: str
    queues: list[str]
    concurrency: int = Field(ge=1)
    """Runs that it works on at once."""
    running: int = Field(ge=0)
    """Runs in hand at the last heartbeat."""
    state: WorkerState
    """`draining` takes nothing new and stops; `paused` takes nothing new for `reason`."""
    reason: str = ""
    started_at: datetime
    heartbeat_at: datetime
    heartbeat_age_seconds: float


class Standing(Frozen):
    """How work goes on in a database."""

    workers: int
    """That live: their last heartbeat is seconds old."""
    due: int
    """Runs that wait for a worker."""
    oldest_due_seconds: float = 0.0
    is_progressing: bool
    """Nothing waits for long, or a worker lives."""
