"""Trying again while a service is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from phoenix.errors import PhoenixError, RateLimited

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0


class Presence:
    """Whether a service answers, as people were told; shared by all that wait for it.

    Args:
        say: Tells people that it takes longer, and when it goes on.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._is_away = False

    def lost(self, message: str) -> None:
        """Tell people that the service is away, once."""
        if not self._is_away:
            self._is_away = True
            self._say(message)

    def answered(self) -> None:
        """Tell people that the service answers, where they were told otherwise."""
        if self._is_away:
            self._is_away = False
            self._say("the service answers again")


class Patience:
    """How long a service may be away, counted from the first failure in a row.

    Args:
        seconds: How long; 0 for not at all.
        presence: Tells people.
    """

    def __init__(self, seconds: float, presence: Presence) -> None:
        self._seconds = seconds
        self._presence = presence
        self._failures = 0
        self._since = 0.0

    def renew(self) -> None:
        """Take in that the service answers."""
        self._presence.answered()
        self._failures = 0

    async def spend(self, error: PhoenixError) -> None:
        """Wait before another try.

        Raises:
            PhoenixError: the one given, where trying again would not help, or there is no more time.
        """
        now = time.monotonic()
        if not self._failures:
            self._since = now
        self._failures += 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1))
        if isinstance(error, RateLimited):
            pause = max(pause, error.after_seconds)
        left = self._seconds - (now - self._since)
        if error.category != "transient" or left < pause:
            raise error
        if self._failures == 2:  # the first often mends itself at once
            self._presence.lost(f"{error.message} Trying again for {self._seconds:g} s.")
        await asyncio.sleep(pause)
