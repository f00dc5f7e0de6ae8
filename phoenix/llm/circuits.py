"""Circuit breakers in this process, or in Redis; `storage.circuits` keeps them in PostgreSQL."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, WatchError

from phoenix.domain.circuit import Circuit
from phoenix.errors import StorageError

KEY = "phoenix:circuits"
REDIS_SECONDS = 0.5
"""How long Redis may take to connect and to answer."""
FORGET_SECONDS = 24 * 3600
"""Without a change for so long, Redis forgets all circuits."""


class MemoryCircuits:
    """The port `Circuits` in a dictionary."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: dict[str, Circuit] = {}

    async def read(self) -> tuple[float, dict[str, Circuit]]:
        return self._clock(), dict(self._kept)

    async def change(
        self, name: str, change: Callable[[Circuit, float], Circuit]
    ) -> tuple[float, Circuit, Circuit]:
        now, before = self._clock(), self._kept.get(name, Circuit())
        after = change(before, now)
        self._kept.pop(name, None)
        if after != Circuit():
            self._kept[name] = after
        return now, before, after


class RedisCircuits:
    """The port `Circuits` in one hash of Redis; times are Redis's."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self) -> tuple[float, dict[str, Circuit]]:
        async with _translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(KEY)
            time_of, rows = await pipe.execute()
        return _seconds(time_of), {_text(name): _circuit(row) for name, row in rows.items()}

    async def change(
        self, name: str, change: Callable[[Circuit, float], Circuit]
    ) -> tuple[float, Circuit, Circuit]:
        async with _translated(), self._redis.pipeline() as pipe:
            while True:
                try:
                    return await self._try(pipe, name, change)
                except WatchError:
                    continue

    async def _try(
        self, pipe: Pipeline, name: str, change: Callable[[Circuit, float], Circuit]
    ) -> tuple[float, Circuit, Circuit]:
        await pipe.watch(KEY)
        now = _seconds(await pipe.time())
        row = cast("bytes | None", await pipe.hget(KEY, name))
        before = _circuit(row) if row is not None else Circuit()
        after = change(before, now)
        pipe.multi()  # type: ignore[no-untyped-call]
        if after == Circuit():
            pipe.hdel(KEY, name)
        elif after != before:
            pipe.hset(KEY, name, json.dumps(asdict(after)))
            pipe.expire(KEY, FORGET_SECONDS)
        await pipe.execute()
        return now, before, after


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StorageError(f"Redis cannot be reached: {error}") from error


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[Redis]:
    """Yield a client whose calls end soon where Redis does not answer."""
    client = Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
    try:
        yield client
    finally:
        await client.aclose()


def _seconds(parts: tuple[int, int]) -> float:
    return parts[0] + parts[1] / 1_000_000


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _circuit(row: bytes | str) -> Circuit:
    return Circuit(**json.loads(row))
