"""Rate limits: shared through Redis where there is one, else each process counts for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError as LimitsStorageError
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from phoenix.errors import RateLimited, SettingInvalid

log = structlog.get_logger(__name__)

REDIS_SECONDS = 0.5
"""How long a request waits for Redis before it is counted in the process instead."""
PAUSE_SECONDS = 5.0
"""How long Redis is left alone after it failed."""


def read_limit(text: str) -> RateLimitItem:
    """Return a limit from words such as `600/minute`.

    Raises:
        SettingInvalid: it is none.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise SettingInvalid(
            f"{text!r} is no rate.", field="PHOENIX_RATE_LIMIT", hint="Give one such as 600/minute."
        ) from error


class Rates:
    """Counts requests by who makes them and where.

    Args:
        redis: Storage that all replicas share; None counts in this process alone.
    """

    def __init__(self, redis: RedisStorage | None = None) -> None:
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = SlidingWindowCounterRateLimiter(redis) if redis is not None else None
        self._again_at = 0.0

    async def check(self, limit: RateLimitItem, *who: str) -> None:
        """Count a request.

        Raises:
            RateLimited: it is one too many.
        """
        is_within, reset = await self._hit(limit, who)
        if not is_within:
            raise RateLimited(
                f"Only {limit} are allowed.", after_seconds=max(1.0, reset - time.time()), hint="Slow down."
            )

    async def _hit(self, limit: RateLimitItem, who: tuple[str, ...]) -> tuple[bool, float]:
        if self._shared is not None and time.monotonic() >= self._again_at:
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    return await _counted(self._shared, limit, who)
            except (RedisError, LimitsStorageError, OSError, TimeoutError) as error:
                self._again_at = time.monotonic() + PAUSE_SECONDS
                log.warning("rates_not_shared", error=str(error), seconds=PAUSE_SECONDS)
        return await _counted(self._own, limit, who)


async def _counted(
    limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, who: tuple[str, ...]
) -> tuple[bool, float]:
    if await limiter.hit(limit, *who):
        return True, 0.0
    return False, (await limiter.get_window_stats(limit, *who)).reset_time


@asynccontextmanager
async def open_rates(redis_url: str | None) -> AsyncIterator[Rates]:
    """Yield a counter over Redis, or over this process's memory."""
    if redis_url is None:
        yield Rates()
        return
    pool = ConnectionPool.from_url(redis_url)
    try:
        yield Rates(
            RedisStorage(f"async+{redis_url}", implementation="redispy", connection_pool=pool)  # type: ignore[arg-type]
        )
    finally:
        await pool.aclose()
