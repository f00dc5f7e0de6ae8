"""Caps on the requests and tokens of a minute, kept by waiting instead of being refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError as LimitsStorageError
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

WINDOW_SECONDS = 60
REDIS_SECONDS = 0.5
"""How long a call waits for Redis before it is counted in the process instead."""
PAUSE_SECONDS = 5.0
"""How long Redis is left alone after it failed."""
LOOK_SECONDS = 0.5
"""How often whoever is next looks whether it is let through."""


@dataclass(frozen=True)
class Limits:
    """What a provider allows for one model; None for no cap."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Of questions and answers together."""
    concurrency: int | None = None
    """Calls of this process that are under way at once."""

    @property
    def capped(self) -> bool:
        """Whether calls are counted."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


NO_LIMITS = Limits()


class RateCaps:
    """Counts requests and tokens by model, over a sliding window.

    Args:
        redis: Storage that all workers share; None counts in this process alone.
        window_seconds: What the caps are of.
    """

    def __init__(self, redis: RedisStorage | None = None, *, window_seconds: int = WINDOW_SECONDS) -> None:
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = SlidingWindowCounterRateLimiter(redis) if redis is not None else None
        self._window_seconds = window_seconds
        self._again_at = 0.0
        self._owed: dict[str, int] = {}
        """Tokens that answers took beyond what was counted for them, by model: the next call counts them."""

    async def wait(self, name: str, limits: Limits, tokens: int) -> None:
        """Return when a call of about so many tokens may be made, having counted it."""
        tokens = max(1, tokens + self._owed.get(name, 0))
        pause = LOOK_SECONDS * min(1.0, self._window_seconds / WINDOW_SECONDS)
        while not await self._take(name, limits, tokens):  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(pause)
        self._owed.pop(name, None)

    def settle(self, name: str, limits: Limits, *, counted: int, used: int) -> None:
        """Take in how many tokens a call used in truth."""
        if limits.tokens_per_minute is not None:
            self._owed[name] = self._owed.get(name, 0) + used - counted

    async def _take(self, name: str, limits: Limits, tokens: int) -> bool:
        wanted: list[tuple[RateLimitItem, str, int]] = []
        if limits.requests_per_minute is not None:
            wanted.append((self._cap(limits.requests_per_minute), "requests", 1))
        if limits.tokens_per_minute is not None:
            # What is larger than the whole cap would wait for ever.
            cost = min(tokens, limits.tokens_per_minute)
            wanted.append((self._cap(limits.tokens_per_minute), "tokens", cost))
        if self._shared is not None and time.monotonic() >= self._again_at:
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    return await _taken(self._shared, wanted, name)
            except (RedisError, LimitsStorageError, OSError, TimeoutError) as error:
                self._again_at = time.monotonic() + PAUSE_SECONDS
                log.warning("model_rates_not_shared", error=str(error), seconds=PAUSE_SECONDS)
        return await _taken(self._own, wanted, name)

    def _cap(self, amount: int) -> RateLimitItem:
        return RateLimitItemPerSecond(amount, self._window_seconds, namespace="phoenix-models")


async def _taken(
    limiter: SlidingWindowCounterRateLimiter, wanted: list[tuple[RateLimitItem, str, int]], name: str
) -> bool:
    """Count a call against all its caps, or against none of them."""
    for item, kind, cost in wanted:
        if not await limiter.test(item, name, kind, cost=cost):
            return False
    for item, kind, cost in wanted:
        if not await limiter.hit(item, name, kind, cost=cost):
            return False
    return True


@asynccontextmanager
async def open_caps(redis_url: str | None) -> AsyncIterator[RateCaps]:
    """Yield caps that are counted in Redis, or in this process's memory."""
    if redis_url is None:
        yield RateCaps()
        return
    pool = ConnectionPool.from_url(redis_url)
    try:
        yield RateCaps(
            RedisStorage(f"async+{redis_url}", implementation="redispy", connection_pool=pool)  # type: ignore[arg-type]
        )
    finally:
        await pool.aclose()
