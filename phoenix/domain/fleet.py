"""A whole installation at a glance, as its operators watch it."""

from __future__ import annotations

from phoenix.domain.frozen import Frozen


class Lag(Frozen):
    """How many wait, and for how long the one that waits longest."""

    count: int = 0
    oldest_seconds: float = 0.0


class Fleet(Frozen):
    """What the database says of runs, workers and people who are waited for."""

    runs: dict[str, int]
    """Unfinished runs by status."""
    due: dict[str, Lag]
    """Runs that wait for a worker, by queue."""
    workers: dict[str, int]
    """Living workers by state."""
    approvals: dict[str, Lag]
    """Approvals that wait for people, by gate."""
