"""LangGraph's PostgreSQL saver with the strict serializer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.errors import DatabaseUnavailable

CONNECT_TIMEOUT_SECONDS = 10
SETUP_LOCK = 0x70686F656E6978
"""Key of the advisory lock under which the saver's tables are made: "phoenix" in ASCII."""
SETUP_ATTEMPTS, SETUP_PAUSE_SECONDS = 1200, 0.05

_CONNECTION: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}


@asynccontextmanager
async def open_saver(
    url: str, *, serializer: StrictSerializer | None = None, connections: int = 8
) -> AsyncIterator[AsyncPostgresSaver]:
    """Yield a saver on its own pool; its tables are made first when they are missing.

    Args:
        url: A database, as `postgresql://...`.
        serializer: Give one whose `allow` was called for the models of a user's flow.
        connections: The most that the pool opens.

    Raises:
        DatabaseUnavailable: nobody answers there.
    """
    serializer = serializer or StrictSerializer()
    await setup(url)
    pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
        url, min_size=1, max_size=connections, kwargs=_CONNECTION, open=False, name="checkpoints"
    )
    try:
        await _open(pool)
        yield AsyncPostgresSaver(pool, serde=serializer)
    finally:
        await pool.close()


async def _open(pool: AsyncConnectionPool[AsyncConnection[DictRow]]) -> None:
    try:
        await pool.open(wait=True, timeout=CONNECT_TIMEOUT_SECONDS)
    except PoolTimeout as error:
        raise _unavailable(error) from error


async def setup(url: str) -> None:
    """Make or migrate the saver's tables. Idempotent, and safe from many processes at once.

    Raises:
        DatabaseUnavailable: nobody answers there.
    """
    try:
        connection = await AsyncConnection[DictRow].connect(
            url, connect_timeout=CONNECT_TIMEOUT_SECONDS, **_CONNECTION
        )
    except psycopg.OperationalError as error:
        raise _unavailable(error) from error
    async with connection:
        if not await _is_current(connection):
            await _set_up(connection)


async def _is_current(connection: AsyncConnection[DictRow]) -> bool:
    found = await _one(connection, "SELECT to_regclass('checkpoint_migrations') IS NOT NULL AS found")
    if not found:
        return False
    last = len(AsyncPostgresSaver.MIGRATIONS) - 1
    return await _one(connection, "SELECT coalesce(max(v), -1) >= %s FROM checkpoint_migrations", last)


async def _set_up(connection: AsyncConnection[DictRow]) -> None:
    # Waiting inside `pg_advisory_lock` would deadlock: CREATE INDEX CONCURRENTLY, which the migrations
    # run, waits for every statement that is under way, the waiting ones among them.
    for _ in range(SETUP_ATTEMPTS):
        if await _one(connection, "SELECT pg_try_advisory_lock(%s)", SETUP_LOCK):
            # The lock ends with the connection.
            await AsyncPostgresSaver(connection).setup()
            return
        await asyncio.sleep(SETUP_PAUSE_SECONDS)
    raise DatabaseUnavailable(
        "another process has been making the tables of the checkpoints for too long.",
        hint="Look for a stuck CREATE INDEX in pg_stat_activity, and end it.",
    )


async def _one(connection: AsyncConnection[DictRow], query: str, *values: int) -> bool:
    cursor = await connection.execute(query, values)
    row = await cursor.fetchone()
    return bool(row and next(iter(row.values())))


def _unavailable(error: psycopg.Error) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the database of the checkpoints does not answer: {error}.",
        hint="Check DATABASE_URL, or unset it to use the embedded PostgreSQL.",
    )
