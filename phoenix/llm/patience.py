"""How long model calls may take, and how they are tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from phoenix.settings import Settings


@dataclass(frozen=True)
class Patience:
    """How long one call may take, all its attempts together, and how it waits between them."""

    deadline_seconds: float = 1200.0
    """All attempts of a call with the waits between them."""
    answer_seconds: float = 600.0
    """One answer, from its request to its last byte."""
    idle_seconds: float = 120.0
    """Silence within an answer that comes in pieces, and before its first piece."""
    attempts: int = 6
    """Of the last model that may answer, or the only one."""
    attempts_before_fallback: int = 2
    """Of a model that others stand behind."""
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 60.0
    fallback_wait_seconds: float = 10.0
    """With others behind it a model that asks for a longer wait than this is left at once."""

    def wait_seconds(self, attempt: int, asked: float | None) -> float:
        """Return the wait after an attempt, numbered from 1: what was asked, else doubled, with jitter."""
        if asked is not None:
            return asked
        doubled = min(self.longest_wait_seconds, self.first_wait_seconds * 2 ** (attempt - 1))
        return float(doubled * random.uniform(0.75, 1.25))  # noqa: S311 - spreads retries, keeps no secret


def patience_of(settings: Settings) -> Patience:
    """Return the patience that was set."""
    return Patience(
        deadline_seconds=settings.model_deadline_seconds,
        answer_seconds=settings.model_answer_seconds,
        idle_seconds=settings.model_idle_seconds,
        first_wait_seconds=settings.model_retry_seconds,
    )
